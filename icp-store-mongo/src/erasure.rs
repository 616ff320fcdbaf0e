//! Erasure: an event is marked and loses its body by one write; what its deliveries tell goes after
//! that, and then the mark, with the subject, by which the next call finds what broke off.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::{Delivery, EndReason};
use icp_core::erasure::{Erase, Erased, ErasureStore, Target};
use icp_core::error::Result;
use icp_core::id::{DeliveryId, EventId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::{Failure, told};
use super::row::{self, Fields, bins, blob, count, ms};
use super::store::{DELIVERY, EVENT, MongoStore, OUTBOX};
use super::{batch, cancel, finish, outbox};

/// How long ago events were marked that the duty takes up, in milliseconds by the server's clock.
/// Before that their erasure is at them, and what the duty did would be missing from what it counts.
const BROKEN_OFF: i64 = 60_000;

#[async_trait]
impl ErasureStore for MongoStore {
    async fn erase(&self, erase: &Erase) -> Result<Erased> {
        told("erase", erase_some(self, erase).await)
    }

    async fn finish_erasures(&self, limit: usize, now: Timestamp) -> Result<u64> {
        told("finish erasures", finish_some(self, limit, now).await)
    }
}

async fn erase_some(store: &MongoStore, erase: &Erase) -> Result<Erased, Failure> {
    let whole = doc! { "erased_at": { "$exists": false } };
    let broken_off = doc! { "erasing": { "$exists": true } };
    let mut wanted = doc! { "org": erase.org.as_str(), "$or": [whole, broken_off] };
    match &erase.target {
        Target::Events(ids) => {
            let ids = bins(ids.iter().copied(), EventId::to_bytes);
            wanted.insert("_id", doc! { "$in": ids });
        }
        Target::Subject(subject) => drop(wanted.insert("subject", &**subject)),
    }
    take_waiting(store, &wanted).await?;
    let found: Vec<Document> = store
        .light(EVENT)
        .find(wanted)
        .sort(doc! { "_id": 1 })
        .projection(doc! { "_id": 1 })
        .limit(count(erase.limit.max(1)))
        .await?
        .try_collect()
        .await?;
    let mut erased = Erased { more: found.len() >= erase.limit, ..Erased::default() };
    let ids: Vec<Bson> = found.into_iter().filter_map(|mut row| row.remove("_id")).collect();
    if ids.is_empty() {
        return Ok(erased);
    }
    let mark = doc! { "erasing": true };
    let whole = doc! { "_id": { "$in": ids.clone() }, "erased_at": { "$exists": false } };
    let empty = doc! {
        "$set": { "body": blob(Vec::new()), "erased_at": ms(erase.now) },
        "$currentDate": mark.clone(),
    };
    erased.events = store.lasting(EVENT).update_many(whole, empty).await?.modified_count;
    if erased.events < ids.len() as u64 {
        let marked = doc! { "_id": { "$in": ids.clone() }, "erasing": { "$exists": true } };
        store.light(EVENT).update_many(marked, doc! { "$currentDate": mark }).await?;
    }
    erase_deliveries(store, ids, erase.now, &mut erased).await?;
    Ok(erased)
}

/// Takes what still lies in the outbox in without deliveries, so that it is never relayed.
async fn take_waiting(store: &MongoStore, wanted: &Document) -> Result<(), Failure> {
    let mut waiting = outbox::matching(store, wanted.clone()).await?;
    if waiting.is_empty() {
        return Ok(());
    }
    waiting.iter_mut().for_each(|event| drop(event.insert("fan_out", 0_i64)));
    batch::insert(store.lasting(EVENT), &waiting).await?;
    let ids: Vec<Bson> = waiting.iter().filter_map(|event| event.get("_id").cloned()).collect();
    store.lasting(OUTBOX).delete_many(doc! { "_id": { "$in": ids } }).await?;
    Ok(())
}

/// Erases what the deliveries of marked events tell, and takes the marks away.
async fn erase_deliveries(
    store: &MongoStore,
    events: Vec<Bson>,
    now: Timestamp,
    erased: &mut Erased,
) -> Result<(), Failure> {
    // Those whose publisher has not made them yet.
    finish::these(store, events.clone()).await?;
    let of_events = doc! { "event": { "$in": events.clone() } };
    let mut unmarked = of_events.clone();
    unmarked.extend(doc! { "state": "leased", "erasing": { "$exists": false } });
    let mark = doc! { "$set": { "erasing": true } };
    loop {
        store.lasting(DELIVERY).update_many(unmarked.clone(), mark.clone()).await?;
        let rows = store.all(DELIVERY, of_events.clone(), told_fields()).await?;
        let is =
            |state: &'static str| move |row: &&Document| row.maybe_text("state") == Some(state);
        let (leased, others): (Vec<&Document>, Vec<&Document>) =
            rows.iter().partition(is("leased"));
        let ready: Vec<&Document> = others.iter().copied().filter(is("ready")).collect();
        let called_off = call_off(store, &ready, now).await?;
        erased.cancelled += called_off;
        erased.attempts += scrub(store, &others).await?;
        // One that was claimed since it was read, or before that and after the marking, is marked by
        // the next turn.
        let marked = leased.iter().all(|row| row.contains_key("erasing"));
        if marked && called_off == ready.len() as u64 {
            erased.under_way += leased.len() as u64;
            break;
        }
    }
    let done = doc! { "$unset": { "erasing": "", "subject": "" } };
    let marked = doc! { "_id": { "$in": events }, "erasing": { "$exists": true } };
    store.light(EVENT).update_many(marked, done).await?;
    Ok(())
}

fn told_fields() -> Document {
    doc! { "notices": 0, "owed": 0, "notes": 0 }
}

async fn call_off(store: &MongoStore, ready: &[&Document], now: Timestamp) -> Result<u64, Failure> {
    let ready = ready.iter().copied().map(row::delivery).collect::<Result<Vec<Delivery>>>()?;
    let ready: Vec<&Delivery> = ready.iter().collect();
    cancel::call_off(store, &ready, &EndReason::new("erased", ""), now).await
}

/// Erases what ended deliveries tell; answers how many attempts had captured something.
async fn scrub(store: &MongoStore, rows: &[&Document]) -> Result<u64, Failure> {
    if rows.is_empty() {
        return Ok(0);
    }
    let tells = |attempt: &&Document| {
        ["exchange", "message", "transcript"].iter().any(|key| attempt.contains_key(key))
    };
    let captured = rows.iter().flat_map(|row| row.documents("attempts")).filter(tells);
    let captured = captured.count() as u64;
    let ids: Vec<Bson> = rows.iter().filter_map(|row| row.get("_id").cloned()).collect();
    let rows = doc! { "_id": { "$in": ids }, "state": { "$ne": "leased" } };
    let quiet = |field: &str| {
        let mut filter = rows.clone();
        filter.insert(field, doc! { "$exists": true });
        filter
    };
    let rows_of = store.lasting(DELIVERY);
    let bare = doc! { "$unset": {
        "attempts.$[].exchange": "", "attempts.$[].message": "",
        "attempts.$[].transcript": "", "notes": "", "judge_at": "",
    } };
    rows_of.update_many(quiet("attempts"), bare).await?;
    let silent = doc! { "$unset": { "notes": "", "judge_at": "" } };
    rows_of.update_many(rows.clone(), silent).await?;
    for field in ["reason.message", "abandoned.reason.message"] {
        rows_of.update_many(quiet(field), doc! { "$set": { field: "" } }).await?;
    }
    Ok(captured)
}

async fn finish_some(store: &MongoStore, limit: usize, now: Timestamp) -> Result<u64, Failure> {
    // A mark of a build that kept no date there counts as old.
    let latest = doc! { "$subtract": ["$$NOW", BROKEN_OFF] };
    let broken_off = doc! {
        "erasing": { "$exists": true },
        "$expr": { "$lte": ["$erasing", latest] },
    };
    let marked = store.all(EVENT, broken_off, doc! { "_id": 1 }).await?;
    let marked: Vec<Bson> = marked.into_iter().filter_map(|mut row| row.remove("_id")).collect();
    if !marked.is_empty() {
        erase_deliveries(store, marked, now, &mut Erased::default()).await?;
    }
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(doc! { "erasing": true, "state": { "$ne": "leased" } })
        .projection(told_fields())
        .limit(count(limit.max(1)))
        .await?
        .try_collect()
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let ready = found.iter().filter(|row| row.maybe_text("state") == Some("ready"));
    call_off(store, &ready.collect::<Vec<_>>(), now).await?;
    scrub(store, &found.iter().collect::<Vec<_>>()).await?;
    let ids = found.iter().map(|row| row.id("_id").map(DeliveryId::from_bytes));
    let ids = bins(ids.collect::<Result<Vec<_>>>()?, DeliveryId::to_bytes);
    let done = doc! { "$unset": { "erasing": "" } };
    let ended = doc! { "_id": { "$in": ids }, "state": { "$ne": "leased" } };
    store.light(DELIVERY).update_many(ended, done).await?;
    Ok(found.len() as u64)
}
