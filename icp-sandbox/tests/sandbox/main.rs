//! The sandbox from outside: real workers, real programs.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fake;
mod filters;
mod fixture;
mod host;
mod hostile;
mod isolation;
mod languages;
mod lies;
mod limits;
mod renewal;
mod workers;
