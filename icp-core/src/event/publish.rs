//! The way in: match, then one transaction for all who publish at the same time.

use std::sync::{Arc, Weak};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use super::{Direct, Event, Ingest, IngestItem, Ingested, LaneSeed, NewDelivery, NewEvent};
use crate::delivery::dispatch::{self, Work};
use crate::delivery::settle::Outcome;
use crate::delivery::{Delivery, DeliveryState, LaneId, LaneMode, Lease, Next, Settlement};
use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Error, ErrorKind, Result, Violation};
use crate::event_type;
use crate::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use crate::integration::CompiledIntegration;
use crate::time::Timestamp;

/// What became of a published event.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Published {
    /// The event's id; for a duplicate the id of the first.
    pub id: EventId,
    /// Whether the idempotency key was used before with the same body, so that nothing was
    /// published now.
    pub duplicate: bool,
    /// How many integrations it goes to; zero for a duplicate.
    pub deliveries: usize,
}

/// An event on its way into the store.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) item: IngestItem,
}

/// The store's answer for one event.
pub(crate) type Accepted = Ingested;

/// Publishes events; one answer for each, in order.
pub(crate) async fn publish(core: &Core, events: Vec<NewEvent>) -> Vec<Result<Published>> {
    let mut answers: Vec<Option<Result<Published>>> = Vec::with_capacity(events.len());
    let mut incoming = Vec::with_capacity(events.len());
    let mut places = Vec::with_capacity(events.len());
    for (place, event) in events.into_iter().enumerate() {
        match prepare(core, event).await {
            Ok(item) => {
                places.push((place, item.event.id, item.deliveries.len()));
                incoming.push(Incoming { item });
                answers.push(None);
            }
            Err(error) => answers.push(Some(Err(error.during("publish")))),
        }
    }
    match core.publisher.submit(incoming).await {
        Ok(ingested) => {
            for ((place, id, deliveries), ingested) in places.into_iter().zip(ingested) {
                answers[place] = Some(ingested.and_then(|i| published(id, deliveries, &i)));
            }
        }
        Err(error) => {
            for (place, ..) in places {
                answers[place] = Some(Err(error.clone()));
            }
        }
    }
    let lost = || Err(Error::new(Code::Internal, "an event got no answer"));
    answers.into_iter().map(|a| a.unwrap_or_else(lost).map_err(|e| e.during("publish"))).collect()
}

/// What is told of an event with this id and these deliveries.
fn published(id: EventId, deliveries: usize, ingested: &Ingested) -> Result<Published> {
    match ingested {
        Ingested::Accepted { .. } => Ok(Published { id, duplicate: false, deliveries }),
        // The answer of an earlier try of the same commit.
        Ingested::Duplicate { of } if *of == id => {
            Ok(Published { id, duplicate: false, deliveries })
        }
        Ingested::Duplicate { of } => Ok(Published { id: *of, duplicate: true, deliveries: 0 }),
        Ingested::Conflict { with } => Err(Error::new(
            Code::IdempotencyConflict,
            format!("the idempotency key belongs to {with}, which has another body; use a new key"),
        )),
        Ingested::Gone => Err(Error::new(Code::Internal, "the event was not in the outbox")),
    }
}

/// Begins the idempotency keys of events that sources gave, which nobody else can use.
const OF_SOURCE: &str = "icp-source:";

/// Validates a host's event against the engine's limits and its organization.
pub(crate) async fn accept(core: &Core, event: NewEvent) -> Result<(Event, Arc<OrgView>)> {
    if event.idempotency_key.as_ref().is_some_and(|key| key.starts_with(OF_SOURCE)) {
        let message = format!("keys that begin with `{OF_SOURCE}` are the engine's own");
        let violation = Violation::new("/idempotency_key", "reserved", message);
        return Err(Error::violations(Code::EventInvalid, vec![violation]));
    }
    accept_any(core, event).await
}

async fn accept_any(core: &Core, event: NewEvent) -> Result<(Event, Arc<OrgView>)> {
    let accepted = accept_own(core, event).await?;
    if accepted.0.event_type.is_operational() {
        let message = "event types that begin with `icp.` are the engine's own; use another name";
        return Err(Error::new(Code::EventTypeReserved, message));
    }
    let (event, view) = &accepted;
    let differs = event_type::check(&view.entry, event)?;
    if let Some(first) = differs.first() {
        core.metrics.schema_mismatches.inc();
        tracing::warn!(
            icp.org = %event.org,
            icp.event.type = %event.event_type,
            differences = differs.len(),
            pointer = first.pointer,
            rule = first.code,
            "an event does not fit the schema of its type"
        );
    }
    Ok(accepted)
}

/// As [`accept`], for operational events too.
pub(crate) async fn accept_own(core: &Core, event: NewEvent) -> Result<(Event, Arc<OrgView>)> {
    let view = core.org(&OrgId::new(event.org())?).await?;
    if !view.organization.active {
        let message = "the organization is suspended; activate it before publishing";
        return Err(Error::new(Code::OrganizationSuspended, message));
    }
    let id = EventId::generate(core.ids.as_ref());
    let revision = view.entry.revision();
    let event = event.accept(id, core.clock.now(), revision, &core.config.events)?;
    if let Some(unit) = &event.unit
        && !view.matching.has_unit(unit)
    {
        let message = format!("the organization has no unit `{unit}`");
        return Err(Error::violations(
            Code::UnitUnknown,
            vec![Violation::new("/unit", Code::UnitUnknown.as_str(), message)],
        ));
    }
    Ok((event, view))
}

/// Publishes one operational event.
pub(crate) async fn submit(core: &Core, event: NewEvent) -> Result<Published> {
    let (event, view) = accept_own(core, event).await?;
    let item = item(core, &view, event, None);
    let (id, deliveries) = (item.event.id, item.deliveries.len());
    let mut answers = core.publisher.submit(vec![Incoming { item }]).await?;
    let lost = || Err(Error::new(Code::Internal, "an event got no answer"));
    published(id, deliveries, &answers.pop().unwrap_or_else(lost)?)
}

async fn prepare(core: &Core, event: NewEvent) -> Result<IngestItem> {
    let (event, view) = accept(core, event).await?;
    Ok(item(core, &view, event, None))
}

/// Validates an event that its source knows as `id`, and matches it.
pub(crate) async fn prepare_of_source(
    core: &Core,
    event: NewEvent,
    id: &str,
) -> Result<IngestItem> {
    let key = format!("{OF_SOURCE}{id}");
    let (event, view) = accept_any(core, event.idempotency_key(key)).await?;
    Ok(item(core, &view, event, None))
}

/// Publishes prepared events in one transaction, in their order; one answer for each.
///
/// It goes on where the call is dropped: what it hands over at once must be delivered.
pub(crate) async fn commit_alone(
    core: &Arc<Core>,
    items: Vec<IngestItem>,
) -> Result<Vec<Result<Published>>> {
    let items: Arc<[IngestItem]> = items.into();
    let (taker, taken) = (Arc::clone(core), Arc::clone(&items));
    let commit = core.tasks.spawn(async move { take_in(&taker, taken).await });
    let answers = commit.await.map_err(|error| {
        Error::new(Code::Internal, "a transaction of events broke off").caused_by(error)
    })??;
    let told = |(item, answer): (&IngestItem, &Ingested)| {
        published(item.event.id, item.deliveries.len(), answer)
    };
    Ok(items.iter().zip(&answers).map(told).collect())
}

/// The event with the deliveries that follow from matching it now.
pub(crate) fn item(
    core: &Core,
    view: &OrgView,
    event: Event,
    outbox: Option<EventId>,
) -> IngestItem {
    let due_at = event.due_at.unwrap_or(event.received_at);
    let deliveries = view
        .matching
        .matches(&event)
        .into_iter()
        .map(|integration| delivery(core, view, &event, &integration, due_at))
        .collect();
    IngestItem {
        body_hash: body_hash(&event),
        idempotency_window: core.config.idempotency_window,
        event: Arc::new(event),
        deliveries,
        outbox,
    }
}

pub(crate) fn delivery(
    core: &Core,
    view: &OrgView,
    event: &Event,
    integration: &CompiledIntegration,
    due_at: Timestamp,
) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(core.ids.as_ref()),
        integration: integration.id.clone(),
        lane: lane(view, &event.org, integration, event.ordering_key.as_ref()),
        due_at,
        at_once: core.rooms.has_share_for(&event.org),
    }
}

fn lane(
    view: &OrgView,
    org: &OrgId,
    integration: &CompiledIntegration,
    ordering_key: Option<&Arc<str>>,
) -> LaneSeed {
    let id: &ResourceId = &integration.id;
    let mode = integration.lane_mode(ordering_key.map(AsRef::as_ref));
    let (order_key, max_in_flight) = match mode {
        LaneMode::Fifo => (ordering_key.cloned(), 1),
        LaneMode::Parallel => (None, integration.max_in_flight),
    };
    LaneSeed {
        id: LaneId::of(org, id, order_key.as_deref()),
        order_key,
        mode,
        max_in_flight,
        weight: view.organization.weight,
        rules: integration.rules,
    }
}

fn body_hash(event: &Event) -> [u8; 32] {
    if event.idempotency_key.is_none() {
        return [0; 32];
    }
    let mut hash = Sha256::new();
    hash.update(event.event_type.as_str());
    hash.update([0]);
    hash.update(event.content_type.as_bytes());
    hash.update([0]);
    hash.update(&event.body);
    hash.finalize().into()
}

/// Writes a batch, and sets to work at once on what was handed over.
pub(crate) async fn commit(core: Weak<Core>, incoming: Vec<Incoming>) -> Result<Vec<Accepted>> {
    let Some(core) = core.upgrade() else {
        return Err(Error::new(Code::Internal, "the engine is gone"));
    };
    let span = tracing::debug_span!("ingest", icp.events = incoming.len());
    let items = incoming.into_iter().map(|incoming| incoming.item).collect();
    take_in(&core, items).instrument(span).await
}

pub(crate) async fn take_in(core: &Arc<Core>, items: Arc<[IngestItem]>) -> Result<Vec<Ingested>> {
    let now = core.clock.now();
    let started = core.clock.monotonic();
    let due: usize = items
        .iter()
        .flat_map(|item| &item.deliveries)
        .filter(|d| d.at_once && d.due_at <= now && d.lane.mode == LaneMode::Parallel)
        .count();
    let mut room = room(core, due);
    let direct = room.as_ref().map(|room| Direct {
        session: core.session.id(),
        budget: room.num_permits(),
        lease_until: now + core.config.lease,
    });
    let ingest = Ingest { items: Arc::clone(&items), direct, now };
    let answers = match core.store.ingest(ingest).await {
        Ok(answers) => answers,
        Err(error) => {
            core.metrics.store_errors.inc();
            if direct.is_some() && error.kind() != ErrorKind::Invalid {
                give_back(core, &items, now);
            }
            return Err(error);
        }
    };
    core.metrics.ingest_seconds.observe((core.clock.monotonic() - started).as_secs_f64());
    let mut waiting = 0;
    let mut soon = false;
    for (item, answer) in items.iter().zip(&answers) {
        match answer {
            Ingested::Accepted { leased } => {
                core.metrics.published.inc();
                let made = item.deliveries.len() as u64;
                core.metrics.fanned_out.inc_by(made);
                core.metrics.organizations.published(&item.event.org, made);
                core.metrics.handed_over.inc_by(leased.len() as u64);
                waiting +=
                    item.deliveries.iter().filter(|d| d.due_at <= now).count() - leased.len();
                soon |= item.deliveries.iter().any(|d| core.is_soon(d.due_at, now));
                if let (Some(direct), Some(room)) = (&direct, &mut room) {
                    hand_over(core, item, leased, direct, room, started, now);
                }
            }
            _ => {
                core.metrics.duplicates.inc();
            }
        }
    }
    drop(room);
    if waiting > 0 {
        core.announce(waiting);
    } else if soon {
        core.due.notify_one();
    }
    Ok(answers)
}

/// Reserves room on this node for up to `wanted` attempts.
fn room(core: &Arc<Core>, wanted: usize) -> Option<OwnedSemaphorePermit> {
    if !core.is_running() || !dispatch::may_claim(core) {
        return None;
    }
    core.rooms.take(wanted)
}

fn hand_over(
    core: &Arc<Core>,
    item: &IngestItem,
    leased: &[DeliveryId],
    direct: &Direct,
    room: &mut OwnedSemaphorePermit,
    started: std::time::Duration,
    now: Timestamp,
) {
    for id in leased {
        let Some(new) = item.deliveries.iter().find(|new| new.id == *id) else { continue };
        let Some(permit) = room.split(1) else { continue };
        let permit = core.rooms.give(&item.event.org, permit);
        let delivery = handed(item, new, direct, now);
        let trusted_until = started + core.config.lease;
        let event = Arc::clone(&item.event);
        dispatch::start(core, Work { delivery, event, trusted_until, waited: false }, permit);
    }
}

fn handed(item: &IngestItem, new: &NewDelivery, direct: &Direct, now: Timestamp) -> Delivery {
    let Direct { session, lease_until, .. } = *direct;
    let owner: Option<SessionId> = Some(session);
    Delivery {
        id: new.id,
        org: item.event.org.clone(),
        event: item.event.id,
        integration: new.integration.clone(),
        lane: new.lane.id,
        state: DeliveryState::Leased,
        due_at: new.due_at,
        epoch: 1,
        tries: 1,
        throttles: 0,
        rescues: 0,
        owner,
        lease_until: Some(lease_until),
        expires_at: item.event.expires_at,
        replay_of: None,
        out_of_order: false,
        round: 0,
        reason: None,
        created_at: now,
        updated_at: now,
    }
}

/// After a commit with unknown outcome: gives back every lease that it may have made, so that
/// none stays with a node that does not know of it. What was not leased is not touched.
fn give_back(core: &Arc<Core>, items: &[IngestItem], now: Timestamp) {
    for new in items.iter().flat_map(|item| &item.deliveries) {
        let settlement = Settlement {
            lease: Lease { delivery: new.id, epoch: 1 },
            lane: new.lane.id,
            attempt: None,
            next: Next::Refund { due_at: now, throttled: false },
            block_lane_until: None,
            notice: None,
        };
        // The queue has no bound, so nothing is refused.
        let _ = core.settler.push(Outcome { settlement, target: None, room: None, waited: false });
    }
}
