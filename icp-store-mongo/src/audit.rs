//! The invariants, computed from what is stored.

use std::collections::HashSet;

use icp_core::delivery::{Audit, DeliveryState, LaneId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::Failure;
use super::row::Fields;
use super::store::{DELIVERY, EVENT, LANE, MongoStore, REPLAY};
use super::{place, sleep};

/// The open ones are counted in one statement: between two, one that is given back would be in
/// neither. The others come after them, so that one that ends meanwhile is not missed. A statement
/// is of one moment until the server yields in it: after a thousand documents, or 10 ms.
pub(crate) async fn counts(store: &MongoStore) -> Result<Vec<(DeliveryState, u64)>, Failure> {
    let is_open = |state: &DeliveryState| !state.is_final();
    let open: Vec<&str> =
        DeliveryState::ALL.iter().filter(|state| is_open(state)).map(|s| s.as_str()).collect();
    let stages = vec![
        doc! { "$match": { "state": { "$in": open } } },
        doc! { "$group": { "_id": "$state", "count": { "$sum": 1_i64 } } },
    ];
    let open = store.aggregate(DELIVERY, stages).await?;
    let mut counts = Vec::new();
    for state in DeliveryState::ALL {
        let count = if is_open(&state) {
            let found = open.iter().find(|of| of.maybe_text("_id") == Some(state.as_str()));
            found.and_then(|of| of.maybe_int("count")).unwrap_or_default().unsigned_abs()
        } else {
            let filter = doc! { "state": state.as_str() };
            store.light(DELIVERY).count_documents(filter).await?
        };
        if count > 0 {
            counts.push((state, count));
        }
    }
    Ok(counts)
}

pub(crate) async fn audit(store: &MongoStore) -> Result<Audit, Failure> {
    let mut audit = of_deliveries(store).await?;
    audit.in_flight_wrong = in_flight_wrong(store).await?;
    audit.fan_out_wrong = fan_out_wrong(store).await?;
    audit.dangling = dangling(store).await?;
    // Any due delivery counts, so the moment is the far end of time.
    audit.asleep = sleep::asleep(store, Timestamp::MAX).await?.values().sum();
    Ok(audit)
}

/// What each delivery tells of itself.
async fn of_deliveries(store: &MongoStore) -> Result<Audit, Failure> {
    let count = |wrong: Document| doc! { "$sum": { "$cond": [wrong, 1_i64, 0_i64] } };
    let leased = doc! { "$eq": ["$state", "leased"] };
    let has = |field: &str| doc! { "$gt": [field, Bson::Null] };
    let open = doc! { "$in": ["$state", ["ready", "leased"]] };
    let ended = doc! { "$not": [open] };
    let unlike = |field: &str| doc! { "$ne": [leased.clone(), has(field)] };
    let ahead = doc! { "$gt": [{ "$max": "$attempts.epoch" }, "$epoch"] };
    let left = doc! { "$or": [has("$owner"), has("$lease_until"), has("$line")] };
    let found = store
        .aggregate(
            DELIVERY,
            vec![doc! { "$group": {
                "_id": Bson::Null,
                "deliveries": { "$sum": 1_i64 },
                "lease_without_owner":
                    count(doc! { "$or": [unlike("$owner"), unlike("$lease_until")] }),
                "epoch_behind":
                    count(doc! { "$or": [{ "$gt": ["$tries", "$epoch"] }, ahead] }),
                "ended_but_open": count(doc! { "$and": [ended, left] }),
            } }],
        )
        .await?;
    let Some(found) = found.first() else { return Ok(Audit::default()) };
    let number = |key: &str| found.int(key).map(i64::unsigned_abs);
    Ok(Audit {
        deliveries: number("deliveries")?,
        lease_without_owner: number("lease_without_owner")?,
        epoch_behind: number("epoch_behind")?,
        ended_but_open: number("ended_but_open")?,
        ..Audit::default()
    })
}

/// Lanes that do not count a lease. One that counts a lease too many gives it back with the next
/// sweep, and does not tell of it.
async fn in_flight_wrong(store: &MongoStore) -> Result<u64, Failure> {
    let lanes: HashSet<LaneId> =
        place::uncounted(store).await?.into_iter().map(|(lane, _)| lane).collect();
    Ok(lanes.len() as u64)
}

/// Events that have another number of deliveries than they were fanned out to. Those for which
/// deliveries are still listed, to be made or to be removed, are not there yet.
async fn fan_out_wrong(store: &MongoStore) -> Result<u64, Failure> {
    let size = |field: &str| doc! { "$size": { "$ifNull": [field, []] } };
    let first = doc! { "$eq": [{ "$ifNull": ["$$d.replay_of", Bson::Null] }, Bson::Null] };
    let stays = doc! { "$not": [{ "$in": ["$$d._id", { "$ifNull": ["$pruning", []] }] }] };
    let made = doc! { "$filter": {
        "input": "$made", "as": "d", "cond": { "$and": [first, stays] },
    } };
    let listing = doc! { "pending.id": { "$exists": true } };
    let jobs = store.all(REPLAY, listing, doc! { "pending.event": 1 }).await?;
    let listed = jobs.iter().flat_map(|job| job.documents("pending"));
    let listed: Vec<Bson> = listed.filter_map(|listed| listed.get("event").cloned()).collect();
    let settled = doc! { "pending": { "$exists": false }, "_id": { "$nin": listed } };
    let found = store
        .aggregate(
            EVENT,
            vec![
                doc! { "$match": settled },
                doc! { "$project": { "fan_out": 1, "further": 1, "pruned": 1, "pruning": 1 } },
                doc! { "$lookup": {
                    "from": store.name(DELIVERY),
                    "localField": "_id",
                    "foreignField": "event",
                    "pipeline": [{ "$project": { "replay_of": 1 } }],
                    "as": "made",
                } },
                doc! { "$match": { "$expr": { "$ne": [
                    { "$add": ["$fan_out", size("$further")] },
                    { "$add": [
                        { "$size": made }, { "$ifNull": ["$pruned", 0] }, size("$pruning"),
                    ] },
                ] } } },
                doc! { "$count": "wrong" },
            ],
        )
        .await?;
    Ok(found.first().and_then(|found| found.maybe_int("wrong")).unwrap_or_default().unsigned_abs())
}

/// Deliveries without their lane or event.
async fn dangling(store: &MongoStore) -> Result<u64, Failure> {
    let look = |noun: &str, field: &str| {
        doc! { "$lookup": {
            "from": store.name(noun),
            "localField": field,
            "foreignField": "_id",
            "pipeline": [{ "$project": { "_id": 1 } }],
            "as": noun,
        } }
    };
    let found = store
        .aggregate(
            DELIVERY,
            vec![
                doc! { "$project": { "lane_id": "$lane", "event_id": "$event" } },
                look(LANE, "lane_id"),
                look(EVENT, "event_id"),
                doc! { "$match": { "$or": [{ LANE: [] }, { EVENT: [] }] } },
                doc! { "$count": "wrong" },
            ],
        )
        .await?;
    Ok(found.first().and_then(|found| found.maybe_int("wrong")).unwrap_or_default().unsigned_abs())
}
