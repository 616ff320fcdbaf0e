//! What is known of the events of a batch: which are there, and who holds their idempotency keys.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join;
use icp_core::event::{Ingest, IngestItem, Ingested};
use icp_core::id::EventId;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::{Failure, contended};
use super::finish;
use super::row::{Fields, bins, ms};
use super::store::{EVENT, MongoStore, OUTBOX};

/// How often holders of keys are read again that were lost since.
const ROUNDS: usize = 8;

/// What is in the store of the events of a batch, kept up to date while it is judged.
#[derive(Debug, Default)]
pub(crate) struct Known {
    events: HashSet<EventId>,
    outbox: HashSet<EventId>,
    keys: HashMap<String, Holder>,
    /// Keys that events hold whose time is over.
    lapsed: HashSet<String>,
}

/// The event that holds an idempotency key.
#[derive(Clone, Debug)]
struct Holder {
    event: EventId,
    body_hash: Vec<u8>,
    /// Whether its time is over, so that another may take the key.
    is_over: bool,
    /// Whether its deliveries are still to be made.
    is_open: bool,
}

impl Known {
    /// All but which events are there: that tells the insert.
    pub(crate) async fn besides_events(
        store: &MongoStore,
        batch: &Ingest,
    ) -> Result<Self, Failure> {
        let rows = bins(batch.items.iter().filter_map(|item| item.outbox), EventId::to_bytes);
        let keys: Vec<Bson> = batch.items.iter().filter_map(live_key).map(Bson::from).collect();
        let (outbox, keys) =
            try_join(present(store, OUTBOX, rows), lasting_holders(store, keys, batch.now)).await?;
        // Whoever is told that an event was taken in may rely on its deliveries, though the call
        // that took it in was broken off.
        let open = keys.values().filter(|held| held.is_open && !held.is_over);
        let open = bins(open.map(|held| held.event), EventId::to_bytes);
        if !open.is_empty() {
            finish::these(store, open).await?;
        }
        let over = keys.iter().filter(|(_, held)| held.is_over);
        let lapsed = over.map(|(key, _)| key.clone()).collect();
        Ok(Self { events: HashSet::new(), outbox, keys, lapsed })
    }

    /// Looks again after inserts have failed.
    pub(crate) async fn again(
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
            finish::these(store, bins(events.iter().copied(), EventId::to_bytes)).await?;
        }
        known.events = events;
        Ok(known)
    }

    pub(crate) fn judge_all(
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
                    let holder =
                        Holder { event: event.id, body_hash, is_over: false, is_open: false };
                    self.keys.insert(key, holder);
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

/// An idempotency key as it is kept: names of organizations hold no `/`.
pub(crate) fn live_key(item: &IngestItem) -> Option<String> {
    let key = item.event.idempotency_key.as_deref()?;
    Some(format!("{}/{key}", item.event.org))
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

/// Who holds the keys, and lasts: whoever is told that an event was taken in relies on it, though
/// the call that took it in may still be waiting for that.
async fn lasting_holders(
    store: &MongoStore,
    keys: Vec<Bson>,
    now: Timestamp,
) -> Result<HashMap<String, Holder>, Failure> {
    for _ in 0..ROUNDS {
        let found = holders(store, keys.clone(), now).await?;
        let held: Vec<_> = found.iter().filter(|(_, holder)| !holder.is_over).collect();
        let names: Vec<&str> = held.iter().map(|(key, _)| key.as_str()).collect();
        let ids = bins(held.iter().map(|(_, holder)| holder.event), EventId::to_bytes);
        let still = doc! { "_id": { "$in": ids }, "live_key": { "$in": names } };
        if held.is_empty() || store.outlast(EVENT, still).await? == held.len() {
            return Ok(found);
        }
    }
    Err(contended().into())
}

async fn holders(
    store: &MongoStore,
    keys: Vec<Bson>,
    now: Timestamp,
) -> Result<HashMap<String, Holder>, Failure> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let fields = doc! { "live_key": 1, "key_until": 1, "body_hash": 1, "pending.id": 1 };
    let found = store.all(EVENT, doc! { "live_key": { "$in": keys } }, fields).await?;
    let holder = |found: &Document| {
        let holder = Holder {
            event: EventId::from_bytes(found.id("_id")?),
            body_hash: found.bytes("body_hash")?.to_vec(),
            is_over: found.time("key_until")? <= now,
            is_open: found.contains_key("pending"),
        };
        Ok((found.text("live_key")?.to_owned(), holder))
    };
    found.iter().map(holder).collect()
}

/// Takes keys whose time is over from the events that held them.
pub(crate) async fn free_keys(
    store: &MongoStore,
    batch: &Ingest,
    accepted: &[usize],
    known: &Known,
) -> Result<(), Failure> {
    let names = accepted.iter().filter_map(|at| live_key(&batch.items[*at]));
    let held = names.filter(|name| known.lapsed.contains(name));
    let held: Vec<Bson> = held.map(Bson::from).collect();
    if held.is_empty() {
        return Ok(());
    }
    let over = doc! { "live_key": { "$in": held }, "key_until": { "$lte": ms(batch.now) } };
    let free = doc! { "$unset": { "live_key": "", "key_until": "" } };
    store.lasting(EVENT).update_many(over, free).await?;
    Ok(())
}
