//! The HTTP API over an engine in memory: every route, good and bad.

mod deliveries;
mod events;
mod harness;
mod operations;
mod ops;
mod refusals;
mod replays;
mod resources;
mod signing;
mod trial;
