//! What the engine costs a database: statements for a delivery and for a request to the API,
//! statements while nothing happens, and what the transactions of a host notice of it. On every store.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the commands to MongoDB are counted at its driver")]
#[path = "../database/mod.rs"]
mod database;
mod host;
mod idle;
mod requests;
mod statements;
mod store;
