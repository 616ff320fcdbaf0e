//! The seam between the engine and the systems it delivers to.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::retry::Verdict;
use crate::error::{Error, Result, Violation};

/// Speaks the protocol of one kind of system, named by `kind` in an integration's target.
///
/// Implemented once per protocol and registered with the engine. It holds no state of a single
/// integration: what belongs to one is in the [`Integration`] it binds.
pub trait Connector: Debug + Send + Sync + 'static {
    /// The value of the target's `kind`, as in `http`.
    fn kind(&self) -> &'static str;

    /// Every broken rule of a target document, pointers relative to it. Pure: nothing is
    /// resolved or reached.
    fn validate(&self, target: &Value) -> Vec<Violation>;

    /// Makes the delivery target of one integration. Cheap, and reaches nothing.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) where the target is not usable.
    fn bind(&self, target: &Value) -> Result<Arc<dyn Integration>>;
}

/// A bound delivery target: makes one attempt, and judges its answer.
///
/// It holds no retry, limit or storage logic: the engine decides when an attempt is made, and
/// what a verdict means for the delivery. Calls are concurrent.
#[async_trait]
pub trait Integration: Debug + Send + Sync + 'static {
    /// Makes one attempt.
    ///
    /// # Errors
    ///
    /// Where no answer came: the call was refused before it left, failed on its way, or took too
    /// long. An answer of the other side is never an error, whatever it says.
    ///
    /// # Cancellation
    ///
    /// Dropping the call gives up the attempt; the other side may have taken it all the same.
    async fn send(&self, dispatch: Dispatch) -> Result<Answer, Error>;

    /// What an answer means. Pure.
    fn judge(&self, answer: &Answer) -> Verdict;
}

/// What one attempt sends.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Headers beyond those of the target: identity, authentication, signature.
    pub headers: HeaderMap,
    /// The body, exactly as it was signed.
    pub body: Bytes,
}

/// What the other side answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, in the numbers of HTTP.
    pub status: u16,
    /// The response's headers.
    pub headers: HeaderMap,
    /// The start of the response's body, as far as it is kept.
    pub body: Bytes,
    /// From the start of the call to its end.
    pub took: Duration,
}

/// The connectors of an engine, by kind.
#[derive(Clone, Debug, Default)]
pub struct Connectors(BTreeMap<&'static str, Arc<dyn Connector>>);

impl Connectors {
    /// No connectors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connector; one of the same kind is replaced.
    #[must_use]
    pub fn with(mut self, connector: Arc<dyn Connector>) -> Self {
        self.0.insert(connector.kind(), connector);
        self
    }

    /// The connector that a target names in `kind`, or what is wrong with the name. Pointers are
    /// relative to the target.
    ///
    /// # Errors
    ///
    /// The violation of a missing or unknown `kind`.
    pub fn of(&self, target: &Value) -> Result<&Arc<dyn Connector>, Violation> {
        target.get("kind").and_then(Value::as_str).and_then(|kind| self.0.get(kind)).ok_or_else(
            || {
                let known: Vec<_> = self.0.keys().copied().collect();
                let message = format!("name a registered connector: {}", known.join(", "));
                Violation::new("/kind", "connector_unknown", message)
            },
        )
    }
}
