//! Which events stay: pruning removes old ones, while replays and rounds add deliveries to them.
//!
//! Each side says first what it is about to do, and then looks at what the other has said: pruning
//! marks an event, then looks for deliveries of it, made or listed; whoever adds one lists it, then
//! looks for the mark and takes it away. So at least one of them sees the other, and an event that
//! is not marked any more is not removed.

use std::collections::HashSet;

use icp_core::id::EventId;
use mongodb::bson::{Bson, Document, doc};

use super::error::Failure;
use super::row::{Fields, bins};
use super::store::{DELIVERY, EVENT, MongoStore, REPLAY};

/// Keeps the events from being removed; answers those that are there.
pub(crate) async fn keep(
    store: &MongoStore,
    events: impl Iterator<Item = EventId>,
) -> Result<HashSet<EventId>, Failure> {
    let ids = bins(events, EventId::to_bytes);
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let filter = doc! { "_id": { "$in": ids } };
    let mut found = store.all(EVENT, filter.clone(), doc! { "going": 1 }).await?;
    if found.iter().any(|event| event.flag("going")) {
        let stays = doc! { "$unset": { "going": "" } };
        store.lasting(EVENT).update_many(filter.clone(), stays).await?;
        found = store.all(EVENT, filter, doc! { "_id": 1 }).await?;
    }
    found.iter().map(|event| Ok(EventId::from_bytes(event.id("_id")?))).collect()
}

/// Says that events are about to be removed.
pub(crate) async fn mark(store: &MongoStore, events: &[Bson]) -> Result<(), Failure> {
    if !events.is_empty() {
        let going = doc! { "$set": { "going": true } };
        store.light(EVENT).update_many(doc! { "_id": { "$in": events } }, going).await?;
    }
    Ok(())
}

/// Removes those of the events that are still marked, and have no deliveries; answers how many.
pub(crate) async fn remove(store: &MongoStore, events: Vec<Bson>) -> Result<u64, Failure> {
    if events.is_empty() {
        return Ok(0);
    }
    let of_them = doc! { "$in": &events };
    let rows = store.light(DELIVERY).distinct("event", doc! { "event": of_them.clone() }).await?;
    let listing = doc! { "pending.id": { "$exists": true }, "pending.event": of_them };
    let jobs = store.all(REPLAY, listing, doc! { "pending.event": 1 }).await?;
    let listed = jobs.iter().flat_map(|job| job.documents("pending"));
    let listed: Vec<Bson> = listed.filter_map(|listed| listed.get("event").cloned()).collect();
    let (stay, go): (Vec<Bson>, Vec<Bson>) =
        events.into_iter().partition(|id| rows.contains(id) || listed.contains(id));
    let stays: Document = doc! { "$unset": { "going": "" } };
    if !stay.is_empty() {
        store.light(EVENT).update_many(doc! { "_id": { "$in": stay } }, stays).await?;
    }
    let still = doc! { "_id": { "$in": go }, "going": true, "pending": { "$exists": false } };
    Ok(store.light(EVENT).delete_many(still).await?.deleted_count)
}
