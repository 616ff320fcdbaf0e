use futures_util::TryStreamExt;
use icp_core::error::{Code, Error, Result};
use icp_core::event::{Event, OutboxEntry};
use icp_core::id::{DeliveryId, EventId, OrgId};
use mongodb::ClientSession;
use mongodb::bson::{Document, doc};

use super::batch;
use super::error::{Failure, told};
use super::row::{self, Fields, bins, count};
use super::store::{DELIVERY, MongoStore, OUTBOX};

impl MongoStore {
    /// Puts `event` into the outbox within the host's own transaction on `session`, which is one
    /// of [`client`](Self::client) or of the client the store was made with.
    ///
    /// Nothing happens to it before that transaction commits, and nothing ever if it is aborted.
    /// Call [`hint`](Self::hint) after the commit to have it picked up at once. The same event put
    /// in twice counts once. Outside of a transaction the write stands on its own.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Code::Unsupported) on a standalone server, which has no transactions; else
    /// as for the host's own writes: the driver's error, with the labels that tell whether the
    /// transaction can be tried again, is the source.
    pub async fn publish_in(&self, session: &mut ClientSession, event: &Event) -> Result<EventId> {
        if !self.0.replicated {
            let message = "a standalone server has no transactions; start it as a replica set of \
                           one member (`--replSet`), or publish through the engine";
            return Err(Error::new(Code::Unsupported, message).during("publish"));
        }
        let mut document = row::event_document(event);
        let id = document.remove("_id");
        let name = self.name(OUTBOX);
        let once = doc! { "$setOnInsert": document };
        let put = self
            .0
            .db
            .collection::<Document>(&name)
            .update_one(doc! { "_id": id }, once)
            .upsert(true)
            .session(session)
            .await;
        told("publish", put.map_err(Failure::from))?;
        Ok(event.id)
    }
}

/// The oldest rows, but for those of the organizations `without`.
pub(crate) async fn list(
    store: &MongoStore,
    without: &[OrgId],
    limit: usize,
) -> Result<Vec<OutboxEntry>, Failure> {
    let mut filter = doc! {};
    if !without.is_empty() {
        let orgs: Vec<_> = without.iter().map(OrgId::as_str).collect();
        filter.insert("org", doc! { "$nin": orgs });
    }
    let rows: Vec<Document> = store
        .committed(OUTBOX)
        .find(filter)
        .sort(doc! { "_id": 1 })
        .limit(count(limit.max(1)))
        .await?
        .try_collect()
        .await?;
    rows.iter().map(|found| Ok(OutboxEntry { event: row::event(found)? })).collect()
}

/// Puts operational events that were written with outcomes into the outbox.
pub(crate) async fn relay_notices(
    store: &MongoStore,
    deliveries: impl Iterator<Item = DeliveryId>,
) -> Result<(), Failure> {
    let ids = bins(deliveries, DeliveryId::to_bytes);
    let filter = doc! { "_id": { "$in": ids }, "notices._id": { "$exists": true } };
    relay(store, filter, usize::MAX).await
}

/// Finishes what was broken off between an outcome and its notice.
pub(crate) async fn finish_notices(store: &MongoStore, limit: usize) -> Result<(), Failure> {
    relay(store, doc! { "notices._id": { "$exists": true } }, limit).await
}

async fn relay(store: &MongoStore, filter: Document, limit: usize) -> Result<(), Failure> {
    let limit = count(limit);
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(filter)
        .projection(doc! { "notices": 1 })
        .limit(if limit == i64::MAX { 0 } else { limit })
        .await?
        .try_collect()
        .await?;
    if found.is_empty() {
        return Ok(());
    }
    let notices: Vec<Document> =
        found.iter().flat_map(|row| row.documents("notices")).cloned().collect();
    batch::insert(store.lasting(OUTBOX), &notices).await?;
    // A notice that comes later belongs to a later lease, which this one's end came before.
    let sent = notices.iter().filter_map(|notice| notice.get("_id").cloned());
    let sent: Vec<_> = sent.collect();
    let ids: Vec<_> = found.iter().filter_map(|row| row.get("_id").cloned()).collect();
    let rows = doc! { "_id": { "$in": ids } };
    let pull = doc! { "$pull": { "notices": { "_id": { "$in": sent } } } };
    store.light(DELIVERY).update_many(rows.clone(), pull).await?;
    let empty = doc! { "_id": rows.get("_id"), "notices": { "$size": 0 } };
    store.light(DELIVERY).update_many(empty, doc! { "$unset": { "notices": "" } }).await?;
    store.0.hint.notify_one();
    Ok(())
}

/// Takes rows out that are to be erased; answers their documents.
pub(crate) async fn matching(
    store: &MongoStore,
    filter: Document,
) -> Result<Vec<Document>, Failure> {
    let rows: Vec<Document> = store.committed(OUTBOX).find(filter).await?.try_collect().await?;
    rows.iter().try_for_each(|found| found.id("_id").map(drop))?;
    Ok(rows)
}
