//! Outcomes: written into the deliveries first, each by one guarded write, then into their lanes.

use std::collections::{BTreeMap, HashSet};

use icp_core::delivery::{Attempt, Lane, LaneId, Lease, Next, Renew, Settle, Settled, Settlement};
use icp_core::id::DeliveryId;
use icp_core::time::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::Failure;
use super::health;
use super::lane::{self, Changes};
use super::outbox;
use super::row::{self, Fields, UNJUDGED, bin, bins, ms, put};
use super::sleep;
use super::store::{DELIVERY, MongoStore};

pub(crate) async fn settle(store: &MongoStore, settle: &Settle) -> Result<Vec<Settled>, Failure> {
    let beside = settle.settlements.iter().filter_map(|settlement| match &settlement.next {
        Next::StepAside { lane, .. } => Some((settlement.lease.delivery, lane)),
        _ => None,
    });
    make_beside(store, &beside.collect()).await?;
    let won = record(store, settle).await?;
    let latest: HashSet<Lease> = settle.latest().iter().map(|s| s.lease).collect();
    let mut seen = HashSet::new();
    let mut recorded = Vec::with_capacity(settle.settlements.len());
    let answers = settle.settlements.iter().map(|settlement| {
        let id = settlement.lease.delivery;
        let won = won.as_ref().is_none_or(|won| won.contains(&id));
        if won && latest.contains(&settlement.lease) && seen.insert(id) {
            recorded.push(settlement);
            Settled::Recorded
        } else {
            Settled::Stale
        }
    });
    let answers = answers.collect();
    if recorded.iter().any(|settlement| settlement.notice.is_some()) {
        outbox::relay_notices(store, recorded.iter().map(|s| s.lease.delivery)).await?;
    }
    // The outcomes are recorded, whatever becomes of this; a sweep makes up for what is missing.
    let followed = follow(store, &recorded, settle.now).await;
    followed.or_else(|failure| if failure.is_transient() { Ok(()) } else { Err(failure) })?;
    Ok(answers)
}

/// Makes the lanes for those that step aside, before any of them does.
async fn make_beside(
    store: &MongoStore,
    beside: &Vec<(DeliveryId, &icp_core::event::LaneSeed)>,
) -> Result<(), Failure> {
    if beside.is_empty() {
        return Ok(());
    }
    let ids = bins(beside.iter().map(|(id, _)| *id), DeliveryId::to_bytes);
    let fields = doc! { "org": 1, "integration": 1 };
    let mut places = BTreeMap::new();
    for found in store.all(DELIVERY, doc! { "_id": { "$in": ids } }, fields).await? {
        places.insert(found.id("_id")?, (found.named("org")?, found.named("integration")?));
    }
    let wanted: Vec<lane::Wanted<'_>> = beside
        .iter()
        .filter_map(|(id, seed)| {
            let (org, integration) = places.get(&id.to_bytes())?;
            Some((org, integration, *seed))
        })
        .collect();
    let known = lane::look_up(store, beside.iter().map(|(_, seed)| seed.id)).await?;
    lane::ensure(store, &wanted, &known).await.map(drop)
}

/// Ends the leases that hold; answers which did, or nothing where all did.
async fn record(
    store: &MongoStore,
    settle: &Settle,
) -> Result<Option<HashSet<DeliveryId>>, Failure> {
    let token = ObjectId::new();
    let distinct = settle.latest();
    let statements = distinct.iter().map(|s| end(s, token, settle.now));
    let statements = statements.collect::<Result<Vec<_>, Failure>>()?;
    match store.update(DELIVERY, &statements, Miss::Counted, Lasts::Yes).await {
        Ok(outcome) if outcome.matched == statements.len() => Ok(None),
        Ok(_) => winners(store, &distinct, token).await.map(Some),
        Err(failure) if failure.is_transient() => {
            // What was recorded the first time is not recorded again: its lease is over.
            store.update(DELIVERY, &statements, Miss::Counted, Lasts::Yes).await?;
            winners(store, &distinct, token).await.map(Some)
        }
        Err(failure) => Err(failure),
    }
}

fn end(settlement: &Settlement, token: ObjectId, now: Timestamp) -> Result<Statement, Failure> {
    let Settlement { lease, lane, attempt, next, notice, .. } = settlement;
    let state = next.state();
    let mut set = doc! { "state": state.as_str(), "updated_at": ms(now), "settle": token };
    let mut unset = doc! { "owner": "", "lease_until": "" };
    let mut inc = Document::new();
    let mut push = Document::new();
    match next.reason() {
        Some(reason) => put(&mut set, "reason", Some(row::reason(reason))),
        None => put(&mut unset, "reason", Some("")),
    }
    match next {
        Next::Retry { due_at, .. } => put(&mut set, "due_at", Some(ms(*due_at))),
        Next::Refund { due_at, throttled } => {
            set.insert("due_at", ms(*due_at));
            inc.insert("tries", -1_i64);
            inc.insert("throttles", i64::from(*throttled));
        }
        Next::StepAside { due_at, lane, .. } => {
            set.insert("due_at", ms(*due_at));
            set.insert("lane", bin(lane.id.to_bytes()));
            set.insert("stir", bin(lane.id.to_bytes()));
            set.insert("out_of_order", true);
            unset.insert("fifo", "");
            unset.insert("line", "");
        }
        Next::Dead { .. } => put(&mut set, "judge_at", Some(UNJUDGED)),
        _ => {}
    }
    if state.is_final() {
        unset.insert("line", "");
    }
    if let Some(attempt) = attempt {
        push.insert("attempts", row::attempt_document(attempt, token)?);
    }
    if let Some(notice) = notice {
        push.insert("notices", row::event_document(notice));
    }
    let mut change = doc! { "$set": set, "$unset": unset };
    put(&mut change, "$inc", Some(inc).filter(|inc| !inc.is_empty()));
    put(&mut change, "$push", Some(push).filter(|push| !push.is_empty()));
    let mut filter = held(*lease);
    filter.insert("lane", bin(lane.to_bytes()));
    Ok(Statement { filter, change: change.into() })
}

fn held(lease: Lease) -> Document {
    doc! {
        "_id": bin(lease.delivery.to_bytes()),
        "state": "leased",
        "epoch": i64::from(lease.epoch),
    }
}

/// The deliveries whose outcome this call recorded.
async fn winners(
    store: &MongoStore,
    settlements: &[&Settlement],
    token: ObjectId,
) -> Result<HashSet<DeliveryId>, Failure> {
    let ids = bins(settlements.iter().map(|s| s.lease.delivery), DeliveryId::to_bytes);
    let by = doc! { "$or": [{ "settle": token }, { "attempts.by": token }] };
    let filter = doc! { "$and": [{ "_id": { "$in": ids } }, by] };
    let found = store.all(DELIVERY, filter, doc! { "_id": 1 }).await?;
    found.iter().map(|found| Ok(DeliveryId::from_bytes(found.id("_id")?))).collect()
}

/// What recorded outcomes do to their lanes.
async fn follow(
    store: &MongoStore,
    recorded: &[&Settlement],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut changes = Changes::default();
    let mut attempts: BTreeMap<[u8; 16], Vec<&Attempt>> = BTreeMap::new();
    for settlement in recorded {
        let change = changes.of(settlement.lane);
        change.freed.push(settlement.lease);
        change.if_well |= settlement.attempt.is_some();
        change.ended += i64::from(settlement.next.state().is_final());
        if let Next::Retry { due_at, .. } | Next::Refund { due_at, .. } = settlement.next {
            change.ready(due_at, now);
        }
        if let Some(until) = settlement.block_lane_until {
            change.block(until);
        }
        let of_lane = attempts.entry(settlement.lane.to_bytes()).or_default();
        of_lane.extend(&settlement.attempt);
    }
    let changes = changes.take();
    let floor = lane::floor_for(store, changes.values()).await?;
    let troubled = |lane: &[u8; 16]| {
        attempts.get(lane).into_iter().flatten().any(|attempt| Lane::is_troubled_by(attempt))
    };
    let mut ill: Vec<[u8; 16]> = changes.keys().copied().filter(troubled).collect();
    let well: Vec<_> = changes.iter().filter(|(lane, _)| !troubled(lane)).collect();
    let statements: Vec<_> = well
        .iter()
        .map(|(lane, change)| {
            let mut filter = doc! { "_id": bin(**lane) };
            if change.if_well {
                filter.insert("ill", doc! { "$exists": false });
            }
            lane::statement(filter, change.stages(floor, now))
        })
        .collect();
    if !statements.is_empty() {
        let outcome = store.update(super::store::LANE, &statements, Miss::Known, Lasts::No).await?;
        ill.extend(outcome.missed.iter().filter_map(|at| well.get(*at)).map(|(lane, _)| **lane));
    }
    for lane in ill {
        let (Some(change), Some(attempts)) = (changes.get(&lane), attempts.get(&lane)) else {
            continue;
        };
        health::observe(store, LaneId::from_bytes(lane), change, attempts, floor, now).await?;
    }
    if recorded.iter().any(|settlement| matches!(settlement.next, Next::StepAside { .. })) {
        sleep::stir(store, usize::MAX, now).await?;
    }
    Ok(())
}

/// Extends the leases that still hold; answers the others.
pub(crate) async fn renew(store: &MongoStore, renew: &Renew) -> Result<Vec<Lease>, Failure> {
    if renew.leases.is_empty() {
        return Ok(Vec::new());
    }
    let until: Bson = doc! { "$set": { "lease_until": ms(renew.until) } }.into();
    let mut alike: BTreeMap<u32, Vec<Bson>> = BTreeMap::new();
    for lease in &*renew.leases {
        alike.entry(lease.epoch).or_default().push(bin(lease.delivery.to_bytes()));
    }
    let statements = alike.into_iter().map(|(epoch, ids)| Statement {
        filter: doc! { "_id": { "$in": ids }, "state": "leased", "epoch": i64::from(epoch) },
        change: until.clone(),
    });
    let renewed = store.update_sets(DELIVERY, statements.collect(), Lasts::Yes).await?;
    if renewed == renew.leases.len() {
        return Ok(Vec::new());
    }
    let ids = bins(renew.leases.iter().map(|lease| lease.delivery), DeliveryId::to_bytes);
    let filter = doc! { "_id": { "$in": ids }, "state": "leased" };
    let mut kept = HashSet::new();
    for found in store.all(DELIVERY, filter, doc! { "epoch": 1 }).await? {
        kept.insert((found.id("_id")?, found.small("epoch")?));
    }
    let lost = |lease: &&Lease| !kept.contains(&(lease.delivery.to_bytes(), lease.epoch));
    Ok(renew.leases.iter().filter(lost).copied().collect())
}
