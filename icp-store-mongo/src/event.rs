use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::error::Result;
use icp_core::event::{Event, EventQuery, EventStore, EventSummary, Ingest, Ingested, OutboxEntry};
use icp_core::id::{EventId, OrgId};
use icp_core::store::Page;
use mongodb::bson::{Document, doc};

use super::error::{Failure, told};
use super::row::{self, Fields, bin, more_than, ms};
use super::store::{EVENT, MongoStore};
use super::{ingest, outbox};

#[async_trait]
impl EventStore for MongoStore {
    async fn ingest(&self, batch: Ingest) -> Result<Vec<Ingested>> {
        told("ingest", ingest::ingest(self, &batch).await)
    }

    async fn event(&self, org: &OrgId, id: EventId) -> Result<Option<Event>> {
        told("read an event", event(self, org, id).await)
    }

    async fn events(&self, org: &OrgId, query: &EventQuery) -> Result<Page<EventSummary>> {
        told("list events", events(self, org, query).await)
    }

    async fn outbox(&self, without: &[OrgId], limit: usize) -> Result<Vec<OutboxEntry>> {
        told("read the outbox", outbox::list(self, without, limit).await)
    }
}

async fn event(store: &MongoStore, org: &OrgId, id: EventId) -> Result<Option<Event>, Failure> {
    let filter = doc! { "_id": bin(id.to_bytes()), "org": org.as_str() };
    let found = store.light(EVENT).find_one(filter).projection(row::plain_event()).await?;
    Ok(found.as_ref().map(row::event).transpose()?)
}

async fn events(
    store: &MongoStore,
    org: &OrgId,
    query: &EventQuery,
) -> Result<Page<EventSummary>, Failure> {
    let mut filter = doc! { "org": org.as_str() };
    if let Some(after) = query.page.after {
        filter.insert("_id", doc! { "$lt": bin(after.to_bytes()) });
    }
    if let Some(kind) = &query.event_type {
        filter.insert("type", kind.as_str());
    }
    if let Some(key) = &query.idempotency_key {
        filter.insert("idempotency_key", key.as_str());
    }
    let mut range = Document::new();
    row::put(&mut range, "$gte", query.since.map(ms));
    row::put(&mut range, "$lt", query.until.map(ms));
    row::put(&mut filter, "received_at", Some(range).filter(|range| !range.is_empty()));
    let fields = doc! {
        "type": 1, "unit": 1, "content_type": 1, "received_at": 1, "fan_out": 1, "further": 1,
        "body_size": { "$binarySize": "$body" },
    };
    let found: Vec<Document> = store
        .light(EVENT)
        .find(filter)
        .sort(doc! { "org": -1, "_id": -1 })
        .limit(more_than(query.page.limit))
        .projection(fields)
        .await?
        .try_collect()
        .await?;
    let items = found.iter().map(summary).collect::<Result<_>>()?;
    Ok(Page::cut(items, query.page.limit))
}

fn summary(found: &Document) -> Result<EventSummary> {
    let further = u32::try_from(found.list("further").len()).unwrap_or(u32::MAX);
    Ok(EventSummary::restore(
        EventId::from_bytes(found.id("_id")?),
        found.named("type")?,
        found.contains_key("unit").then(|| found.named("unit")).transpose()?,
        found.text("content_type")?.into(),
        found.int("body_size")?.unsigned_abs(),
        found.time("received_at")?,
        found.small("fan_out")?.saturating_add(further),
    ))
}
