//! What proves a store or a host: the conformance registry, and what its behaviours need.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a behaviour fails by panicking")]

pub mod conformance;
pub mod faults;
pub mod intercept;
pub mod proxy;
pub mod receiver;
