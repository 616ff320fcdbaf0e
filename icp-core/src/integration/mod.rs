//! Integrations: which events go where, and how.

pub mod auth;
pub mod connector;
pub mod http;
pub mod pattern;
pub mod retry;

pub use connector::{Binding, Connector, Connectors, Failure, Hint, Integration, Judgement, Outgoing, Sent};
