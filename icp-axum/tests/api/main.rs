//! The HTTP API over an engine in memory: every route, good and bad.

mod access;
mod analytics;
mod bulk;
mod deliveries;
mod dry_runs;
mod erasures;
mod event_types;
mod events;
mod harness;
mod letters;
mod live;
mod log;
mod lookups;
mod matrix;
mod operations;
mod ops;
mod refusals;
mod replays;
mod resources;
mod search;
mod signing;
mod system;
mod trial;
mod versions;
