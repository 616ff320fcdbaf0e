use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Event, EventType};
use crate::delivery::health::LaneRules;
use crate::delivery::{LaneId, LaneMode};
use crate::error::Result;
use crate::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use crate::store::{Page, PageQuery};
use crate::time::Timestamp;

/// Keeps events, and takes them in together with their deliveries.
#[async_trait]
pub trait EventStore: Debug + Send + Sync + 'static {
    /// Writes events with all their deliveries and lanes in one transaction.
    ///
    /// Per item, in the order given:
    /// - An item with `outbox` set whose outbox row is gone is [`Ingested::Gone`]; nothing is
    ///   written, because another node relayed it.
    /// - An idempotency key that is live in the organization makes the item
    ///   [`Ingested::Duplicate`] where the body hash is equal, else [`Ingested::Conflict`];
    ///   this holds within the batch too. A key whose time is over is replaced. For a duplicate
    ///   the outbox row is deleted; for a conflict it stays.
    /// - An event id that exists already is [`Ingested::Duplicate`]: the call is idempotent.
    /// - Else the event and its deliveries are written, its outbox row is deleted, and every
    ///   lane that is touched exists afterwards with `runnable` or `next_due` telling of the
    ///   new deliveries. A lane that wakes starts at the larger of its own pass and the lowest
    ///   pass of all runnable lanes.
    ///
    /// With `direct` set, a delivery that is due is inserted already leased to
    /// `direct.session` (epoch 1, tries 1) as long as `direct.budget` lasts, its lane is
    /// [`LaneMode::Parallel`], has room, is not paused or blocked and has nothing else
    /// waiting (it is not runnable); the lane's pass is charged as a claim would. A session that
    /// is not known is handed nothing.
    ///
    /// # Errors
    ///
    /// Nothing was written, unless the error is transient: then the outcome is unknown, and the
    /// same call may be made again with the same ids.
    async fn ingest(&self, batch: Ingest) -> Result<Vec<Ingested>>;

    /// One event of an organization.
    async fn event(&self, org: &OrgId, id: EventId) -> Result<Option<Event>>;

    /// Events of an organization without their bodies, newest first.
    async fn events(&self, org: &OrgId, query: &EventQuery) -> Result<Page<EventSummary>>;

    /// The oldest rows that host transactions have put into the outbox, at most `limit`; those of
    /// the organizations `without` are passed over.
    ///
    /// Rows are found by being there, never by an id after a cursor, so a transaction that
    /// commits late is not passed over.
    async fn outbox(&self, without: &[OrgId], limit: usize) -> Result<Vec<OutboxEntry>>;
}

/// A batch of events to take in.
#[derive(Clone, Debug)]
pub struct Ingest {
    /// The events, each with its deliveries.
    pub items: Arc<[IngestItem]>,
    /// Whether and how far deliveries may be handed to the publishing node at once.
    pub direct: Option<Direct>,
    /// The engine's time.
    pub now: Timestamp,
}

/// One event and what follows from it.
#[derive(Clone, Debug)]
pub struct IngestItem {
    /// The event.
    pub event: Arc<Event>,
    /// SHA-256 of the content type and body, kept with the idempotency key.
    pub body_hash: [u8; 32],
    /// How long the idempotency key is kept.
    pub idempotency_window: Duration,
    /// Its deliveries, one for each matching integration.
    pub deliveries: Vec<NewDelivery>,
    /// The outbox row it came from.
    pub outbox: Option<EventId>,
}

/// A delivery to be made.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// The id.
    pub id: DeliveryId,
    /// The integration it is bound to.
    pub integration: ResourceId,
    /// The lane it goes to.
    pub lane: LaneSeed,
    /// When it may start.
    pub due_at: Timestamp,
    /// Whether it may be handed to the publishing node at once; otherwise it waits for a claim.
    pub at_once: bool,
}

/// What a lane is made from when its first delivery arrives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneSeed {
    /// The id, which follows from organization, integration and order key.
    pub id: LaneId,
    /// The order key of a [`LaneMode::Fifo`] lane.
    pub order_key: Option<Arc<str>>,
    /// Order and concurrency.
    pub mode: LaneMode,
    /// How many deliveries may be leased at once; one for a fifo lane.
    pub max_in_flight: u32,
    /// The organization's share, 1 to 100.
    pub weight: u32,
    /// How the lane treats its receiver.
    pub rules: LaneRules,
}

/// Permission to lease deliveries to the publishing node while they are written.
#[derive(Clone, Copy, Debug)]
pub struct Direct {
    /// The node's session.
    pub session: SessionId,
    /// How many deliveries the node can take at once.
    pub budget: usize,
    /// When the leases end.
    pub lease_until: Timestamp,
}

/// What became of one event of a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ingested {
    /// It was written; these of its deliveries are leased to the caller with epoch 1.
    Accepted {
        /// Deliveries handed over directly.
        leased: Vec<DeliveryId>,
    },
    /// The same event was taken in before, under this id.
    Duplicate {
        /// The first event's id.
        of: EventId,
    },
    /// The idempotency key belongs to another body.
    Conflict {
        /// The event that holds the key.
        with: EventId,
    },
    /// Its outbox row is gone: another node relayed it.
    Gone,
}

/// A row of the outbox.
#[derive(Clone, Debug)]
pub struct OutboxEntry {
    /// The event as it was accepted in the host's transaction.
    pub event: Event,
}

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Only this type.
    pub event_type: Option<EventType>,
    /// Only events that were published with this idempotency key: one, or several where its time
    /// was over between them.
    pub idempotency_key: Option<String>,
    /// Only events received at or after this moment.
    pub since: Option<Timestamp>,
    /// Only events received before this moment.
    pub until: Option<Timestamp>,
    /// Where the page starts and how long it is.
    pub page: PageQuery<EventId>,
}

/// An event as lists show it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct EventSummary {
    /// The id.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// The unit it happened in.
    pub unit: Option<ResourceId>,
    /// The media type of the body.
    pub content_type: Arc<str>,
    /// The size of the body in bytes.
    pub body_size: u64,
    /// When the engine took it.
    pub received_at: Timestamp,
    /// How many deliveries it was fanned out to.
    pub fan_out: u32,
}

impl EventSummary {
    /// A summary from its stored parts, for stores.
    #[must_use]
    pub fn restore(
        id: EventId,
        event_type: EventType,
        unit: Option<ResourceId>,
        content_type: Arc<str>,
        body_size: u64,
        received_at: Timestamp,
        fan_out: u32,
    ) -> Self {
        Self { id, event_type, unit, content_type, body_size, received_at, fan_out }
    }
}
