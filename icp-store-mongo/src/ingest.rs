//! Intake: an event is committed by the insert of its document, which lists the deliveries that
//! are still to be made; they follow, then their lanes, then the list goes.

use std::collections::HashSet;

use futures_util::future::try_join;
use icp_core::delivery::{Delivery, DeliveryState, LaneId, LaneMode};
use icp_core::event::{Event, Ingest, IngestItem, Ingested, NewDelivery};
use icp_core::id::{DeliveryId, EventId, OrgId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, Timestamp as BsonTimestamp, doc};

use super::batch;
use super::error::{Failure, contended};
use super::known::{Known, free_keys, live_key};
use super::lane::{self, Changes};
use super::row::{self, Fields, bin, bins, blob, count, ms};
use super::store::{DELIVERY, EVENT, MongoStore, OUTBOX};
use super::{claim, finish, hand_over, place};

/// How often a batch is judged again where other publishers of the same keys were quicker.
const ROUNDS: usize = 32;

pub(crate) async fn ingest(store: &MongoStore, batch: &Ingest) -> Result<Vec<Ingested>, Failure> {
    let (mut known, lanes) = try_join(
        Known::besides_events(store, batch),
        lane::look_up(store, lanes_of(batch.items.iter())),
    )
    .await?;
    let seeds: Vec<lane::Wanted<'_>> = batch
        .items
        .iter()
        .flat_map(|item| {
            item.deliveries.iter().map(|new| (&item.event.org, &new.integration, &new.lane))
        })
        .collect();
    let mut answers: Vec<Option<Ingested>> = vec![None; batch.items.len()];
    let mut made = false;
    for _ in 0..ROUNDS {
        let open: Vec<usize> = (0..answers.len()).filter(|at| answers[*at].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let (judged, accepted) = known.judge_all(batch, &open);
        if !accepted.is_empty() && !made {
            // Before the events, which may be finished by another node from then on.
            made = true;
            lane::ensure(store, &seeds, &lanes).await?;
        }
        let failed = insert(store, batch, &accepted, &known).await?;
        let failed_events: HashSet<EventId> =
            failed.iter().map(|at| batch.items[*at].event.id).collect();
        for (at, answer) in judged {
            let rests_on_failed = match &answer {
                Ingested::Duplicate { of } => failed_events.contains(of),
                Ingested::Conflict { with } => failed_events.contains(with),
                _ => failed.contains(&at),
            };
            if !rests_on_failed {
                answers[at] = Some(answer);
            }
        }
        if !failed.is_empty() {
            known = known.again(store, batch, &failed).await?;
        }
    }
    let mut answers = answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(contended)?;
    let accepted: Vec<&IngestItem> = batch
        .items
        .iter()
        .zip(&answers)
        .filter_map(|(item, answer)| matches!(answer, Ingested::Accepted { .. }).then_some(item))
        .collect();
    let leased = deliver(store, batch, &accepted, &seeds).await?;
    forget_outbox(store, batch, &answers).await?;
    for (item, answer) in batch.items.iter().zip(&mut answers) {
        if let Ingested::Accepted { leased: own } = answer {
            own.extend(item.deliveries.iter().map(|d| d.id).filter(|id| leased.contains(id)));
        }
    }
    Ok(answers)
}

fn lanes_of<'a>(items: impl Iterator<Item = &'a IngestItem>) -> HashSet<LaneId> {
    items.flat_map(|item| item.deliveries.iter().map(|new| new.lane.id)).collect()
}

/// Inserts the accepted events; answers which of them could not be, because another event has
/// taken the id or the key.
async fn insert(
    store: &MongoStore,
    batch: &Ingest,
    accepted: &[usize],
    known: &Known,
) -> Result<Vec<usize>, Failure> {
    free_keys(store, batch, accepted, known).await?;
    let documents: Vec<Document> =
        accepted.iter().map(|at| document(&batch.items[*at], batch.now)).collect();
    let taken = batch::insert(store.lasting(EVENT), &documents).await?;
    Ok(taken.into_iter().filter_map(|at| accepted.get(at).copied()).collect())
}

fn document(item: &IngestItem, now: Timestamp) -> Document {
    let mut document = row::event_document(&item.event);
    document.insert("fan_out", count(item.deliveries.len()));
    if let Some(key) = live_key(item) {
        let until = now + item.idempotency_window;
        if until > now {
            document.insert("live_key", key);
            document.insert("key_until", ms(until));
            document.insert("body_hash", blob(item.body_hash.to_vec()));
        }
    }
    if !item.deliveries.is_empty() {
        let pending: Vec<Bson> = item.deliveries.iter().map(|new| pending(new).into()).collect();
        document.insert("pending", pending);
        document.insert("taken_at", ms(now));
        // The server puts its own time where there is none.
        document.insert("since", Bson::Timestamp(BsonTimestamp { time: 0, increment: 0 }));
    }
    document
}

/// A delivery that is still to be made, as its event lists it.
pub(crate) fn pending(new: &NewDelivery) -> Document {
    doc! {
        "id": bin(new.id.to_bytes()),
        "integration": new.integration.as_str(),
        "lane": bin(new.lane.id.to_bytes()),
        "fifo": new.lane.mode == LaneMode::Fifo,
        "due_at": ms(new.due_at),
    }
}

/// A delivery that its event lists.
pub(crate) fn listed(event: &Document, pending: &Document) -> Result<Document, Failure> {
    let id = EventId::from_bytes(event.id("_id")?);
    let mut row = listed_row(pending, &event.named("org")?, id, event.time("taken_at")?)?;
    row.expires_at = event.maybe_time("expires_at");
    Ok(row::delivery_document(&row, pending.flag("fifo")))
}

/// A delivery that an event or a replay lists.
pub(crate) fn listed_row(
    pending: &Document,
    org: &OrgId,
    event: EventId,
    now: Timestamp,
) -> Result<Delivery, Failure> {
    Ok(Delivery {
        id: DeliveryId::from_bytes(pending.id("id")?),
        org: org.clone(),
        event,
        integration: pending.named("integration")?,
        lane: LaneId::from_bytes(pending.id("lane")?),
        state: DeliveryState::Ready,
        due_at: pending.time("due_at")?,
        epoch: 0,
        tries: 0,
        throttles: 0,
        rescues: 0,
        owner: None,
        lease_until: None,
        expires_at: None,
        replay_of: None,
        out_of_order: false,
        round: 0,
        reason: None,
        created_at: now,
        updated_at: now,
    })
}

/// Makes the deliveries of events that were taken in; answers which are leased at once.
async fn deliver(
    store: &MongoStore,
    batch: &Ingest,
    items: &[&IngestItem],
    seeds: &[lane::Wanted<'_>],
) -> Result<HashSet<DeliveryId>, Failure> {
    let all: Vec<(&Event, &NewDelivery)> = items
        .iter()
        .flat_map(|item| item.deliveries.iter().map(|new| (&*item.event, new)))
        .collect();
    if all.is_empty() {
        return Ok(HashSet::new());
    }
    let direct = match batch.direct.filter(|direct| direct.budget > 0) {
        Some(direct) if claim::knows(store, direct.session).await? => Some(direct),
        _ => None,
    };
    let mut leased = match direct {
        Some(direct) => hand_over::hand_over(store, &all, direct, batch.now).await?,
        None => HashSet::new(),
    };
    let documents: Vec<Document> = all
        .iter()
        .map(|(event, new)| {
            let mut row = listed_row(&pending(new), &event.org, event.id, batch.now)?;
            row.expires_at = event.expires_at;
            if let Some(direct) = direct.filter(|_| leased.contains(&new.id)) {
                row.state = DeliveryState::Leased;
                (row.epoch, row.tries) = (1, 1);
                (row.owner, row.lease_until) = (Some(direct.session), Some(direct.lease_until));
            }
            Ok(row::delivery_document(&row, new.lane.mode == LaneMode::Fifo))
        })
        .collect::<Result<_, Failure>>()?;
    // Before the event's list goes: a server that crashes between the two takes these back, and
    // the end of the list would reach it once it is up again.
    let taken = batch::insert(store.lasting(DELIVERY), &documents).await?;
    let mut changes = Changes::default();
    let mut lost = Vec::new();
    for (at, (_, new)) in all.iter().enumerate() {
        if !leased.contains(&new.id) {
            changes.of(new.lane.id).ready(new.due_at, batch.now);
        } else if taken.contains(&at) {
            // Another node has finished the event meanwhile, and made the delivery ready.
            leased.remove(&new.id);
            lost.push((new.lane.id, hand_over::first_lease(new.id)));
        }
    }
    changes.apply_to(store, seeds, batch.now).await?;
    place::renounce(store, lost, batch.now).await?;
    let ids = items.iter().filter(|item| !item.deliveries.is_empty()).map(|item| item.event.id);
    finish::close(store, bins(ids, EventId::to_bytes)).await?;
    Ok(leased)
}

/// Removes the outbox rows of what was taken in.
async fn forget_outbox(
    store: &MongoStore,
    batch: &Ingest,
    answers: &[Ingested],
) -> Result<(), Failure> {
    let done = batch
        .items
        .iter()
        .zip(answers)
        .filter(|(_, answer)| !matches!(answer, Ingested::Conflict { .. }));
    let rows = bins(done.filter_map(|(item, _)| item.outbox), EventId::to_bytes);
    if !rows.is_empty() {
        store.lasting(OUTBOX).delete_many(doc! { "_id": { "$in": rows } }).await?;
    }
    Ok(())
}
