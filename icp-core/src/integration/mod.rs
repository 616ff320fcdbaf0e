//! Integrations: which events go where, and how.

pub mod auth;
pub mod connector;
pub mod filter;
pub mod http;
pub mod matching;
pub mod order;
pub mod pattern;
pub mod retry;
pub mod spec;

pub use connector::{
    Binding, Connector, Connectors, Failure, Hint, Integration, Judgement, Outgoing, Preview, Sent,
};
pub use matching::{Bound, MatchIndex, MatchReason};
pub use order::OnFailure;
pub use spec::{CompiledIntegration, IntegrationSpec};
