use async_trait::async_trait;
use icp_core::delivery::health::Meter;
use icp_core::delivery::{LaneBacklog, LaneId, LaneStore, LaneTotals};
use icp_core::error::Result;
use icp_core::id::{OrgId, ResourceId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, doc};

use super::error::{Failure, told};
use super::row::{self, Fields, bin};
use super::store::{DELIVERY, LANE, MongoStore};
use super::{lane, meter};

#[async_trait]
impl LaneStore for MongoStore {
    async fn backlogs(&self, org: &OrgId, lanes: &[LaneId]) -> Result<Vec<LaneBacklog>> {
        told("list backlogs", backlogs(self, org, lanes).await)
    }

    async fn meters(&self, org: &OrgId) -> Result<Vec<(ResourceId, Meter)>> {
        told("list meters", meter::of_org(self, org).await)
    }

    async fn lane_totals(&self, now: Timestamp) -> Result<LaneTotals> {
        told("sum up lanes", totals(self, now).await)
    }
}

async fn backlogs(
    store: &MongoStore,
    org: &OrgId,
    lanes: &[LaneId],
) -> Result<Vec<LaneBacklog>, Failure> {
    let lanes: Vec<Bson> = lanes.iter().map(|lane| bin(lane.to_bytes())).collect();
    let found = store
        .aggregate(
            DELIVERY,
            vec![
                doc! { "$match": {
                    "state": "ready", "lane": { "$in": lanes }, "org": org.as_str(),
                } },
                doc! { "$group": {
                    "_id": "$lane",
                    "waiting": { "$sum": 1_i64 },
                    "first_due": { "$min": "$due_at" },
                } },
            ],
        )
        .await?;
    let backlogs = found.iter().map(|found| {
        Ok(LaneBacklog {
            lane: LaneId::from_bytes(found.id("_id")?),
            waiting: found.int("waiting")?.unsigned_abs(),
            first_due: found.time("first_due")?,
        })
    });
    let mut backlogs = backlogs.collect::<Result<Vec<_>, Failure>>()?;
    backlogs.sort_by_key(|backlog| backlog.lane);
    Ok(backlogs)
}

async fn totals(store: &MongoStore, now: Timestamp) -> Result<LaneTotals, Failure> {
    let mut totals = LaneTotals::default();
    let ill = store.all(LANE, doc! { "ill": true }, lane::plain()).await?;
    let waits = doc! { "blocked_until": { "$exists": true }, "ill": { "$exists": false } };
    for lane in ill.iter().chain(&store.all(LANE, waits, lane::plain()).await?) {
        totals.count(&row::lane(lane)?, now);
    }
    let firsts = store
        .aggregate(
            DELIVERY,
            vec![
                doc! { "$match": { "state": "ready" } },
                doc! { "$sort": { "lane": 1, "due_at": 1, "_id": 1 } },
                doc! { "$group": { "_id": "$lane", "due": { "$first": "$due_at" } } },
                doc! { "$group": { "_id": Bson::Null, "due": { "$min": "$due" } } },
            ],
        )
        .await?;
    totals.first_due = firsts.first().and_then(|first| first.maybe_time("due"));
    Ok(totals)
}
