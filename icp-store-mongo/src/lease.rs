//! Leases of what a claim has picked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join;
use icp_core::delivery::{Claim, ClaimedDelivery, Delivery, DeliveryState, Lease};
use icp_core::event::Event;
use icp_core::id::{DeliveryId, EventId};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, doc};

use super::batch::{Lasts, Statement};
use super::error::Failure;
use super::place;
use super::row::{self, Fields, bin, bins, ms};
use super::store::{DELIVERY, EVENT, MongoStore};

/// Leases what was picked, and reads its events; answers beside it what has lost its event.
pub(crate) async fn lease_all(
    store: &MongoStore,
    claim: &Claim,
    picked: Vec<Delivery>,
) -> Result<(Vec<ClaimedDelivery>, Vec<Delivery>), Failure> {
    let events = picked_events(&picked);
    let (leased, events) =
        try_join(lease(store, claim, picked), read_events(store, events)).await?;
    let (mut whole, mut lost) = (Vec::with_capacity(leased.len()), Vec::new());
    for delivery in leased {
        match events.get(&delivery.event).cloned() {
            Some(event) => whole.push(ClaimedDelivery { delivery, event }),
            None => lost.push(delivery),
        }
    }
    Ok((whole, lost))
}

/// Leases what was picked; answers what was won.
async fn lease(
    store: &MongoStore,
    claim: &Claim,
    picked: Vec<Delivery>,
) -> Result<Vec<Delivery>, Failure> {
    let token = ObjectId::new();
    let statements = lease_some(&picked, claim, token);
    let mut won = None;
    match store.update_sets(DELIVERY, statements.clone(), Lasts::Yes).await {
        Ok(leased) if leased == picked.len() => {}
        Ok(_) => won = Some(winners(store, &picked, token).await?),
        Err(failure) if failure.is_transient() => {
            // The outcome is unknown until it is read; what is not leased by then may be lost to
            // a write still under way, which the guard of this one then stops.
            store.update_sets(DELIVERY, statements, Lasts::Yes).await?;
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

/// Leases are alike but for what guards them.
fn lease_some(picked: &[Delivery], claim: &Claim, token: ObjectId) -> Vec<Statement> {
    let mut alike: BTreeMap<([u8; 16], u32), Vec<Bson>> = BTreeMap::new();
    for row in picked {
        let ids = alike.entry((row.lane.to_bytes(), row.epoch)).or_default();
        ids.push(bin(row.id.to_bytes()));
    }
    let change = doc! {
        "$set": {
            "state": "leased",
            "owner": bin(claim.session.to_bytes()),
            "lease_until": ms(claim.lease_until),
            "updated_at": ms(claim.now),
            "claim": token,
        },
        "$inc": { "epoch": 1_i64, "tries": 1_i64 },
    };
    let statements = alike.into_iter().map(|((lane, epoch), ids)| Statement {
        filter: doc! {
            "_id": { "$in": ids },
            "state": "ready",
            "epoch": i64::from(epoch),
            "lane": bin(lane),
        },
        change: change.clone().into(),
    });
    statements.collect()
}

/// The lease that a ready delivery is taken by.
pub(crate) fn next_lease(row: &Delivery) -> Lease {
    Lease { delivery: row.id, epoch: row.epoch + 1 }
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
    // One that cannot be read is as good as lost.
    let events = found.iter().filter_map(|found| row::event(found).ok());
    Ok(events.map(|event| (event.id, Arc::new(event))).collect())
}
