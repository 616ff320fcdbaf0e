//! Events, and their deliveries.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use icp_core::delivery::DeliveryState;
use icp_core::error::Error;
use icp_core::id::EventId;
use icp_core::retention::{Cutoffs, Prune, Pruned};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;

use crate::batch::{Lasts, Miss, Statement};
use crate::error::Failure;
use crate::row::{Fields, bin, count, ms};
use crate::stay;
use crate::store::{DELIVERY, EVENT, MongoStore};

pub(super) async fn prune(
    store: &MongoStore,
    prune: &Prune,
    cutoffs: &Cutoffs,
) -> Result<Pruned, Failure> {
    let after = prune.after.as_deref().map(str::parse::<EventId>);
    let after = after.transpose().map_err(|error: Error| error.during("prune"))?;
    let mut filter = doc! { "org": prune.org.as_str() };
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": bin(after.to_bytes()) });
    }
    let fields = doc! {
        "received_at": 1, "key_until": 1, "pending": 1, "pruned": 1, "pruning": 1, "pruner": 1,
    };
    let found: Vec<Document> = store
        .light(EVENT)
        .find(filter)
        .sort(doc! { "org": 1, "_id": 1 })
        .limit(count(prune.limit.max(1)))
        .projection(fields)
        .await?
        .try_collect()
        .await?;
    let latest = ms(cutoffs.latest());
    let whole = found.len() >= prune.limit.max(1);
    let is_old = |event: &&Document| event.maybe_int("received_at").is_some_and(|at| at < latest);
    let old: Vec<&Document> = found.iter().take_while(is_old).collect();
    let more = whole && old.len() == found.len();
    let mut pruned = Pruned::default();
    if let Some(last) = old.last().filter(|_| more) {
        pruned.next = Some(EventId::from_bytes(last.id("_id")?).to_string());
    }
    if prune_events(store, &old, cutoffs, prune, &mut pruned).await? {
        // The same events once more, until nothing of theirs is left that has to go.
        let again = || EventId::from_bytes([0; 16]).to_string();
        pruned.next = Some(prune.after.clone().unwrap_or_else(again));
    }
    Ok(pruned)
}

/// What an event has of deliveries.
#[derive(Default)]
struct Old {
    /// Those that are to be removed, each with whether it is a dead letter.
    rows: Vec<(Bson, bool)>,
    /// Those of them that it was fanned out to.
    fan_out: Vec<Bson>,
}

/// Answers whether there may be more deliveries of the events to remove.
async fn prune_events(
    store: &MongoStore,
    events: &[&Document],
    cutoffs: &Cutoffs,
    prune: &Prune,
    pruned: &mut Pruned,
) -> Result<bool, Failure> {
    if events.is_empty() {
        return Ok(false);
    }
    finish(store, events).await?;
    let may_go = |event: &&&Document| {
        let keyed = event.maybe_int("key_until").is_some_and(|until| until > ms(prune.now));
        let young = event.maybe_int("received_at").is_none_or(|at| at >= ms(cutoffs.events));
        !keyed && !young && !event.contains_key("pending")
    };
    let going: Vec<Bson> =
        events.iter().filter(may_go).filter_map(|event| event.get("_id").cloned()).collect();
    stay::mark(store, &going).await?;
    let mut old = old_deliveries(store, events, cutoffs, prune.deliveries()).await?;
    let found = old.values().map(|old| old.rows.len()).sum::<usize>();
    let events_found = old.len();
    remove_rows(store, events, &mut old, pruned).await?;
    pruned.events += stay::remove(store, going).await?;
    Ok(found >= prune.deliveries() || old.len() < events_found)
}

async fn old_deliveries(
    store: &MongoStore,
    events: &[&Document],
    cutoffs: &Cutoffs,
    most: usize,
) -> Result<HashMap<[u8; 16], Old>, Failure> {
    let ids: Vec<Bson> = events.iter().filter_map(|event| event.get("_id").cloned()).collect();
    let fields = doc! { "event": 1, "state": 1, "replay_of": 1 };
    let mut of_events = idle();
    of_events.insert("event", doc! { "$in": ids });
    let dead = DeliveryState::Dead.as_str();
    let before = |cutoff| doc! { "$lt": ms(cutoff) };
    let ages = vec![
        doc! { "state": dead, "updated_at": before(cutoffs.dead_letters) },
        doc! { "state": { "$ne": dead }, "updated_at": before(cutoffs.deliveries) },
    ];
    of_events.insert("$or", ages);
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(of_events)
        .projection(fields)
        .hint(Hint::Name("of_event".into()))
        .limit(count(most))
        .await?
        .try_collect()
        .await?;
    let mut old: HashMap<[u8; 16], Old> = HashMap::new();
    for row in found {
        let dead = row.maybe_text("state") == Some(dead);
        let of = old.entry(row.id("event")?).or_default();
        let id = row.get("_id").cloned().unwrap_or(Bson::Null);
        if !row.contains_key("replay_of") {
            of.fan_out.push(id.clone());
        }
        of.rows.push((id, dead));
    }
    Ok(old)
}

/// Deliveries that have ended and that nothing is to follow from.
fn idle() -> Document {
    let mut idle = doc! { "state": { "$nin": ["ready", "leased"] } };
    for owed in ["repeat.id", "notices._id", "owed.src", "stir"] {
        idle.insert(owed, doc! { "$exists": false });
    }
    idle
}

/// Removes deliveries; their events list them as long as that is under way, so that the number
/// of those that stay is right at any moment. Where another pruner was quicker the event drops out
/// of `old`, as what was found of it may be removed and counted already.
async fn remove_rows(
    store: &MongoStore,
    events: &[&Document],
    old: &mut HashMap<[u8; 16], Old>,
    pruned: &mut Pruned,
) -> Result<(), Failure> {
    if old.is_empty() {
        return Ok(());
    }
    let pruner: Bson = ObjectId::new().into();
    list(store, events, old, &pruner).await?;
    let rows: Vec<Bson> =
        old.values().flat_map(|old| &old.rows).map(|(id, _)| id.clone()).collect();
    let stayed = remove_idle(store, rows).await?;
    let gone = old.values().flat_map(|old| &old.rows).filter(|(id, _)| !stayed.contains(id));
    for (_, dead) in gone {
        pruned.dead_letters += u64::from(*dead);
        pruned.deliveries += u64::from(!*dead);
    }
    let marks: Vec<Statement> = old
        .iter()
        .filter(|(_, old)| !old.fan_out.is_empty())
        .map(|(event, old)| close(bin(*event), &pruner, &old.fan_out, &stayed))
        .collect();
    store.update(EVENT, &marks, Miss::Counted, Lasts::No).await?;
    Ok(())
}

/// Lists at the events what is to be removed of them, unless any was since the events were read.
async fn list(
    store: &MongoStore,
    events: &[&Document],
    old: &mut HashMap<[u8; 16], Old>,
    pruner: &Bson,
) -> Result<(), Failure> {
    let mut marks = Vec::new();
    for event in events {
        let id = event.id("_id")?;
        let Some(old) = old.get(&id).filter(|old| !old.fan_out.is_empty()) else { continue };
        let as_read = event.get("pruned").cloned().unwrap_or(Bson::Null);
        let list = doc! { "pruning": old.fan_out.clone(), "pruner": pruner };
        marks.push(Statement {
            filter: doc! { "_id": bin(id), "pruning": { "$exists": false }, "pruned": as_read },
            change: doc! { "$set": list }.into(),
        });
    }
    if marks.is_empty() {
        return Ok(());
    }
    let listed: Vec<Bson> =
        marks.iter().filter_map(|mark| mark.filter.get("_id").cloned()).collect();
    if store.update(EVENT, &marks, Miss::Counted, Lasts::Yes).await?.matched == marks.len() {
        return Ok(());
    }
    let own = doc! { "_id": { "$in": listed }, "pruner": pruner };
    let own = store.all(EVENT, own, doc! { "_id": 1 }).await?;
    let own: HashSet<[u8; 16]> = own.iter().filter_map(|event| event.maybe_id("_id")).collect();
    old.retain(|event, old| old.fan_out.is_empty() || own.contains(event));
    Ok(())
}

/// Removes those of the deliveries that are still idle; answers the others.
async fn remove_idle(store: &MongoStore, rows: Vec<Bson>) -> Result<Vec<Bson>, Failure> {
    let rows = doc! { "$in": rows };
    let mut still = idle();
    still.insert("_id", rows.clone());
    store.lasting(DELIVERY).delete_many(still).await?;
    let stayed = store.all(DELIVERY, doc! { "_id": rows }, doc! { "_id": 1 }).await?;
    Ok(stayed.into_iter().filter_map(|mut row| row.remove("_id")).collect())
}

/// Counts what an event listed as removed, but for those that stayed.
fn close(event: Bson, pruner: &Bson, listed: &[Bson], stayed: &[Bson]) -> Statement {
    let gone = listed.iter().filter(|id| !stayed.contains(id)).count();
    let done = doc! { "pruning": "", "pruner": "" };
    Statement {
        filter: doc! { "_id": event, "pruning": listed, "pruner": pruner },
        change: doc! { "$inc": { "pruned": count(gone) }, "$unset": done }.into(),
    }
}

/// Removes what events still list from a call that was broken off.
async fn finish(store: &MongoStore, events: &[&Document]) -> Result<(), Failure> {
    let open: Vec<&&Document> =
        events.iter().filter(|event| event.contains_key("pruning")).collect();
    if open.is_empty() {
        return Ok(());
    }
    let rows = open.iter().flat_map(|event| event.list("pruning").to_vec()).collect();
    let stayed = remove_idle(store, rows).await?;
    let marks: Vec<Statement> = open
        .iter()
        .filter_map(|event| {
            // An earlier version did not say who lists.
            let pruner = event.get("pruner").unwrap_or(&Bson::Null);
            Some(close(event.get("_id")?.clone(), pruner, event.list("pruning"), &stayed))
        })
        .collect();
    store.update(EVENT, &marks, Miss::Counted, Lasts::No).await?;
    Ok(())
}
