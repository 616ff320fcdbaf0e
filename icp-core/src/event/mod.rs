//! Events: immutable facts that the host publishes.

mod kind;

pub use kind::EventType;
pub(crate) use kind::is_segment;
