//! What happened: an immutable fact that a host publishes, and its way into the store.

mod json;
mod kind;
pub(crate) mod publish;
mod store;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

pub use kind::EventType;
pub(crate) use kind::{OPERATIONAL, is_segment};
pub use publish::Published;
pub use store::{
    Direct, EventQuery, EventStore, EventSummary, Ingest, IngestItem, Ingested, LaneSeed,
    NewDelivery, OutboxEntry,
};
pub use trace::TraceContext;

use crate::error::{Code, Error, Result, Violation};
use crate::id::{EventId, OrgId, ResourceId};
use crate::resource::Revision;
use crate::time::Timestamp;

/// The content type of an event whose publisher names none.
pub const JSON: &str = "application/json";

/// An event as a host hands it in.
///
/// ```
/// use icp_core::event::NewEvent;
///
/// let event = NewEvent::json("acme", "order.paid", &serde_json::json!({ "order": 17 }))?
///     .idempotency_key("order-17-paid")
///     .ordering_key("order-17");
/// # Ok::<(), icp_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an event is published by handing it to the engine"]
pub struct NewEvent {
    org: String,
    event_type: String,
    unit: Option<String>,
    content_type: String,
    body: Bytes,
    idempotency_key: Option<String>,
    ordering_key: Option<String>,
    due_at: Option<Timestamp>,
    expiry: Option<Expiry>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    subject: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Expiry {
    At(Timestamp),
    After(Duration),
}

impl NewEvent {
    /// An event whose body is `body` as JSON.
    ///
    /// # Errors
    ///
    /// [`Code::EventInvalid`] where `body` has no JSON form.
    pub fn json(
        org: impl Into<String>,
        event_type: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Error::new(Code::EventInvalid, "the body has no json form").caused_by(error)
        })?;
        Ok(Self::raw(org, event_type, JSON, body))
    }

    /// An event whose body is sent as it is, with `content_type`.
    ///
    /// A body of `application/json` must be one JSON value, but needs not be an object. It must be
    /// readable to conditions and mappings: no half of a surrogate pair, no number beyond a
    /// double, at most 127 levels.
    pub fn raw(
        org: impl Into<String>,
        event_type: impl Into<String>,
        content_type: impl Into<String>,
        body: impl Into<Bytes>,
    ) -> Self {
        Self {
            org: org.into(),
            event_type: event_type.into(),
            unit: None,
            content_type: content_type.into(),
            body: body.into(),
            idempotency_key: None,
            ordering_key: None,
            due_at: None,
            expiry: None,
            traceparent: None,
            tracestate: None,
            subject: None,
        }
    }

    /// Says that the event happened in a unit of the organization.
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// Makes publishing repeatable: within the engine's window the same key and body give the
    /// first event's id, the same key with another body is refused. 1 to 256 printable ASCII
    /// characters, unique per organization; keys that begin with `icp-source:` are refused, as they
    /// are those of [event sources](crate::source).
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Names the sequence the event belongs to. Integrations that ask for order deliver the
    /// events of one key one after the other. 1 to 256 printable ASCII characters.
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Delivers not before `due_at`, which may be at most one year ahead.
    pub fn due_at(mut self, due_at: Timestamp) -> Self {
        self.due_at = Some(due_at);
        self
    }

    /// Ends deliveries that are not done at `expires_at` as `expired`.
    pub fn expires_at(mut self, expires_at: Timestamp) -> Self {
        self.expiry = Some(Expiry::At(expires_at));
        self
    }

    /// Ends deliveries that are not done `ttl` after the event was received as `expired`.
    pub fn expires_after(mut self, ttl: Duration) -> Self {
        self.expiry = Some(Expiry::After(ttl));
        self
    }

    /// Carries the caller's W3C trace context; it reaches every attempt.
    pub fn trace(mut self, traceparent: impl Into<String>, tracestate: Option<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self.tracestate = tracestate;
        self
    }

    /// Names whom the event is about, so that all events of that subject can be erased together:
    /// a customer's id, say. 1 to 256 printable ASCII characters; never sent to receivers.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The organization as it was handed in, not yet validated.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.org
    }

    /// The unit that it names, not yet validated.
    #[must_use]
    pub fn unit_named(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// Parses every field, or lists everything that is wrong with it.
    ///
    /// # Errors
    ///
    /// [`Code::BodyTooLarge`], [`Code::IdInvalid`] for the organization,
    /// [`Code::EventTypeInvalid`], and [`Code::EventInvalid`] with the list of the rest.
    pub fn accept(
        self,
        id: EventId,
        received_at: Timestamp,
        config_revision: Revision,
        limits: &EventLimits,
    ) -> Result<Event> {
        let org = OrgId::new(&self.org)?;
        let event_type: EventType = self.event_type.parse()?;
        if self.body.len() > limits.max_body {
            return Err(Error::new(
                Code::BodyTooLarge,
                format!(
                    "the body has {} bytes, at most {} are taken",
                    self.body.len(),
                    limits.max_body
                ),
            ));
        }
        let mut faults = Faults::default();
        let expires_at = self.expiry.map(|expiry| match expiry {
            Expiry::At(at) => at,
            Expiry::After(ttl) => received_at + ttl,
        });
        let due_at = self.due_at.filter(|due| *due > received_at);
        faults.schedule(due_at, expires_at, received_at, limits);
        faults.key("/idempotency_key", self.idempotency_key.as_deref());
        faults.key("/ordering_key", self.ordering_key.as_deref());
        faults.key("/subject", self.subject.as_deref());
        let unit = faults.unit(self.unit.as_deref());
        faults.content(&self.content_type, &self.body);
        let trace = faults.trace(self.traceparent.as_deref(), self.tracestate.as_deref());
        faults.into_result()?;
        Ok(Event {
            id,
            org,
            unit,
            event_type,
            content_type: self.content_type.into(),
            body: self.body,
            idempotency_key: self.idempotency_key.map(Into::into),
            ordering_key: self.ordering_key.map(Into::into),
            received_at,
            due_at,
            expires_at,
            trace,
            config_revision,
            subject: self.subject.map(Into::into),
            erased_at: None,
        })
    }
}

/// Bounds of what [`NewEvent::accept`] takes.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct EventLimits {
    /// The largest body, in bytes. Default 1 MiB.
    pub max_body: usize,
    /// How far ahead an event may be due. Default 366 days.
    pub max_delay: Duration,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { max_body: 1 << 20, max_delay: Duration::from_secs(366 * 86_400) }
    }
}

/// An accepted event.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The id; receivers see it as `webhook-id`.
    pub id: EventId,
    /// The organization it belongs to.
    pub org: OrgId,
    /// The unit it happened in.
    pub unit: Option<ResourceId>,
    /// What happened, as in `order.paid`.
    pub event_type: EventType,
    /// The media type of the body.
    pub content_type: Arc<str>,
    /// The body, byte for byte as it was published.
    pub body: Bytes,
    /// The publisher's key against doubles.
    pub idempotency_key: Option<Arc<str>>,
    /// The sequence the event belongs to.
    pub ordering_key: Option<Arc<str>>,
    /// When the engine took it.
    pub received_at: Timestamp,
    /// When its deliveries may start, where that is later than `received_at`.
    pub due_at: Option<Timestamp>,
    /// When its deliveries end as `expired`.
    pub expires_at: Option<Timestamp>,
    /// The publisher's trace.
    pub trace: Option<TraceContext>,
    /// The revision of the configuration it was matched against.
    pub config_revision: Revision,
    /// Whom it is about, for erasing.
    pub subject: Option<Arc<str>>,
    /// When its body was erased; it is not delivered any more.
    pub erased_at: Option<Timestamp>,
}

impl Event {
    /// An event from its stored parts, for stores.
    #[expect(clippy::too_many_arguments, reason = "one argument for each stored column")]
    #[must_use]
    pub fn restore(
        id: EventId,
        org: OrgId,
        unit: Option<ResourceId>,
        event_type: EventType,
        content_type: Arc<str>,
        body: Bytes,
        idempotency_key: Option<Arc<str>>,
        ordering_key: Option<Arc<str>>,
        received_at: Timestamp,
        due_at: Option<Timestamp>,
        expires_at: Option<Timestamp>,
        trace: Option<TraceContext>,
        config_revision: Revision,
    ) -> Self {
        Self {
            id,
            org,
            unit,
            event_type,
            content_type,
            body,
            idempotency_key,
            ordering_key,
            received_at,
            due_at,
            expires_at,
            trace,
            config_revision,
            subject: None,
            erased_at: None,
        }
    }

    /// Whether the body is JSON by its content type (`application/json` or `+json`).
    #[must_use]
    pub fn is_json(&self) -> bool {
        is_json(&self.content_type)
    }
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case(JSON) || media.to_ascii_lowercase().ends_with("+json")
}

#[derive(Default)]
struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, pointer: &str, code: &str, message: impl Into<String>) {
        self.0.push(Violation::new(pointer, code, message));
    }

    fn schedule(
        &mut self,
        due_at: Option<Timestamp>,
        expires_at: Option<Timestamp>,
        received_at: Timestamp,
        limits: &EventLimits,
    ) {
        if due_at.is_some_and(|due| due > received_at + limits.max_delay) {
            let days = limits.max_delay.as_secs() / 86_400;
            self.add("/due_at", "too_far", format!("may be at most {days} days ahead"));
        }
        if expires_at.is_some_and(|expires| expires <= received_at) {
            self.add("/expires_at", "past", "lies in the past");
        } else if let (Some(due), Some(expires)) = (due_at, expires_at)
            && expires <= due
        {
            self.add("/expires_at", "before_due", "lies before `due_at`");
        }
    }

    fn key(&mut self, pointer: &str, key: Option<&str>) {
        let fine = key.is_none_or(|key| {
            (1..=256).contains(&key.len()) && key.bytes().all(|b| (0x20..0x7f).contains(&b))
        });
        if !fine {
            self.add(pointer, "malformed", "use 1 to 256 printable ascii characters");
        }
    }

    fn unit(&mut self, unit: Option<&str>) -> Option<ResourceId> {
        match ResourceId::new(unit?) {
            Ok(unit) => Some(unit),
            Err(error) => {
                self.add("/unit", "malformed", error.message());
                None
            }
        }
    }

    fn content(&mut self, content_type: &str, body: &Bytes) {
        let legal = (1..=256).contains(&content_type.len())
            && content_type.contains('/')
            && http::HeaderValue::from_str(content_type).is_ok();
        if !legal {
            self.add("/content_type", "malformed", "is not a media type such as application/json");
        } else if is_json(content_type)
            && let Err(error) = json::check(body)
        {
            let message = format!("is not json that conditions and mappings can read: {error}");
            self.add("/body", "not_json", message);
        }
    }

    fn trace(&mut self, parent: Option<&str>, state: Option<&str>) -> Option<TraceContext> {
        match TraceContext::new(parent?, state) {
            Ok(trace) => Some(trace),
            Err(message) => {
                self.add("/traceparent", "malformed", message);
                None
            }
        }
    }

    fn into_result(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::violations(Code::EventInvalid, self.0)) }
    }
}

#[cfg(test)]
mod tests;
