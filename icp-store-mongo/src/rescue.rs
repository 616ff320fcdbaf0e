//! What was left behind: leases of the dead, deliveries whose time is over, lanes that sleep on
//! due ones.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;

use futures_util::TryStreamExt;
use icp_core::delivery::{
    DeliveryState, EndReason, Lease, Rescue, RescueOf, Rescued, Sweep, Swept,
};
use icp_core::id::DeliveryId;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::Failure;
use super::lane::Changes;
use super::row::{self, Fields, UNJUDGED, bin, count, ms};
use super::store::{DELIVERY, MongoStore, SESSION};
use super::{finish, place, sleep, unreadable};

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
    let (found, spoilt): (Vec<&Document>, Vec<&Document>) =
        found.iter().partition(|found| row::delivery(found).is_ok());
    unreadable::end(store, &spoilt, &AtomicU64::new(0), rescue.now).await?;
    for found in &found {
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
        change.freed.push(Lease { delivery: row.id, epoch: row.epoch });
        change.wake = true;
    }
    changes.apply(store, rescue.now).await?;
    let rescued =
        taken.into_iter().map(|(row, state)| Rescued { delivery: row.id, org: row.org, state });
    Ok(rescued.collect())
}

pub(crate) async fn sweep(store: &MongoStore, sweep: &Sweep) -> Result<Swept, Failure> {
    finish::all(store, finish::Which::Left, sweep.limit).await?;
    let expired = expire(store, sweep).await?;
    place::tidy(store, sweep.now).await?;
    let sleeping = sleep::asleep(store, sweep.now).await?;
    let mut changes = Changes::default();
    let mut woken = 0;
    for lane in sleeping.into_keys().take(sweep.limit) {
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
        .projection(doc! { "_id": 1 })
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
    sleep::end(store, ready, set, sweep.now).await
}
