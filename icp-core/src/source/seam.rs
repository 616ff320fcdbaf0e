//! The seam between the engine and what events are pulled from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Violation;
use crate::event::NewEvent;
use crate::id::{OrgId, ResourceId};
use crate::resource::Handlers;
use crate::secret::SecretString;

/// How long one poll may take, however long it would take by itself: 60 seconds.
///
/// A source that can wait for news may do so for a part of it.
pub const SOURCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where events are pulled from: a table, a topic, a queue, a feed of the host's.
///
/// It is registered under a name, which resources of the kind `event_source` give as their `type`.
/// For each of these, one node of all that share the store polls; what it is answered is published,
/// then the new checkpoint is kept, then the source is told. So what a poll answers is taken in at
/// least once, and an event that is answered again, after a crash say, is published once: its id is
/// part of its idempotency key, which is kept for the engine's window.
///
/// ```
/// use async_trait::async_trait;
/// use icp_core::Engine;
/// use icp_core::event::NewEvent;
/// use icp_core::source::{EventSource, PollRequest, Polled, SourceError, SourceEvent};
/// use icp_core::store::MemoryStore;
/// use serde_json::json;
///
/// /// The rows of a table, in the order of their numbers.
/// #[derive(Debug)]
/// struct Orders(Vec<u64>);
///
/// #[async_trait]
/// impl EventSource for Orders {
///     async fn poll(&self, request: &PollRequest<'_>) -> Result<Polled, SourceError> {
///         let after = request.after.and_then(|last| last.as_u64()).unwrap_or(0);
///         let rows: Vec<_> = self.0.iter().filter(|row| **row > after).take(request.limit).collect();
///         let Some(last) = rows.last() else { return Ok(Polled::nothing()) };
///         let event = |row: &u64| {
///             let event = NewEvent::json(request.org.as_str(), "order.paid", &json!({ "order": row }));
///             let refused = |_| SourceError::new("row", "a row has no json form");
///             Ok(SourceEvent::new(row.to_string(), event.map_err(refused)?))
///         };
///         let events = rows.iter().map(|row| event(row)).collect::<Result<_, _>>()?;
///         Ok(Polled::new(events, json!(last)))
///     }
/// }
///
/// let engine =
///     Engine::builder(MemoryStore::new()).event_source("orders", Orders(vec![17, 18])).build()?;
/// # Ok::<_, icp_core::Error>(())
/// ```
///
/// # Cancellation
///
/// A poll that is dropped is as one that was never answered.
#[async_trait]
pub trait EventSource: fmt::Debug + Send + Sync + 'static {
    /// What follows the checkpoint of `request`, in the order it is to be published in.
    ///
    /// # Errors
    ///
    /// [`SourceError`], which everybody sees who may look at the source: it is polled again from the
    /// same checkpoint, after 1 s at first and up to 60 s later on.
    async fn poll(&self, request: &PollRequest<'_>) -> Result<Polled, SourceError>;

    /// Takes notice that everything up to the checkpoint `request.after` is dealt with, published or
    /// refused for good: a broker may forget it now. It has [`SOURCE_TIMEOUT`] as
    /// well. By default nothing.
    ///
    /// It is not called again after an error or a crash; the next poll from a later checkpoint says
    /// the same.
    ///
    /// # Errors
    ///
    /// [`SourceError`], which is logged and counted.
    async fn acknowledge(&self, request: &PollRequest<'_>) -> Result<(), SourceError> {
        let _ = request;
        Ok(())
    }

    /// What is wrong with the `config` of a source that is to be saved, with pointers relative to
    /// it. Does no I/O. By default nothing.
    fn validate(&self, config: Option<&Value>) -> Vec<Violation> {
        let _ = config;
        Vec::new()
    }

    /// Whether this process can poll sources of the type `name` now. Where it cannot, it leaves
    /// them to other nodes. By default it always can.
    fn is_ready(&self, name: &str) -> bool {
        let _ = name;
        true
    }
}

/// What is polled.
#[derive(Clone, Copy, Debug)]
pub struct PollRequest<'a> {
    /// The organization that the events are for. Whoever configures its sources says `config`, so an
    /// implementor gives nothing of another organization, whatever that says.
    pub org: &'a OrgId,
    /// The id of the source.
    pub source: &'a ResourceId,
    /// Its `type`: the name that the [`EventSource`] is registered under.
    pub name: &'a str,
    /// Its `config`.
    pub config: Option<&'a Value>,
    /// Its secrets, opened.
    pub secrets: &'a BTreeMap<String, SecretString>,
    /// The last checkpoint that was kept: everything up to it is dealt with. `None` where there
    /// is none yet, and the source begins where it likes.
    pub after: Option<&'a Value>,
    /// The most events that are taken at once: 1 to 1,000. An answer with more is refused whole.
    pub limit: usize,
}

/// What a poll answers.
#[derive(Clone, Debug, Default)]
pub struct Polled {
    /// The events, up to the `limit` of the request. One that can never be published, as for its
    /// type or for a body beyond the engine's limit, is passed over and named in the audit log.
    pub events: Vec<SourceEvent>,
    /// From where the next poll goes on; JSON of up to 64 KiB other than `null`, with integers of up
    /// to 64 bits, which only the source reads. Where there are events there must be one; without events it may skip what is of no interest.
    pub checkpoint: Option<Value>,
    /// Whether more is there already, so that the next poll follows at once.
    pub more: bool,
}

impl Polled {
    /// Nothing new.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These events, after which the source goes on from `checkpoint`.
    #[must_use]
    pub fn new(events: Vec<SourceEvent>, checkpoint: Value) -> Self {
        Self { events, checkpoint: Some(checkpoint), more: false }
    }

    /// Says that more is there already.
    #[must_use]
    pub fn and_more(self) -> Self {
        Self { more: true, ..self }
    }
}

/// An event as a source knows it.
#[derive(Clone, Debug)]
pub struct SourceEvent {
    /// What names it within the source, the same each time it is polled: 1 to 128 printable ASCII
    /// characters, as of a row's key or an offset.
    pub id: String,
    /// What is published, for the organization of the request. Its idempotency key is set by the
    /// engine; where it names no unit, it belongs to that of the source.
    pub event: NewEvent,
}

impl SourceEvent {
    /// The event that the source knows as `id`.
    pub fn new(id: impl Into<String>, event: NewEvent) -> Self {
        Self { id: id.into(), event }
    }
}

/// Why a source could not be polled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceError {
    /// Stable name of the failure, lower case with underscores.
    pub code: &'static str,
    /// What is wrong, for people; without secrets.
    pub message: String,
}

impl SourceError {
    /// A failure. A later poll may go well.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {}

/// The event sources of an engine, by name.
pub type EventSources = Handlers<dyn EventSource>;
