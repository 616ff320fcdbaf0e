//! Brings to its end what a node that was killed has left undone.

use futures_util::{TryStreamExt, try_join};
use icp_core::delivery::LaneId;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::Failure;
use super::lane::Changes;
use super::row::{Fields, count};
use super::store::{DELIVERY, EVENT, MongoStore};
use super::{batch, commit, ingest, letter, note, outbox, sleep, step};

/// How long its publisher has to make an event's deliveries before a sweep does, in milliseconds by
/// the server's clock, which tells whole seconds of it. Made by a sweep, none is handed over.
const PATIENCE: i64 = 2_000;

/// Which events are finished.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Which {
    All,
    /// Those that were left for a while.
    Left,
}

/// Finishes up to `limit` of each kind of operation.
pub(crate) async fn all(store: &MongoStore, which: Which, limit: usize) -> Result<(), Failure> {
    commit::finish(store).await?;
    try_join!(
        events(store, which, limit),
        outbox::finish_notices(store, limit),
        note::finish_owed(store, limit),
        letter::finish_repeats(store, limit),
        step::finish_steps(store, limit),
        sleep::stir(store, limit, Timestamp::EPOCH)
    )?;
    Ok(())
}

/// Makes the deliveries that events still list.
pub(crate) async fn events(store: &MongoStore, which: Which, limit: usize) -> Result<(), Failure> {
    let mut open = doc! { "pending.id": { "$exists": true } };
    if which == Which::Left {
        let age = doc! { "$subtract": ["$$NOW", { "$toDate": "$since" }] };
        open.insert("$expr", doc! { "$gte": [{ "$ifNull": [age, PATIENCE] }, PATIENCE] });
    }
    make(store, open, limit).await
}

/// Makes the deliveries that these events still list.
pub(crate) async fn these(store: &MongoStore, events: Vec<Bson>) -> Result<(), Failure> {
    let open = doc! { "_id": { "$in": events }, "pending.id": { "$exists": true } };
    make(store, open, usize::MAX).await
}

async fn make(store: &MongoStore, open: Document, limit: usize) -> Result<(), Failure> {
    let found = listing(store, open, limit).await?;
    if found.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::new();
    let mut changes = Changes::default();
    for event in &found {
        for pending in event.documents("pending") {
            rows.push(ingest::listed(event, pending)?);
            changes.of(LaneId::from_bytes(pending.id("lane")?)).wake = true;
        }
    }
    // They have to last before the list goes: see `ingest::deliver`.
    batch::insert(store.lasting(DELIVERY), &rows).await?;
    changes.apply(store, Timestamp::EPOCH).await?;
    close(store, found.iter().filter_map(|event| event.get("_id").cloned()).collect()).await
}

/// Events that list deliveries and last. What another call still waits for may be lost, and nothing
/// is to be made of it.
async fn listing(
    store: &MongoStore,
    open: Document,
    limit: usize,
) -> Result<Vec<Document>, Failure> {
    let found: Vec<Document> = store
        .light(EVENT)
        .find(open)
        .projection(doc! { "_id": 1 })
        .limit(at_most(limit))
        .await?
        .try_collect()
        .await?;
    if found.is_empty() {
        return Ok(found);
    }
    let ids: Vec<Bson> = found.iter().filter_map(|event| event.get("_id").cloned()).collect();
    // Many are finished by their publishers meanwhile.
    let among = doc! { "_id": { "$in": ids } };
    store.outlast(EVENT, among.clone()).await?;
    let mut still = among;
    still.insert("pending.id", doc! { "$exists": true });
    let fields = doc! { "org": 1, "pending": 1, "taken_at": 1, "expires_at": 1 };
    store.all(EVENT, still, fields).await
}

/// Notes that all deliveries of the events are made.
pub(crate) async fn close(store: &MongoStore, events: Vec<Bson>) -> Result<(), Failure> {
    if !events.is_empty() {
        let done = doc! { "$unset": { "pending": "", "taken_at": "", "since": "" } };
        store.light(EVENT).update_many(doc! { "_id": { "$in": events } }, done).await?;
    }
    Ok(())
}

/// A limit as the server takes it, where 0 stands for none.
pub(crate) fn at_most(limit: usize) -> i64 {
    if limit == usize::MAX { 0 } else { count(limit.max(1)) }
}
