//! The seam between the engine and the protocols deliveries go out by.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::delivery::{AttemptTimings, Exchange};
use crate::egress::AddressPolicy;
use crate::error::{Code, Error, Result, Violation};
use crate::event::{Event, TraceContext};
use crate::id::DeliveryId;
use crate::integration::auth::Auth;
use crate::signing::Signer;
use crate::time::Timestamp;

/// A protocol that deliveries go out by: turns the `target` of an integration into an
/// [`Integration`] that can be sent to.
///
/// Implementors hold what all integrations of the protocol share (a client, a pool) and no
/// state of single integrations.
pub trait Connector: Debug + Send + Sync + 'static {
    /// The name in `target.kind`, as in `http`.
    fn kind(&self) -> &'static str;

    /// Checks a target document of an organization that may send where `policy` says; lists
    /// everything that is wrong, with pointers that begin at `at`. Does no I/O: a name is not
    /// resolved here.
    fn validate(
        &self,
        target: &serde_json::Value,
        at: &str,
        policy: &AddressPolicy,
    ) -> Vec<Violation>;

    /// The JSON Schema of the target document: checked before [`validate`](Connector::validate) is
    /// asked, and shown on reference pages.
    fn schema(&self) -> serde_json::Value;

    /// Binds a valid target for use.
    ///
    /// # Errors
    ///
    /// Where the target is not valid after all.
    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>>;
}

/// The connectors an engine knows, by kind.
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

    /// The connector of this kind.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] with the known kinds.
    pub fn get(&self, kind: &str) -> Result<Arc<dyn Connector>> {
        self.0.get(kind).cloned().ok_or_else(|| {
            let known: Vec<_> = self.0.keys().copied().collect();
            let message = format!("name a registered connector: {}", known.join(", "));
            Error::new(Code::ResourceInvalid, message)
        })
    }
}

/// What a connector binds.
#[derive(Debug)]
pub struct Binding<'a> {
    /// The target document of the integration's spec.
    pub target: &'a serde_json::Value,
    /// How the requests authenticate, with opened secrets.
    pub auth: Auth,
    /// What signs the requests.
    pub signer: Option<Arc<dyn Signer>>,
    /// Where the organization may send to.
    pub policy: Arc<AddressPolicy>,
}

/// A bound delivery target.
///
/// It builds the request and sends it, or does what its protocol has in place of that, and
/// judges the answer. It holds no retry, limit or storage logic, and does not try again on its
/// own after anything was sent.
#[async_trait]
pub trait Integration: Debug + Send + Sync + 'static {
    /// Sends one attempt and says how it went. It ends within its own timeouts, and the engine
    /// drops it at the attempt's hard deadline.
    async fn send(&self, outgoing: Outgoing<'_>) -> Sent;

    /// The request that [`send`](Self::send) makes of this, for people: its secrets are masked.
    /// Sends nothing.
    ///
    /// # Errors
    ///
    /// Where the request cannot be made; `send` sends nothing then.
    fn preview(&self, outgoing: &Outgoing<'_>) -> Result<Preview>;
}

/// A request as people see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Preview {
    /// The method.
    pub method: String,
    /// The address; values of its query are masked, user info is left out.
    pub url: String,
    /// The header fields, without those that belong to the connection; secret values are masked.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// The event, for its id, type and content type.
    pub event: &'a Event,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The epoch of the lease; receivers can tell a repeated send by it.
    pub epoch: u32,
    /// The number of the try, from 1.
    pub number: u32,
    /// Which automatic round of a dead letter it is; 0 where it is none.
    pub round: u32,
    /// The body after transformation.
    pub body: Bytes,
    /// Now, for the signature.
    pub now: Timestamp,
    /// The trace context of this attempt.
    pub trace: TraceContext,
    /// Whether it is a test; receivers are told.
    pub test: bool,
}

/// How an attempt went.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The judgement.
    pub judgement: Judgement,
    /// The protocol's status, where an answer came.
    pub status: Option<u16>,
    /// How long its parts took.
    pub timings: AttemptTimings,
    /// What was sent and what came back.
    pub exchange: Option<Arc<Exchange>>,
}

/// What the answer means, before any policy of tries.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Judgement {
    /// The receiver took it.
    Delivered,
    /// It did not; the integration's retry policy decides what follows.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Stable name, lower case with underscores, as in `status_500`, `timeout`, `dns`.
    pub class: String,
    /// For people; without secrets.
    pub message: String,
    /// What the receiver or the protocol says about trying again.
    pub hint: Hint,
}

/// What a failure says about trying again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Hint {
    /// Nothing was wrong with the request: try again.
    Retry,
    /// The receiver asks to wait, all of the lane, for this long where it said so.
    Wait(Option<Duration>),
    /// The request was refused; trying again is unlikely to help.
    Refused,
    /// It can never work as configured: nothing was sent.
    Impossible,
    /// The receiver wants no more of these.
    Gone,
}
