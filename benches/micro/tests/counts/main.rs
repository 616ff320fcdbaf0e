//! What operations cost in counts, which a busy machine does not change: allocations, counted by the
//! allocator, and instructions, counted by valgrind. Of builds for tests, which have more of both than
//! those for use: they are bounds against growth, no figures.
//!
//! `ICP_BLESS=1 cargo test --workspace --test counts` writes the bounds anew; for one package alone
//! others' features are missing, and so may be what they cost.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod allocations;
mod bound;
mod growth;
mod instructions;

/// The operations that have bounds.
const BOUND: [&str; 11] = [
    "publish/1",
    "publish/10",
    "match/1",
    "match/10000",
    "filter/declarative",
    "sign",
    "verify",
    "deliver/memory",
    "api key",
    "egress/address",
    "egress/url",
];
