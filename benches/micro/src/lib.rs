//! Single operations of icp, each ready to be done again and again: `benches/micro.rs` times them,
//! `tests/counts` counts what they allocate and how many instructions they take.
//!
//! Everything is done by the public interface of `icp`, on one thread, at one moment and with ids
//! that repeat, so that two runs of one build do the same.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a measurement stops where something fails")]

pub mod access;
pub mod egress;
pub mod integration;
pub mod organization;
pub mod queue;
pub mod signing;
pub mod transform;

mod moment;
mod operation;

pub use moment::{NOW, ids};
pub use operation::{Lasts, OPERATIONS, Operation, Round};
