//! The engine of icp: traits, delivery protocol, in-memory store.
#![forbid(unsafe_code)]

pub mod access;
pub mod analytics;
pub mod delivery;
pub mod document;
pub mod egress;
pub mod engine;
pub mod erasure;
pub mod error;
pub mod event;
pub mod event_type;
pub mod id;
pub mod integration;
pub mod issuer;
pub mod letter;
pub mod live;
pub mod lookup;
pub mod notice;
pub mod replay;
pub mod resource;
pub mod retention;
pub mod secret;
pub mod signing;
pub mod slot;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod transform;
pub mod trial;

pub use engine::{Engine, EngineBuilder, EngineConfig, Running};
pub use error::{Code, Error, ErrorKind, Fault, Result, Violation};
