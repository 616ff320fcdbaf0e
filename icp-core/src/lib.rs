//! The engine of icp: traits, delivery protocol, in-memory store.
#![forbid(unsafe_code)]

pub mod egress;
pub mod error;
pub mod id;
pub mod time;

pub use error::{Code, Error, ErrorKind, Fault, Result, Violation};
