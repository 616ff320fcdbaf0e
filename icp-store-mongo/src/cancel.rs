use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::{
    CancelBatch, CancelPlace, CancelStore, CancelledSome, Delivery, DeliveryFilter, DeliveryState,
    EndReason, LaneId,
};
use icp_core::error::Result;
use icp_core::event::EventType;
use icp_core::id::{DeliveryId, EventId, OrgId, ResourceId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::{Failure, told};
use super::row::{self, Fields, bin, bins, count, ms};
use super::sleep;
use super::store::{DELIVERY, EVENT, LANE, MongoStore};

#[async_trait]
impl CancelStore for MongoStore {
    async fn cancel_some(&self, batch: CancelBatch) -> Result<CancelledSome> {
        told("cancel deliveries", cancel_some(self, &batch).await)
    }

    async fn leased(&self, org: &OrgId, filter: &DeliveryFilter) -> Result<u64> {
        told("count leased deliveries", leased(self, org, filter).await)
    }
}

async fn cancel_some(store: &MongoStore, batch: &CancelBatch) -> Result<CancelledSome, Failure> {
    let looked = ready_after(store, batch).await?;
    let next = looked.last().map(|row| CancelPlace {
        integration: row.integration.clone(),
        lane: row.lane,
        due_at: row.due_at,
        delivery: row.id,
    });
    let types = types(store, &batch.filter, &looked).await?;
    let wanted: Vec<&Delivery> =
        looked.iter().filter(|row| takes(&batch.filter, row, &types)).collect();
    let matched = match &batch.reason {
        Some(reason) => call_off(store, &wanted, reason, batch.now).await?,
        None => wanted.len() as u64,
    };
    Ok(CancelledSome { matched, next })
}

/// The next ready deliveries in the order of the walk.
async fn ready_after(store: &MongoStore, batch: &CancelBatch) -> Result<Vec<Delivery>, Failure> {
    let mut rows = Vec::new();
    let mut at = batch.after.as_ref().map(|after| (after.integration.clone(), after.lane));
    if let Some(after) = &batch.after {
        let later = vec![
            doc! { "due_at": { "$gt": ms(after.due_at) } },
            doc! { "due_at": ms(after.due_at), "_id": { "$gt": bin(after.delivery.to_bytes()) } },
        ];
        let rest = doc! { "lane": bin(after.lane.to_bytes()), "state": "ready", "$or": later };
        rows = ready(store, rest, batch.limit).await?;
    }
    let only = batch.filter.only_lane(&batch.org);
    while rows.len() < batch.limit {
        let lanes = lanes_after(store, &batch.org, only, at.as_ref()).await?;
        let Some(last) = lanes.last() else { break };
        at = Some(last.clone());
        let ids = bins(lanes.iter().map(|(_, lane)| *lane), LaneId::to_bytes);
        let filter = doc! { "lane": { "$in": ids }, "state": "ready" };
        let mut waiting: HashMap<LaneId, ()> = HashMap::new();
        for lane in store.light(DELIVERY).distinct("lane", filter).await? {
            if let Bson::Binary(id) = lane
                && let Ok(id) = id.bytes.as_slice().try_into()
            {
                waiting.insert(LaneId::from_bytes(id), ());
            }
        }
        for (_, lane) in lanes.iter().filter(|(_, lane)| waiting.contains_key(lane)) {
            let left = batch.limit - rows.len();
            if left == 0 {
                break;
            }
            let filter = doc! { "lane": bin(lane.to_bytes()), "state": "ready" };
            rows.extend(ready(store, filter, left).await?);
        }
    }
    Ok(rows)
}

async fn ready(
    store: &MongoStore,
    filter: Document,
    limit: usize,
) -> Result<Vec<Delivery>, Failure> {
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(filter)
        .sort(doc! { "lane": 1, "due_at": 1, "_id": 1 })
        .projection(row::without_attempts())
        .limit(count(limit.max(1)))
        .await?
        .try_collect()
        .await?;
    Ok(found.iter().map(row::delivery).collect::<Result<_>>()?)
}

/// The next lanes of the organization in the order of the walk.
async fn lanes_after(
    store: &MongoStore,
    org: &OrgId,
    only: Option<LaneId>,
    after: Option<&(ResourceId, LaneId)>,
) -> Result<Vec<(ResourceId, LaneId)>, Failure> {
    let mut filter = doc! { "org": org.as_str() };
    if let Some((integration, lane)) = after {
        let later = vec![
            doc! { "integration": integration.as_str(), "_id": { "$gt": bin(lane.to_bytes()) } },
            doc! { "integration": { "$gt": integration.as_str() } },
        ];
        filter.insert("$or", later);
    }
    if let Some(only) = only {
        filter = doc! { "$and": [filter, { "_id": bin(only.to_bytes()) }] };
    }
    let found: Vec<Document> = store
        .light(LANE)
        .find(filter)
        .sort(doc! { "org": 1, "integration": 1, "_id": 1 })
        .projection(doc! { "integration": 1 })
        .limit(LANES)
        .await?
        .try_collect()
        .await?;
    let lanes = found
        .iter()
        .map(|lane| Ok((lane.named("integration")?, LaneId::from_bytes(lane.id("_id")?))));
    lanes.collect()
}

/// How many lanes are looked at together.
const LANES: i64 = 500;

/// The types of the deliveries' events, where the filter asks for one.
async fn types(
    store: &MongoStore,
    filter: &DeliveryFilter,
    rows: &[Delivery],
) -> Result<Option<HashMap<EventId, EventType>>, Failure> {
    if filter.event_type.is_none() {
        return Ok(None);
    }
    let ids = bins(rows.iter().map(|row| row.event), EventId::to_bytes);
    let mut types = HashMap::new();
    for found in store.all(EVENT, doc! { "_id": { "$in": ids } }, doc! { "type": 1 }).await? {
        types.insert(EventId::from_bytes(found.id("_id")?), found.named("type")?);
    }
    Ok(Some(types))
}

fn takes(
    filter: &DeliveryFilter,
    row: &Delivery,
    types: &Option<HashMap<EventId, EventType>>,
) -> bool {
    match types {
        Some(types) => types.get(&row.event).is_some_and(|of| filter.takes(row, of)),
        None => {
            // The type is not asked for, so that any is as good.
            let any = filter.event_type.clone().or_else(|| EventType::new("any").ok());
            any.is_some_and(|any| filter.takes(row, &any))
        }
    }
}

/// Calls off those that are still ready; answers how many.
pub(crate) async fn call_off(
    store: &MongoStore,
    rows: &[&Delivery],
    reason: &EndReason,
    now: Timestamp,
) -> Result<u64, Failure> {
    if rows.is_empty() {
        return Ok(0);
    }
    let ids = bins(rows.iter().map(|row| row.id), DeliveryId::to_bytes);
    let ready = doc! { "_id": { "$in": ids }, "state": "ready" };
    let set = doc! {
        "state": DeliveryState::Cancelled.as_str(),
        "reason": row::reason(reason),
        "updated_at": ms(now),
    };
    sleep::end(store, ready, set, now).await
}

async fn leased(store: &MongoStore, org: &OrgId, filter: &DeliveryFilter) -> Result<u64, Failure> {
    let under_way = doc! { "owner": { "$exists": true }, "org": org.as_str() };
    let found = store.all(DELIVERY, under_way, row::without_attempts()).await?;
    let rows = found.iter().map(row::delivery).collect::<Result<Vec<_>>>()?;
    let types = types(store, filter, &rows).await?;
    Ok(rows.iter().filter(|row| takes(filter, row, &types)).count() as u64)
}
