//! The engine of icp: traits, delivery protocol, in-memory store.
#![forbid(unsafe_code)]

pub mod error;
pub mod id;
pub mod integration;
pub mod secret;
pub mod signing;
pub mod time;

pub use error::{Code, Error, ErrorKind, Fault, Result, Violation};
