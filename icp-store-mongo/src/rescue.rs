//! What was left behind: leases of the dead, deliveries whose time is over, lanes that sleep on
//! due ones or count wrong.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use icp_core::delivery::{
    DeliveryState, EndReason, LaneId, LaneMode, Rescue, RescueOf, Rescued, Sweep, Swept,
};
use icp_core::id::DeliveryId;
use icp_core::time::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::Failure;
use super::finish;
use super::lane::{self, Changes};
use super::row::{self, Fields, UNJUDGED, bin, count, ms};
use super::store::{DELIVERY, LANE, MongoStore, SESSION};

/// For how long nothing has happened to a lane whose count may be set right, in milliseconds by
/// the server's clock: a claim that is under way has counted its lane and not its deliveries.
const QUIET: i64 = 10_000;

pub(crate) async fn rescue(store: &MongoStore, rescue: &Rescue) -> Result<Vec<Rescued>, Failure> {
    let filter = match rescue.of {
        RescueOf::Session(session) => {
            let id = bin(session.to_bytes());
            store.lasting(SESSION).delete_one(doc! { "_id": id.clone() }).await?;
            doc! { "owner": id }
        }
        RescueOf::Orphans { before } => {
            let Some(dead) = orphaned(store).await? else { return Ok(Vec::new()) };
            doc! { "owner": { "$in": dead }, "lease_until": { "$lt": ms(before) } }
        }
    };
    if rescue.limit == 0 {
        return Ok(Vec::new());
    }
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(filter)
        .projection(row::without_attempts())
        .limit(count(rescue.limit))
        .await?
        .try_collect()
        .await?;
    take_back(store, rescue, &found).await
}

/// The owners of leases that are no known sessions; nothing where there are none.
async fn orphaned(store: &MongoStore) -> Result<Option<Vec<Bson>>, Failure> {
    let owners =
        store.light(DELIVERY).distinct("owner", doc! { "owner": { "$exists": true } }).await?;
    let known = store.all(SESSION, doc! {}, doc! { "_id": 1 }).await?;
    let known: Vec<&Bson> = known.iter().filter_map(|session| session.get("_id")).collect();
    let dead: Vec<Bson> = owners.into_iter().filter(|owner| !known.contains(&owner)).collect();
    Ok(Some(dead).filter(|dead| !dead.is_empty()))
}

async fn take_back(
    store: &MongoStore,
    rescue: &Rescue,
    found: &[Document],
) -> Result<Vec<Rescued>, Failure> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let token = ObjectId::new();
    let (mut statements, mut taken) = (Vec::new(), Vec::new());
    for found in found {
        let row = row::delivery(found)?;
        let rescues = row.rescues.saturating_add(1);
        let mut set = doc! { "updated_at": ms(rescue.now), "settle": token };
        let mut unset = doc! { "owner": "", "lease_until": "" };
        let state = if rescues >= rescue.max_rescues {
            let message = format!("{rescues} leases ended without an outcome");
            set.insert("reason", row::reason(&EndReason::new("poison", message)));
            set.insert("judge_at", UNJUDGED);
            unset.insert("line", "");
            DeliveryState::Dead
        } else {
            set.insert("due_at", ms(row.due_at.min(rescue.now)));
            DeliveryState::Ready
        };
        set.insert("state", state.as_str());
        let filter = doc! {
            "_id": bin(row.id.to_bytes()), "state": "leased", "epoch": i64::from(row.epoch),
        };
        let inc = doc! { "rescues": 1_i64 };
        let change = doc! { "$set": set, "$unset": unset, "$inc": inc }.into();
        statements.push(Statement { filter, change });
        taken.push((row, state));
    }
    let outcome = store.update(DELIVERY, &statements, Miss::Counted, Lasts::Yes).await?;
    if outcome.matched < statements.len() {
        let ids: Vec<Bson> = found.iter().filter_map(|row| row.get("_id").cloned()).collect();
        let won = doc! { "_id": { "$in": ids }, "settle": token };
        let won = store.all(DELIVERY, won, doc! { "_id": 1 }).await?;
        let won = won.iter().map(|row| row.id("_id").map(DeliveryId::from_bytes));
        let won = won.collect::<Result<HashSet<_>, _>>()?;
        taken.retain(|(row, _)| won.contains(&row.id));
    }
    let mut changes = Changes::default();
    for (row, _) in &taken {
        let change = changes.of(row.lane);
        change.freed += 1;
        change.wake = true;
    }
    changes.apply(store, rescue.now).await?;
    let rescued =
        taken.into_iter().map(|(row, state)| Rescued { delivery: row.id, org: row.org, state });
    Ok(rescued.collect())
}

pub(crate) async fn sweep(store: &MongoStore, sweep: &Sweep) -> Result<Swept, Failure> {
    finish::all(store, sweep.limit).await?;
    let expired = expire(store, sweep).await?;
    recount(store).await?;
    let sleeping = asleep(store, sweep.now).await?;
    let mut changes = Changes::default();
    let mut woken = 0;
    for (lane, _) in sleeping.into_iter().take(sweep.limit) {
        changes.of(lane).wake = true;
        woken += 1;
    }
    changes.apply(store, sweep.now).await?;
    Ok(Swept { expired, woken })
}

/// Ends ready deliveries whose time is over.
async fn expire(store: &MongoStore, sweep: &Sweep) -> Result<u64, Failure> {
    let over = doc! { "state": "ready", "expires_at": { "$lte": ms(sweep.now) } };
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(over)
        .sort(doc! { "expires_at": 1 })
        .projection(doc! { "lane": 1, "fifo": 1 })
        .limit(count(sweep.limit.max(1)))
        .await?
        .try_collect()
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Bson> = found.iter().filter_map(|row| row.get("_id").cloned()).collect();
    let ready = doc! { "_id": { "$in": ids }, "state": "ready" };
    let set = doc! { "state": DeliveryState::Expired.as_str(), "updated_at": ms(sweep.now) };
    let end = doc! { "$set": set, "$unset": { "line": "" } };
    let ended = store.lasting(DELIVERY).update_many(ready, end).await?.modified_count;
    let mut changes = Changes::default();
    for row in found.iter().filter(|row| row.flag("fifo")) {
        // Those behind the head of a fifo lane had no moment of their own to wake it.
        changes.of(LaneId::from_bytes(row.id("lane")?)).wake = true;
    }
    changes.apply(store, sweep.now).await?;
    Ok(ended)
}

/// Lanes that would look neither now nor in time at a delivery that is due by `by`, each with how
/// many such there are; of a fifo lane only its head counts.
pub(crate) async fn asleep(
    store: &MongoStore,
    by: Timestamp,
) -> Result<Vec<(LaneId, u64)>, Failure> {
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
    for lane in store.all(LANE, filter, doc! {}).await?.iter().map(row::lane) {
        let lane = lane?;
        let id = bin(lane.id.to_bytes());
        let missed = match lane.mode {
            LaneMode::Parallel => {
                let mut unheard = doc! { "$lte": ms(by) };
                row::put(&mut unheard, "$lt", lane.next_due.map(ms));
                let unheard = doc! { "lane": id, "state": "ready", "due_at": unheard };
                store.light(DELIVERY).count_documents(unheard).await?
            }
            LaneMode::Fifo => {
                let (line, fields) = (doc! { "line": id }, doc! { "state": 1, "due_at": 1 });
                let head = store.first(DELIVERY, line, doc! { "_id": 1 }, fields).await?;
                let due = head.filter(|head| head.maybe_text("state") == Some("ready"));
                let due = due.and_then(|head| head.maybe_time("due_at"));
                u64::from(
                    due.is_some_and(|due| due <= by && lane.next_due.is_none_or(|next| due < next)),
                )
            }
        };
        if missed > 0 {
            found.push((lane.id, missed));
        }
    }
    Ok(found)
}

/// How many leased deliveries each lane has.
pub(crate) async fn leased_of_lanes(store: &MongoStore) -> Result<HashMap<[u8; 16], i64>, Failure> {
    let found = store
        .aggregate(
            DELIVERY,
            vec![
                doc! { "$match": { "owner": { "$exists": true } } },
                doc! { "$group": { "_id": "$lane", "leased": { "$sum": 1_i64 } } },
            ],
        )
        .await?;
    found.iter().map(|lane| Ok((lane.id("_id")?, lane.int("leased")?))).collect()
}

/// Sets right what lanes count, where a node was killed between its deliveries and its lane.
async fn recount(store: &MongoStore) -> Result<(), Failure> {
    let leased = leased_of_lanes(store).await?;
    let mut lanes: Vec<Bson> = leased.keys().map(|lane| bin(*lane)).collect();
    let fields = doc! { "in_flight": 1, "touched": 1 };
    let mut seen = store.all(LANE, doc! { "in_flight": { "$gt": 0 } }, fields.clone()).await?;
    let counted: HashSet<[u8; 16]> = seen.iter().filter_map(|lane| lane.maybe_id("_id")).collect();
    lanes.retain(|lane| !matches!(lane, Bson::Binary(id) if id.bytes.as_slice().try_into().is_ok_and(|id: [u8; 16]| counted.contains(&id))));
    if !lanes.is_empty() {
        seen.extend(store.all(LANE, doc! { "_id": { "$in": lanes } }, fields).await?);
    }
    let quiet = doc! { "$lte": ["$touched", { "$subtract": ["$$NOW", QUIET] }] };
    let mut statements = Vec::new();
    for lane in &seen {
        let count = leased.get(&lane.id("_id")?).copied().unwrap_or_default();
        let in_flight = lane.int("in_flight")?;
        if count == in_flight {
            continue;
        }
        let filter = doc! {
            "_id": lane.get("_id"),
            "in_flight": in_flight,
            "touched": lane.get("touched"),
            "$expr": quiet.clone(),
        };
        let set = doc! { "$set": { "in_flight": count, "touched": "$$NOW" } };
        statements.push(lane::statement(filter, vec![set.into()]));
    }
    if !statements.is_empty() {
        store.update(LANE, &statements, Miss::Counted, Lasts::No).await?;
    }
    Ok(())
}
