//! The HTTP API over an engine in memory: every route, good and bad.

mod audit;
mod bulk;
mod deliveries;
mod dry_runs;
mod erasures;
mod event_types;
mod events;
mod harness;
mod letters;
mod lookups;
mod operations;
mod ops;
mod refusals;
mod replays;
mod resources;
mod search;
mod signing;
mod trial;
mod versions;
