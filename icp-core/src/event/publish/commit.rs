//! One transaction for all who publish at the same time, and work on what it hands over.

use std::sync::{Arc, Weak};

use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use super::{Published, published};
use crate::delivery::dispatch::{self, Work};
use crate::delivery::settle::Outcome;
use crate::delivery::{Delivery, DeliveryState, LaneMode, Lease, Next, Settlement};
use crate::engine::core::Core;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::event::{Direct, Ingest, IngestItem, Ingested, NewDelivery};
use crate::id::{DeliveryId, SessionId};
use crate::time::Timestamp;

/// Writes a batch, and sets to work at once on what was handed over.
pub(crate) async fn commit(core: Weak<Core>, items: Vec<IngestItem>) -> Result<Vec<Ingested>> {
    let Some(core) = core.upgrade() else {
        return Err(Error::new(Code::Internal, "the engine is gone"));
    };
    let span = tracing::debug_span!("ingest", icp.events = items.len());
    take_in(&core, items.into()).instrument(span).await
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

pub(crate) async fn take_in(core: &Arc<Core>, items: Arc<[IngestItem]>) -> Result<Vec<Ingested>> {
    core.stir();
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
    if !core.is_running() {
        return None;
    }
    let room = core.rooms.take(wanted)?;
    dispatch::may_claim(core).then_some(room)
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
