//! Claims: lanes are reserved first, then their deliveries leased.
//!
//! Both are guarded, so that of several nodes one wins. A node that is killed in between leaves
//! places that nobody has a lease for, which a sweep gives back.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join;
use futures_util::try_join;
use icp_core::delivery::{
    Claim, Claimed, ClaimedDelivery, Delivery, DeliveryState, Lane, LaneId, LaneMode, Lease,
};
use icp_core::error::{Code, Error};
use icp_core::event::Event;
use icp_core::id::{DeliveryId, EventId, SessionId};
use icp_core::time::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::{Failure, corrupt};
use super::lane::{self, Seen};
use super::meter::Meters;
use super::place;
use super::row::{self, Fields, bin, bins, count, ms};
use super::store::{DELIVERY, EVENT, LANE, MongoStore, SESSION};

/// How often lanes are looked for where other nodes were quicker.
const ROUNDS: usize = 8;
/// How many lanes are looked at together at the least; twice as many with each further look.
const LANES: usize = 4;

pub(crate) async fn claim(store: &MongoStore, claim: &Claim) -> Result<Claimed, Failure> {
    // Claims of one process would be after the same lanes; they take turns until they have theirs.
    let mut turn = Some(store.0.claiming.lock().await);
    let (known, asleep, lanes) = try_join!(
        knows(store, claim.session),
        sleepers(store, claim.now),
        eligible(store, claim.limit)
    )?;
    if !known {
        let message = "the session is not known any more; open a new one before claiming";
        return Err(Error::new(Code::LeaseLost, message).into());
    }
    let mut lanes = if asleep {
        turn_on(store, claim.now).await?;
        eligible(store, claim.limit).await?
    } else {
        lanes
    };
    let mut taking = Taking { claim, probes: 0, throttled: 0 };
    for _ in 0..ROUNDS {
        if lanes.is_empty() {
            break;
        }
        let picked = taking.pick(store, lanes).await?;
        drop(turn.take());
        if !picked.is_empty() {
            let Taking { probes, throttled, .. } = taking;
            // A claim that got all it asked for is followed by another at once.
            let full = picked.len() >= claim.limit;
            let next = async { if !full { next_due(store).await } else { Ok(None) } };
            let taken = try_join(lease_all(store, claim, picked), next).await;
            let (deliveries, next_due) = taken.map_err(unsure)?;
            // What was left out by `per_lane` is for the next claim, so that lanes take turns.
            if !deliveries.is_empty() {
                return Ok(Claimed { deliveries, next_due, probes, throttled });
            }
        }
        lanes = eligible(store, claim.limit).await?;
    }
    let Taking { probes, throttled, .. } = taking;
    let next_due = next_due(store).await?;
    Ok(Claimed { deliveries: Vec::new(), next_due, probes, throttled })
}

/// The error of a claim that may have leased something. Whoever gets it has to give the session up,
/// as nobody holds those leases; some of the codes of the contract say that nothing was changed.
fn unsure(failure: Failure) -> Failure {
    let error = Error::from(failure);
    let certain = [Code::StoreFull, Code::StoreLocked, Code::StoreReadOnly];
    if !certain.contains(&error.code()) {
        return error.into();
    }
    let message = "the server refused a part of the claim; the session is to be given up, so that \
                   its leases are taken over";
    Error::new(Code::StoreUnavailable, message).caused_by(error).into()
}

pub(crate) async fn knows(store: &MongoStore, session: SessionId) -> Result<bool, Failure> {
    let id = doc! { "_id": bin(session.to_bytes()) };
    let found = store.light(SESSION).find_one(id).projection(doc! { "_id": 1 }).await?;
    Ok(found.is_some())
}

/// Whether a lane is to be turned on.
async fn sleepers(store: &MongoStore, now: Timestamp) -> Result<bool, Failure> {
    let found = store.light(LANE).find_one(over(now)).projection(doc! { "_id": 1 }).await?;
    Ok(found.is_some())
}

/// Lanes one of whose moments has come.
fn over(now: Timestamp) -> Document {
    let over = doc! { "$lte": ms(now) };
    doc! { "$or": [{ "alarm": over.clone() }, { "blocked_until": over }] }
}

/// Turns on lanes whose time has come.
async fn turn_on(store: &MongoStore, now: Timestamp) -> Result<(), Failure> {
    let floor = lane::floor(store).await?;
    let due = doc! { "$lte": ["$next_due", ms(now)] };
    let due = doc! { "$and": [{ "$gt": ["$next_due", Bson::Null] }, due] };
    let mut stages: Vec<Document> = Vec::new();
    let pass: Bson = match floor {
        Some(floor) => {
            doc! { "$cond": [due.clone(), { "$max": ["$pass", floor] }, "$pass"] }.into()
        }
        None => "$pass".into(),
    };
    stages.push(doc! { "$set": {
        "pass": pass,
        "runnable": { "$or": ["$runnable", due.clone()] },
        "next_due": { "$cond": [due, "$$REMOVE", { "$ifNull": ["$next_due", "$$REMOVE"] }] },
        "blocked_until": { "$cond": [
            { "$gt": ["$blocked_until", ms(now)] }, "$blocked_until", "$$REMOVE",
        ] },
    } });
    stages.extend(lane::finish().as_document().cloned());
    store.light(LANE).update_many(over(now), stages).await?;
    Ok(())
}

/// Lanes that may give something, lowest pass first.
async fn eligible(store: &MongoStore, limit: usize) -> Result<Vec<Seen>, Failure> {
    use futures_util::TryStreamExt;
    let found: Vec<Document> = store
        .light(LANE)
        .find(doc! { "turn": { "$exists": true } })
        .sort(doc! { "turn": 1, "_id": 1 })
        .projection(lane::plain())
        .limit(count(limit.max(1)))
        .batch_size(1_000)
        .await?
        .try_collect()
        .await?;
    found.iter().map(Seen::read).collect()
}

/// When the next lane wakes; nothing where one may give something now.
async fn next_due(store: &MongoStore) -> Result<Option<Timestamp>, Failure> {
    let first = |field: &str| {
        let some = doc! { field: { "$exists": true } };
        store.first(LANE, some, doc! { field: 1 }, doc! { field: 1 })
    };
    let (runs, wakes) = try_join(first("turn"), first("alarm")).await?;
    Ok(wakes.filter(|_| runs.is_none()).and_then(|lane| lane.maybe_time("alarm")))
}

/// What a claim has come to so far.
struct Taking<'a> {
    claim: &'a Claim,
    probes: u64,
    throttled: u64,
}

/// What is to be taken of one lane.
struct Plan {
    seen: Seen,
    picks: Vec<Delivery>,
    /// When the first of those that stay gets due.
    next: Option<Timestamp>,
    blocked: Option<Timestamp>,
    cost: i64,
}

impl Taking<'_> {
    /// Reserves lanes, lowest pass first; answers the deliveries that go.
    async fn pick(
        &mut self,
        store: &MongoStore,
        lanes: Vec<Seen>,
    ) -> Result<Vec<Delivery>, Failure> {
        let mut lanes = lanes.into_iter().peekable();
        let mut plans = Vec::new();
        let mut left = self.claim.limit;
        let mut size = 0;
        while lanes.peek().is_some() && left > 0 {
            // Lanes that are deep fill the claim soon; where they are not, more are looked at.
            size = (size * 2).max(left.div_ceil(self.claim.per_lane.max(1))).max(LANES);
            let group: Vec<Seen> = lanes.by_ref().take(size).collect();
            let most = group.iter().map(|seen| room(&seen.lane)).max().unwrap_or_default();
            let depth = most.min(self.claim.per_lane).min(left) + 1;
            let orgs: BTreeSet<&str> = group.iter().map(|seen| seen.lane.org.as_str()).collect();
            let (heads, busy, meters) = try_join!(
                heads(store, &group, depth),
                lane::busy(store, orgs),
                Meters::load(store, group.iter().map(|seen| &seen.lane))
            )?;
            let planned = self.plan(store, group, heads, &busy, meters, left).await?;
            left -= planned.iter().map(|plan| plan.picks.len()).sum::<usize>();
            plans.extend(planned);
        }
        self.reserve(store, plans).await
    }

    async fn plan(
        &mut self,
        store: &MongoStore,
        group: Vec<Seen>,
        mut heads: HashMap<[u8; 16], Vec<Delivery>>,
        busy: &HashMap<String, u32>,
        mut meters: Meters,
        mut left: usize,
    ) -> Result<Vec<Plan>, Failure> {
        let mut plans = Vec::with_capacity(group.len());
        let now = self.claim.now;
        for seen in group {
            if left == 0 {
                break;
            }
            let lane = &seen.lane;
            let mut queue = heads.remove(&lane.id.to_bytes()).unwrap_or_default();
            let most = room(lane).min(self.claim.per_lane).min(left);
            let is_due = |delivery: &&Delivery| {
                delivery.state == DeliveryState::Ready && delivery.due_at <= now
            };
            let due = queue.iter().take(most).take_while(is_due).count();
            let due = meters.take(store, lane, due, now).await?;
            let next = queue.get(due).map(|delivery| delivery.due_at);
            queue.truncate(due);
            left -= due;
            let strides = i64::try_from(due).unwrap_or(i64::MAX);
            let share = busy.get(lane.org.as_str()).copied().unwrap_or_default();
            let cost = Lane::stride(lane.weight, share) * strides;
            let blocked = meters.blocks(lane, now);
            plans.push(Plan { picks: queue, next, blocked, cost, seen });
        }
        Ok(plans)
    }

    /// Counts what is planned into the lanes; what other nodes were quicker with is left out.
    async fn reserve(
        &mut self,
        store: &MongoStore,
        plans: Vec<Plan>,
    ) -> Result<Vec<Delivery>, Failure> {
        let now = self.claim.now;
        let statements: Vec<_> = plans.iter().map(|plan| plan.reserve(now)).collect();
        let missed = store.update(LANE, &statements, Miss::Known, Lasts::No).await?.missed;
        let mut picked: Vec<Delivery> = Vec::new();
        for (at, plan) in plans.into_iter().enumerate() {
            if missed.contains(&at) {
                let mut meters = Meters::default();
                meters.give_back(store, &plan.seen.lane, plan.picks.len(), now).await?;
                continue;
            }
            let probed = plan.seen.lane.health.breaker.is_open() && !plan.picks.is_empty();
            self.probes += u64::from(probed);
            self.throttled += u64::from(plan.blocked.is_some());
            picked.extend(plan.picks);
        }
        Ok(picked)
    }
}

/// Leases what was picked, and reads its events.
async fn lease_all(
    store: &MongoStore,
    claim: &Claim,
    picked: Vec<Delivery>,
) -> Result<Vec<ClaimedDelivery>, Failure> {
    if picked.is_empty() {
        return Ok(Vec::new());
    }
    let events = picked_events(&picked);
    let (leased, events) =
        try_join(lease(store, claim, picked), read_events(store, events)).await?;
    let whole = leased.into_iter().map(|delivery| {
        let event = events.get(&delivery.event).cloned();
        let event = event.ok_or_else(|| corrupt("a delivery has lost its event"))?;
        Ok(ClaimedDelivery { delivery, event })
    });
    whole.collect()
}

fn room(lane: &Lane) -> usize {
    usize::try_from(lane.room()).unwrap_or(usize::MAX)
}

impl Plan {
    /// Counts the leases in, unless another node was quicker, or the lane allows another number by
    /// now. Deliveries that got ready meanwhile keep the lane awake.
    fn reserve(&self, now: Timestamp) -> Statement {
        let Seen { lane, claims, wakes, .. } = &self.seen;
        let runs = self.next.is_some_and(|next| next <= now);
        let sleeps: Bson = match self.next.filter(|_| !runs) {
            Some(next) => ms(next).into(),
            None => "$$REMOVE".into(),
        };
        let still = doc! { "$eq": ["$wakes", *wakes] };
        let blocked = doc! { "$max": ["$blocked_until", self.blocked.map(ms)] };
        let mut set = doc! {
            "pass": { "$add": ["$pass", self.cost] },
            "runnable": { "$cond": [still.clone(), runs, true] },
            "next_due": { "$cond": [still, sleeps, "$$REMOVE"] },
            "blocked_until": { "$ifNull": [blocked, "$$REMOVE"] },
            "claims": { "$add": ["$claims", 1_i64] },
        };
        set.extend(self.picks.iter().map(|row| (place::path(next_lease(row)), "$$NOW".into())));
        let filter = doc! {
            "_id": bin(lane.id.to_bytes()),
            "claims": *claims,
            "allowed": i64::from(lane.allowed()),
            "turn": { "$exists": true },
        };
        lane::statement(filter, vec![doc! { "$set": set }.into(), place::counted()])
    }
}

/// The lease that a ready delivery is taken by.
fn next_lease(row: &Delivery) -> Lease {
    Lease { delivery: row.id, epoch: row.epoch + 1 }
}

/// The first `depth` deliveries of each lane in the order in which they go: of parallel lanes
/// those that are ready, of fifo lanes those that are open.
async fn heads(
    store: &MongoStore,
    lanes: &[Seen],
    depth: usize,
) -> Result<HashMap<[u8; 16], Vec<Delivery>>, Failure> {
    let of = |mode: LaneMode| {
        let lanes = lanes.iter().filter(move |seen| seen.lane.mode == mode);
        bins(lanes.map(|seen| seen.lane.id), LaneId::to_bytes)
    };
    let (parallel, fifo) = (of(LaneMode::Parallel), of(LaneMode::Fifo));
    let ready =
        vec![doc! { "$match": { "state": "ready" } }, doc! { "$sort": { "due_at": 1, "_id": 1 } }];
    let line = vec![doc! { "$sort": { "_id": 1 } }];
    let (parallel, fifo) = try_join(
        look_along(store, parallel, "lane", ready, depth),
        look_along(store, fifo, "line", line, 2),
    )
    .await?;
    let mut heads = HashMap::new();
    for lane in parallel.iter().chain(&fifo) {
        let queue = lane.documents("queue");
        let queue = queue.into_iter().map(row::delivery);
        heads.insert(lane.id("_id")?, queue.collect::<Result<Vec<_>, Error>>()?);
    }
    Ok(heads)
}

/// The first deliveries of each of the lanes, as `queue`, by an index that begins with `field`.
pub(crate) async fn look_along(
    store: &MongoStore,
    lanes: Vec<Bson>,
    field: &str,
    mut order: Vec<Document>,
    depth: usize,
) -> Result<Vec<Document>, Failure> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    order.push(doc! { "$limit": count(depth) });
    order.push(doc! { "$project": row::without_attempts() });
    store.aggregate(LANE, along(store, lanes, field, order)).await
}

pub(crate) fn along(
    store: &MongoStore,
    lanes: Vec<Bson>,
    field: &str,
    order: Vec<Document>,
) -> Vec<Document> {
    vec![
        doc! { "$match": { "_id": { "$in": lanes } } },
        doc! { "$project": { "_id": 1 } },
        doc! { "$lookup": {
            "from": store.name(DELIVERY),
            "localField": "_id",
            "foreignField": field,
            "pipeline": order,
            "as": "queue",
        } },
    ]
}

/// Leases what was picked; answers what was won.
async fn lease(
    store: &MongoStore,
    claim: &Claim,
    picked: Vec<Delivery>,
) -> Result<Vec<Delivery>, Failure> {
    let token = ObjectId::new();
    let statements: Vec<_> = picked.iter().map(|row| lease_one(row, claim, token)).collect();
    let mut won = None;
    match store.update(DELIVERY, &statements, Miss::Counted, Lasts::Yes).await {
        Ok(outcome) if outcome.matched == statements.len() => {}
        Ok(_) => won = Some(winners(store, &picked, token).await?),
        Err(failure) if failure.is_transient() => {
            // The outcome is unknown until it is read; what is not leased by then may be lost to
            // a write still under way, which the guard of this one then stops.
            store.update(DELIVERY, &statements, Miss::Counted, Lasts::Yes).await?;
            won = Some(winners(store, &picked, token).await?);
        }
        Err(failure) => return Err(failure),
    }
    let mut leased = Vec::with_capacity(picked.len());
    let mut lost = Vec::new();
    for mut row in picked {
        if won.as_ref().is_some_and(|won: &HashSet<DeliveryId>| !won.contains(&row.id)) {
            lost.push((row.lane, next_lease(&row)));
            continue;
        }
        row.state = DeliveryState::Leased;
        row.epoch += 1;
        row.tries += 1;
        row.owner = Some(claim.session);
        row.lease_until = Some(claim.lease_until);
        row.updated_at = claim.now;
        leased.push(row);
    }
    place::renounce(store, lost, claim.now).await?;
    Ok(leased)
}

fn lease_one(row: &Delivery, claim: &Claim, token: ObjectId) -> Statement {
    Statement {
        filter: doc! {
            "_id": bin(row.id.to_bytes()),
            "state": "ready",
            "epoch": i64::from(row.epoch),
            "lane": bin(row.lane.to_bytes()),
        },
        change: doc! {
            "$set": {
                "state": "leased",
                "owner": bin(claim.session.to_bytes()),
                "lease_until": ms(claim.lease_until),
                "updated_at": ms(claim.now),
                "claim": token,
            },
            "$inc": { "epoch": 1_i64, "tries": 1_i64 },
        }
        .into(),
    }
}

async fn winners(
    store: &MongoStore,
    picked: &[Delivery],
    token: ObjectId,
) -> Result<HashSet<DeliveryId>, Failure> {
    let ids = bins(picked.iter().map(|row| row.id), DeliveryId::to_bytes);
    let filter = doc! { "_id": { "$in": ids }, "claim": token, "state": "leased" };
    let found = store.all(DELIVERY, filter, doc! { "_id": 1 }).await?;
    found.iter().map(|found| Ok(DeliveryId::from_bytes(found.id("_id")?))).collect()
}

fn picked_events(picked: &[Delivery]) -> Vec<EventId> {
    let mut ids: Vec<EventId> = picked.iter().map(|row| row.event).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

async fn read_events(
    store: &MongoStore,
    ids: Vec<EventId>,
) -> Result<HashMap<EventId, Arc<Event>>, Failure> {
    let ids = bins(ids, EventId::to_bytes);
    let found = store.all(EVENT, doc! { "_id": { "$in": ids } }, row::plain_event()).await?;
    let events = found.iter().map(|found| {
        let event = row::event(found)?;
        Ok((event.id, Arc::new(event)))
    });
    events.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_leased_is_no_error_that_changed_nothing() {
        for (code, told) in [
            (Code::StoreLocked, Code::StoreUnavailable),
            (Code::StoreFull, Code::StoreUnavailable),
            (Code::StoreReadOnly, Code::StoreUnavailable),
            (Code::StoreUnavailable, Code::StoreUnavailable),
            (Code::StoreCorrupt, Code::StoreCorrupt),
        ] {
            let failure = unsure(Error::new(code, "refused").into());
            assert_eq!(Error::from(failure).code(), told, "{code:?}");
        }
    }
}
