//! Whose turn it is: the lanes that may give something now, and those that wake next.

use futures_util::TryStreamExt;
use futures_util::future::try_join;
use icp_core::delivery::Claim;
use icp_core::id::OrgId;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::Failure;
use super::lane::{self, Seen};
use super::row::{Fields, count, ms};
use super::store::{LANE, MongoStore};

/// Lanes that may give something, lowest pass first.
pub(crate) async fn eligible(store: &MongoStore, claim: &Claim) -> Result<Vec<Seen>, Failure> {
    let mut wanted = doc! { "turn": { "$exists": true } };
    if !claim.without.is_empty() {
        let without: Vec<&str> = claim.without.iter().map(OrgId::as_str).collect();
        wanted.insert("org", doc! { "$nin": without });
    }
    let found: Vec<Document> = store
        .light(LANE)
        .find(wanted)
        .sort(doc! { "turn": 1, "_id": 1 })
        .projection(lane::plain())
        .limit(count(claim.limit.max(1)))
        .batch_size(1_000)
        .await?
        .try_collect()
        .await?;
    found.iter().map(Seen::read).collect()
}

/// When the next lane wakes; nothing where one may give something now.
pub(crate) async fn next_due(store: &MongoStore) -> Result<Option<Timestamp>, Failure> {
    let first = |field: &str| {
        let some = doc! { field: { "$exists": true } };
        store.first(LANE, some, doc! { field: 1 }, doc! { field: 1 })
    };
    let (runs, wakes) = try_join(first("turn"), first("alarm")).await?;
    Ok(wakes.filter(|_| runs.is_none()).and_then(|lane| lane.maybe_time("alarm")))
}

/// Whether a lane is to be turned on.
pub(crate) async fn sleepers(store: &MongoStore, now: Timestamp) -> Result<bool, Failure> {
    let found = store.light(LANE).find_one(over(now)).projection(doc! { "_id": 1 }).await?;
    Ok(found.is_some())
}

/// Lanes one of whose moments has come.
fn over(now: Timestamp) -> Document {
    let over = doc! { "$lte": ms(now) };
    doc! { "$or": [{ "alarm": over.clone() }, { "blocked_until": over }] }
}

/// Turns on lanes whose time has come. What they missed while they slept, or were blocked, is no
/// claim to more: they start where the busy ones are by then.
pub(crate) async fn turn_on(store: &MongoStore, now: Timestamp) -> Result<(), Failure> {
    let floor = lane::floor(store).await?;
    let has_come = |field: &str| {
        doc! { "$and": [{ "$gt": [field, Bson::Null] }, { "$lte": [field, ms(now)] }] }
    };
    let (due, free) = (has_come("$next_due"), has_come("$blocked_until"));
    let starts = doc! { "$or": [due.clone(), free.clone()] };
    let mut stages = vec![doc! { "$set": {
        "pass": { "$cond": [starts, { "$max": ["$pass", floor] }, "$pass"] },
        "runnable": { "$or": ["$runnable", due.clone()] },
        "next_due": { "$cond": [due, "$$REMOVE", { "$ifNull": ["$next_due", "$$REMOVE"] }] },
        "blocked_until": {
            "$cond": [free, "$$REMOVE", { "$ifNull": ["$blocked_until", "$$REMOVE"] }]
        },
    } }];
    stages.extend(lane::finish().as_document().cloned());
    store.light(LANE).update_many(over(now), stages).await?;
    Ok(())
}
