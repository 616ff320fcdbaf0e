//! Intake: an event is committed by the insert of its document, which lists the deliveries that
//! are still to be made; they follow, then their lanes, then the list goes.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::try_join;
use futures_util::try_join;
use icp_core::delivery::{Delivery, DeliveryState, Lane, LaneId, LaneMode, Lease};
use icp_core::event::{Direct, Event, Ingest, IngestItem, Ingested, NewDelivery};
use icp_core::id::{DeliveryId, EventId, OrgId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, Timestamp as BsonTimestamp, doc};

use super::batch::{self, Lasts, Miss};
use super::claim;
use super::error::{Failure, contended};
use super::finish::{self, Which};
use super::lane::{self, Changes, Seen};
use super::meter::Meters;
use super::place;
use super::row::{self, Fields, bin, bins, blob, count, ms};
use super::store::{DELIVERY, EVENT, LANE, MongoStore, OUTBOX};

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
    let leased = deliver(store, batch, &accepted).await?;
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

/// What is in the store of the events of a batch, kept up to date while it is judged.
#[derive(Debug, Default)]
struct Known {
    events: HashSet<EventId>,
    outbox: HashSet<EventId>,
    keys: HashMap<String, Holder>,
}

/// The event that holds an idempotency key.
#[derive(Clone, Debug)]
struct Holder {
    event: EventId,
    body_hash: Vec<u8>,
    /// Whether its time is over, so that another may take the key.
    is_over: bool,
}

/// An idempotency key as it is kept: names of organizations hold no `/`.
fn live_key(item: &IngestItem) -> Option<String> {
    let key = item.event.idempotency_key.as_deref()?;
    Some(format!("{}/{key}", item.event.org))
}

impl Known {
    /// All but which events are there: that tells the insert.
    async fn besides_events(store: &MongoStore, batch: &Ingest) -> Result<Self, Failure> {
        let rows = bins(batch.items.iter().filter_map(|item| item.outbox), EventId::to_bytes);
        let keys: Vec<Bson> = batch.items.iter().filter_map(live_key).map(Bson::from).collect();
        let (outbox, keys) =
            try_join(present(store, OUTBOX, rows), holders(store, keys, batch.now)).await?;
        Ok(Self { events: HashSet::new(), outbox, keys })
    }

    /// Looks again after inserts have failed.
    async fn again(
        self,
        store: &MongoStore,
        batch: &Ingest,
        failed: &[usize],
    ) -> Result<Self, Failure> {
        let ids = bins(failed.iter().map(|at| batch.items[*at].event.id), EventId::to_bytes);
        let (mut known, events) =
            try_join(Self::besides_events(store, batch), present(store, EVENT, ids)).await?;
        if !events.is_empty() {
            // A call before this one may have been broken off after the insert.
            finish::events(store, Which::All, usize::MAX).await?;
        }
        known.events = events;
        Ok(known)
    }

    fn judge_all(
        &mut self,
        batch: &Ingest,
        open: &[usize],
    ) -> (Vec<(usize, Ingested)>, Vec<usize>) {
        let mut accepted = Vec::new();
        let mut judged = Vec::with_capacity(open.len());
        for at in open {
            let answer = self.judge(&batch.items[*at], batch.now);
            if matches!(answer, Ingested::Accepted { .. }) {
                accepted.push(*at);
            }
            judged.push((*at, answer));
        }
        (judged, accepted)
    }

    fn judge(&mut self, item: &IngestItem, now: Timestamp) -> Ingested {
        let event = &item.event;
        if item.outbox.is_some_and(|id| !self.outbox.contains(&id)) {
            return Ingested::Gone;
        }
        let key = live_key(item);
        let holder = key.as_ref().and_then(|key| self.keys.get(key)).filter(|held| !held.is_over);
        let answer = match holder {
            // Another node has relayed it, or this one has before it was killed.
            _ if item.outbox.is_some() && self.events.contains(&event.id) => Ingested::Gone,
            _ if self.events.contains(&event.id) => Ingested::Duplicate { of: event.id },
            Some(held) if held.body_hash != item.body_hash => {
                return Ingested::Conflict { with: held.event };
            }
            Some(held) => Ingested::Duplicate { of: held.event },
            None => {
                self.events.insert(event.id);
                let lives = now + item.idempotency_window > now;
                if let Some(key) = key.filter(|_| lives) {
                    let body_hash = item.body_hash.to_vec();
                    self.keys.insert(key, Holder { event: event.id, body_hash, is_over: false });
                }
                Ingested::Accepted { leased: Vec::new() }
            }
        };
        if let Some(id) = item.outbox {
            self.outbox.remove(&id);
        }
        answer
    }
}

async fn present(
    store: &MongoStore,
    noun: &str,
    ids: Vec<Bson>,
) -> Result<HashSet<EventId>, Failure> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let found = store.all(noun, doc! { "_id": { "$in": ids } }, doc! { "_id": 1 }).await?;
    found.iter().map(|found| Ok(EventId::from_bytes(found.id("_id")?))).collect()
}

async fn holders(
    store: &MongoStore,
    keys: Vec<Bson>,
    now: Timestamp,
) -> Result<HashMap<String, Holder>, Failure> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let fields = doc! { "live_key": 1, "key_until": 1, "body_hash": 1 };
    let found = store.all(EVENT, doc! { "live_key": { "$in": keys } }, fields).await?;
    let holder = |found: &Document| {
        let holder = Holder {
            event: EventId::from_bytes(found.id("_id")?),
            body_hash: found.bytes("body_hash")?.to_vec(),
            is_over: found.time("key_until")? <= now,
        };
        Ok((found.text("live_key")?.to_owned(), holder))
    };
    found.iter().map(holder).collect()
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

/// Takes keys whose time is over from the events that held them.
async fn free_keys(
    store: &MongoStore,
    batch: &Ingest,
    accepted: &[usize],
    known: &Known,
) -> Result<(), Failure> {
    let names = accepted.iter().filter_map(|at| live_key(&batch.items[*at]));
    let held = names.filter(|name| known.keys.contains_key(name));
    let held: Vec<Bson> = held.map(Bson::from).collect();
    if held.is_empty() {
        return Ok(());
    }
    let over = doc! { "live_key": { "$in": held }, "key_until": { "$lte": ms(batch.now) } };
    let free = doc! { "$unset": { "live_key": "", "key_until": "" } };
    store.lasting(EVENT).update_many(over, free).await?;
    Ok(())
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
        Some(direct) => hand_over(store, &all, direct, batch.now).await?,
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
    // A lease has to last; what is only ready is made again from the event's list.
    let rows = if leased.is_empty() { store.light(DELIVERY) } else { store.lasting(DELIVERY) };
    let taken = batch::insert(rows, &documents).await?;
    let mut changes = Changes::default();
    let mut lost = Vec::new();
    for (at, (_, new)) in all.iter().enumerate() {
        if !leased.contains(&new.id) {
            changes.of(new.lane.id).ready(new.due_at, batch.now);
        } else if taken.contains(&at) {
            // Another node has finished the event meanwhile, and made the delivery ready.
            leased.remove(&new.id);
            lost.push((new.lane.id, first_lease(new.id)));
        }
    }
    changes.apply(store, batch.now).await?;
    place::renounce(store, lost, batch.now).await?;
    let ids = items.iter().filter(|item| !item.deliveries.is_empty()).map(|item| item.event.id);
    finish::close(store, bins(ids, EventId::to_bytes)).await?;
    Ok(leased)
}

/// Reserves room in lanes where nothing waits that a new delivery would overtake; answers which
/// deliveries it is for.
async fn hand_over(
    store: &MongoStore,
    all: &[(&Event, &NewDelivery)],
    direct: Direct,
    now: Timestamp,
) -> Result<HashSet<DeliveryId>, Failure> {
    let orgs = all.iter().map(|(event, _)| event.org.as_str()).collect();
    let (lanes, floor, busy) = try_join!(
        lane::look_up(store, all.iter().map(|(_, new)| new.lane.id).collect::<HashSet<_>>()),
        lane::floor(store),
        lane::busy(store, orgs)
    )?;
    let mut meters = Meters::load(store, lanes.values().map(|seen| &seen.lane)).await?;
    let mut wanted: BTreeMap<[u8; 16], (&Seen, Vec<DeliveryId>)> = BTreeMap::new();
    let mut left = direct.budget;
    let mut waits = HashSet::new();
    for (_, new) in all {
        let Some(seen) = lanes.get(&new.lane.id) else { continue };
        let given = wanted.get(&new.lane.id.to_bytes()).map_or(0, |(_, ids)| ids.len());
        let fits = left > 0 && !waits.contains(&new.lane.id) && fits(&seen.lane, new, given, now);
        if !fits || meters.take(store, &seen.lane, 1, now).await? == 0 {
            // What comes later must not pass this one by.
            if new.due_at <= now {
                waits.insert(new.lane.id);
            }
            continue;
        }
        left -= 1;
        wanted.entry(new.lane.id.to_bytes()).or_insert((seen, Vec::new())).1.push(new.id);
    }
    let statements: Vec<_> = wanted
        .values()
        .map(|(seen, ids)| {
            let runnable = busy.get(seen.lane.org.as_str()).copied().unwrap_or_default();
            let cost = Lane::stride(seen.lane.weight, runnable + 1) * count(ids.len());
            let pass = seen.lane.pass.max(floor.unwrap_or(seen.lane.pass)) + cost;
            let mut set = doc! {
                "pass": { "$max": ["$pass", pass] },
                "blocked_until": { "$ifNull": [
                    { "$max": ["$blocked_until", meters.blocks(&seen.lane, now).map(ms)] },
                    "$$REMOVE",
                ] },
                "claims": { "$add": ["$claims", 1_i64] },
            };
            let places = ids.iter().map(|id| place::path(first_lease(*id)));
            set.extend(places.map(|path| (path, "$$NOW".into())));
            let filter = doc! {
                "_id": bin(seen.lane.id.to_bytes()),
                "claims": seen.claims,
                "wakes": seen.wakes,
                "allowed": i64::from(seen.lane.allowed()),
                "runnable": false,
                "rests": 0,
            };
            lane::statement(filter, vec![doc! { "$set": set }.into(), place::counted()])
        })
        .collect();
    if statements.is_empty() {
        return Ok(HashSet::new());
    }
    let missed = store.update(LANE, &statements, Miss::Known, Lasts::No).await?.missed;
    let mut given = HashSet::new();
    for (at, (seen, ids)) in wanted.into_values().enumerate() {
        if missed.contains(&at) {
            meters.give_back(store, &seen.lane, ids.len(), now).await?;
        } else {
            given.extend(ids);
        }
    }
    Ok(given)
}

/// The lease that a delivery is handed over with.
fn first_lease(delivery: DeliveryId) -> Lease {
    Lease { delivery, epoch: 1 }
}

/// Whether a new delivery can be handed over at once, after `given` others of the lane.
fn fits(lane: &Lane, new: &NewDelivery, given: usize, now: Timestamp) -> bool {
    new.due_at <= now
        && lane.mode == LaneMode::Parallel
        && usize::try_from(lane.room()).is_ok_and(|room| room > given)
        && !lane.paused
        && !lane.runnable
        && lane.blocked_until.is_none_or(|until| until <= now)
        && lane.next_due.is_none_or(|due| due > now)
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
