.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-boundary bench-micro bench-servers features fuzz miri setup tsan services payloads advisories bless

PAYLOADS := target/payloads
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

run: ## start the server on ./icp.db (development build; RELEASE=1 for an optimized one)
	cargo run $(if $(RELEASE),--release) -p icp-server -- $(ARGS)

test: ## check everything, from a fresh machine; ends with the totals
	scripts/setup
	scripts/fetch-payloads $(PAYLOADS)
	scripts/test $(PAYLOADS)

check: ## the quick loop: format, lints, unit and SQLite tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test -p icp-core -p icp-store-sql --lib --tests

bench: ## measure deliveries beside the bare client; ARGS="..." goes to the harness
	cargo run --release -p icp-harness -- $(ARGS)

bench-servers: ## measure the server on PostgreSQL over HTTP; ARGS="..." goes to the harness
	scripts/bench-servers $(ARGS)

bench-boundary: ## measure the C ABI and the packages beside Rust; ARGS="..." goes to the harness
	scripts/bench-boundary $(ARGS)

bench-micro: ## measure single operations; ARGS="sign" for those with it in their name
	cargo bench -p icp-micro -- $(ARGS)

features: ## lint each set of features by itself
	for set in sqlite postgres mysql mongodb http axum sandbox; do \
		cargo clippy --locked -p icp --lib --no-default-features --features $$set -- -D warnings || exit; \
	done

fuzz: ## run the fuzz targets; ARGS="300 mapping::mappings" for 300 seconds of one
	scripts/fuzz $(ARGS)

miri: ## run what can be run of the C ABI under Miri; needs a nightly toolchain
	scripts/miri

tsan: ## run the tests of the C ABI under ThreadSanitizer; needs a nightly toolchain
	scripts/tsan

setup: ## install what the tests need
	scripts/setup

services: ## start the database servers of the tests; ARGS="down" stops them, "status" looks
	scripts/services $(or $(ARGS),up)

payloads: ## fetch the real webhook payloads
	scripts/fetch-payloads $(PAYLOADS)

advisories: ## look the dependencies up in the advisory database (needs the network)
	cargo deny --locked check advisories

bless: ## write the generated pages of docs/reference anew
	ICP_BLESS=1 cargo test -p icp --test reference
