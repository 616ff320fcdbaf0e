//! The events of a range, as a replay walks them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::TryStreamExt;
use icp_core::event::Event;
use icp_core::id::{DeliveryId, EventId};
use icp_core::replay::{EventRange, ReplayScan, ReplayScanned, ScannedEvent, Standing};
use mongodb::bson::{Document, doc};

use super::error::Failure;
use super::row::{self, Fields, bin, bins, more_than, ms};
use super::store::{DELIVERY, EVENT, MongoStore};

/// The filter of a range's events between two ids, both exclusive.
fn within(range: &EventRange, after: EventId, before: EventId) -> Document {
    doc! {
        "org": range.org.as_str(),
        "_id": { "$gt": bin(after.to_bytes()), "$lt": bin(before.to_bytes()) },
        "received_at": { "$gte": ms(range.since), "$lt": ms(range.until) },
    }
}

pub(crate) async fn look(store: &MongoStore, scan: &ReplayScan) -> Result<ReplayScanned, Failure> {
    let (first, last) = scan.range.ids();
    let after = scan.after.map_or(first, |after| after.max(first));
    let mut found = store
        .light(EVENT)
        .find(within(&scan.range, after, last))
        .sort(doc! { "org": 1, "_id": 1 })
        .limit(more_than(scan.limit))
        .projection(row::plain_event())
        .batch_size(100)
        .await?;
    let mut events: Vec<Arc<Event>> = Vec::new();
    let (mut bytes, mut more) = (0, false);
    while let Some(found) = found.try_next().await? {
        if events.len() >= scan.limit || (bytes >= scan.bytes && !events.is_empty()) {
            more = true;
            break;
        }
        let event = row::event(&found)?;
        bytes += event.body.len();
        events.push(Arc::new(event));
    }
    let mut standings = standings(store, &events).await?;
    let events = events.into_iter().map(|event| {
        let deliveries = standings.remove(&event.id).unwrap_or_default();
        ScannedEvent { event, deliveries: deliveries.into_values().collect() }
    });
    Ok(ReplayScanned { events: events.collect(), more })
}

async fn standings(
    store: &MongoStore,
    events: &[Arc<Event>],
) -> Result<HashMap<EventId, BTreeMap<DeliveryId, Standing>>, Failure> {
    let ids = bins(events.iter().map(|event| event.id), EventId::to_bytes);
    let fields = doc! { "event": 1, "integration": 1, "state": 1 };
    let mut standings: HashMap<EventId, BTreeMap<DeliveryId, Standing>> = HashMap::new();
    for row in store.all(DELIVERY, doc! { "event": { "$in": ids } }, fields).await? {
        let delivery = DeliveryId::from_bytes(row.id("_id")?);
        let (integration, state) = (row.named("integration")?, row.named("state")?);
        let of = standings.entry(EventId::from_bytes(row.id("event")?)).or_default();
        of.insert(delivery, Standing { delivery, integration, state });
    }
    Ok(standings)
}

pub(crate) async fn count_some(
    store: &MongoStore,
    range: &EventRange,
    most: u64,
) -> Result<u64, Failure> {
    let (first, last) = range.ids();
    if most == 0 {
        return Ok(0);
    }
    Ok(store.light(EVENT).count_documents(within(range, first, last)).limit(most).await?)
}
