//! Lanes that sleep on due deliveries, and what is owed to lanes so that none does.
//!
//! A delivery that gets ready wakes its lane, one write after the other. Whoever looks in between
//! must tell a lane that is being woken from one that was forgotten, so each such delivery is listed
//! until its lane is awake: by its event or its replay, by the letter it repeats, as a place in its
//! lane, or else by its own `stir`.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{TryStreamExt, try_join};
use icp_core::delivery::{LaneId, LaneMode};
use icp_core::id::DeliveryId;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::Failure;
use super::finish::at_most;
use super::lane::{self, Changes, Seen};
use super::place;
use super::row::{self, Fields, bin, bins, ms};
use super::store::{DELIVERY, EVENT, LANE, MongoStore, REPLAY};

/// Ends the deliveries that match by `set`, and lets those behind the head of a fifo lane go: they
/// had no moment of their own to wake it. Answers how many ended.
pub(crate) async fn end(
    store: &MongoStore,
    ready: Document,
    set: Document,
    now: Timestamp,
) -> Result<u64, Failure> {
    let literal = set.into_iter().map(|(field, value)| (field, doc! { "$literal": value }.into()));
    let mut set: Document = literal.collect();
    set.insert("stir", doc! { "$cond": ["$fifo", "$lane", "$$REMOVE"] });
    let stages = vec![doc! { "$set": set }, doc! { "$unset": "line" }];
    let ended = store.lasting(DELIVERY).update_many(ready, stages).await?.modified_count;
    if ended > 0 {
        stir(store, usize::MAX, now).await?;
    }
    Ok(ended)
}

/// Wakes the lanes that deliveries still owe it to.
pub(crate) async fn stir(store: &MongoStore, limit: usize, now: Timestamp) -> Result<(), Failure> {
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(doc! { "stir": { "$exists": true } })
        .projection(doc! { "stir": 1 })
        .limit(at_most(limit))
        .await?
        .try_collect()
        .await?;
    if found.is_empty() {
        return Ok(());
    }
    let mut changes = Changes::default();
    let mut owed: BTreeMap<[u8; 16], Vec<Bson>> = BTreeMap::new();
    for row in &found {
        let lane = row.id("stir")?;
        changes.of(LaneId::from_bytes(lane)).wake = true;
        owed.entry(lane).or_default().extend(row.get("_id").cloned());
    }
    changes.apply(store, now).await?;
    for (lane, rows) in owed {
        let same = doc! { "_id": { "$in": rows }, "stir": bin(lane) };
        store.light(DELIVERY).update_many(same, doc! { "$unset": { "stir": "" } }).await?;
    }
    Ok(())
}

/// A lane that sleeps on deliveries that are due.
struct Sleeper {
    seen: Seen,
    due: Vec<DeliveryId>,
}

/// Lanes that would look neither now nor in time at a delivery that is due by `by`, though nobody
/// is about to wake them, each with how many such there are; of a fifo lane only its head counts.
pub(crate) async fn asleep(
    store: &MongoStore,
    by: Timestamp,
) -> Result<BTreeMap<LaneId, u64>, Failure> {
    let mut sleepers = sleepers(store, by).await?;
    if sleepers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let lanes = bins(sleepers.iter().map(|sleeper| sleeper.seen.lane.id), LaneId::to_bytes);
    let due = sleepers.iter().flat_map(|sleeper| sleeper.due.iter().copied());
    let due = bins(due, DeliveryId::to_bytes);
    // What is owed no more by now was done after the lane was looked at; what was done shows in
    // the lane, or in the delivery.
    let (ready, owed) = try_join!(ready(store, &due), Owed::read(store, &due, &lanes))?;
    let places = place::unsettled(store, lanes).await?;
    let again = lane::look_up(store, sleepers.iter().map(|sleeper| sleeper.seen.lane.id)).await?;
    let still = self::ready(store, &due).await?;
    sleepers.retain_mut(|Sleeper { seen, due }| {
        let lane = seen.lane.id;
        due.retain(|id| {
            let waits = ready.get(id).is_some_and(|epoch| still.get(id) == Some(epoch));
            waits && !owed.deliveries.contains(id) && !places.named.contains(id)
        });
        let same = again.get(&lane).is_some_and(|again| same(again, seen));
        same && !due.is_empty() && !places.lanes.contains(&lane) && !owed.lanes.contains(&lane)
    });
    Ok(sleepers.iter().map(|sleeper| (sleeper.seen.lane.id, sleeper.due.len() as u64)).collect())
}

/// The epochs of those of the deliveries that are ready.
async fn ready(store: &MongoStore, ids: &[Bson]) -> Result<HashMap<DeliveryId, u32>, Failure> {
    let ready = doc! { "_id": { "$in": ids }, "state": "ready" };
    let found = store.all(DELIVERY, ready, doc! { "epoch": 1 }).await?;
    // One that cannot be read wakes its lane too, and is ended by whoever claims it.
    let epoch = |row: &Document| {
        Ok((DeliveryId::from_bytes(row.id("_id")?), row.small("epoch").unwrap_or_default()))
    };
    found.iter().map(epoch).collect()
}

/// Whether nothing has happened to a lane between two looks at it.
fn same(one: &Seen, other: &Seen) -> bool {
    (one.claims, one.wakes, one.turns) == (other.claims, other.wakes, other.turns)
        && one.lane.runnable == other.lane.runnable
        && one.lane.next_due == other.lane.next_due
}

async fn sleepers(store: &MongoStore, by: Timestamp) -> Result<Vec<Sleeper>, Failure> {
    let firsts = store
        .aggregate(
            DELIVERY,
            vec![
                doc! { "$match": { "state": "ready" } },
                doc! { "$sort": { "lane": 1, "due_at": 1, "_id": 1 } },
                doc! { "$group": { "_id": "$lane", "due": { "$first": "$due_at" } } },
                doc! { "$match": { "due": { "$lte": ms(by) } } },
            ],
        )
        .await?;
    if firsts.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Bson> = firsts.iter().filter_map(|first| first.get("_id").cloned()).collect();
    let filter = doc! { "_id": { "$in": ids }, "runnable": false, "rests": 0 };
    let mut found = Vec::new();
    for lane in store.all(LANE, filter, lane::plain()).await? {
        let seen = Seen::read(&lane)?;
        let due = unheard(store, &seen, by).await?;
        if !due.is_empty() {
            found.push(Sleeper { seen, due });
        }
    }
    Ok(found)
}

/// The deliveries of a lane that is not awake that it has no moment for.
async fn unheard(
    store: &MongoStore,
    seen: &Seen,
    by: Timestamp,
) -> Result<Vec<DeliveryId>, Failure> {
    let lane = &seen.lane;
    let id = bin(lane.id.to_bytes());
    let due = match lane.mode {
        LaneMode::Parallel => {
            let mut due = doc! { "$lte": ms(by) };
            row::put(&mut due, "$lt", lane.next_due.map(ms));
            let filter = doc! { "lane": id, "state": "ready", "due_at": due };
            store.all(DELIVERY, filter, doc! { "_id": 1 }).await?
        }
        LaneMode::Fifo => {
            let (line, fields) = (doc! { "line": id }, doc! { "state": 1, "due_at": 1 });
            let head = store.first(DELIVERY, line, doc! { "_id": 1 }, fields).await?;
            let unheard = |head: &Document| {
                let due = head.maybe_time("due_at").filter(|due| *due <= by);
                head.maybe_text("state") == Some("ready")
                    && due.is_some_and(|due| lane.next_due.is_none_or(|next| due < next))
            };
            head.into_iter().filter(unheard).collect()
        }
    };
    due.iter().map(|row| Ok(DeliveryId::from_bytes(row.id("_id")?))).collect()
}

/// What lanes are owed.
struct Owed {
    /// Deliveries that are listed until their lane is awake.
    deliveries: HashSet<DeliveryId>,
    /// Lanes that a delivery is to wake.
    lanes: HashSet<LaneId>,
}

impl Owed {
    async fn read(store: &MongoStore, ids: &[Bson], lanes: &[Bson]) -> Result<Self, Failure> {
        let among = |field: &str| doc! { field: { "$in": ids } };
        let pending = doc! { "pending.id": 1 };
        let (events, jobs, letters, stirs) = try_join!(
            store.all(EVENT, among("pending.id"), pending.clone()),
            store.all(REPLAY, among("pending.id"), pending.clone()),
            store.all(DELIVERY, among("repeat.id"), doc! { "repeat.id": 1 }),
            store.all(DELIVERY, doc! { "stir": { "$in": lanes } }, doc! { "stir": 1 })
        )?;
        let listed = events.iter().chain(&jobs).flat_map(|of| of.documents("pending"));
        let repeats = letters.iter().filter_map(|letter| letter.get_document("repeat").ok());
        let deliveries = listed.chain(repeats).map(|of| of.id("id").map(DeliveryId::from_bytes));
        let lanes = stirs.iter().map(|row| row.id("stir").map(LaneId::from_bytes));
        Ok(Self {
            deliveries: deliveries.collect::<Result<_, _>>()?,
            lanes: lanes.collect::<Result<_, _>>()?,
        })
    }
}
