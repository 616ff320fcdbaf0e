//! The deliveries that wait in lanes, in the order in which they go.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use futures_util::future::try_join;
use icp_core::delivery::{Delivery, LaneId, LaneMode};
use icp_core::error::Error;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::{Failure, contended};
use super::lane::Seen;
use super::row::{self, Fields, bins, count};
use super::store::{DELIVERY, LANE, MongoStore};
use super::unreadable;

/// How often lanes are looked at where deliveries in front cannot be read.
const ROUNDS: usize = 1_000;

/// The first `depth` deliveries of each lane in the order in which they go: of parallel lanes
/// those that are ready, of fifo lanes those that are open. Those that cannot be read end, and are
/// counted in `ended`.
pub(crate) async fn heads(
    store: &MongoStore,
    lanes: &[Seen],
    depth: usize,
    now: Timestamp,
    ended: &AtomicU64,
) -> Result<HashMap<[u8; 16], Vec<Delivery>>, Failure> {
    let of = |mode: LaneMode| {
        let lanes = lanes.iter().filter(move |seen| seen.lane.mode == mode);
        bins(lanes.map(|seen| seen.lane.id), LaneId::to_bytes)
    };
    let (parallel, fifo) = (of(LaneMode::Parallel), of(LaneMode::Fifo));
    for _ in 0..ROUNDS {
        let found = look(store, parallel.clone(), fifo.clone(), depth).await?;
        let queued = found.iter().flat_map(|lane| lane.documents("queue"));
        let spoilt: Vec<&Document> = queued.filter(|row| row::delivery(row).is_err()).collect();
        if spoilt.is_empty() {
            return found.iter().map(queue_of).collect();
        }
        // What is behind them has been left out, so that lanes are looked at again.
        unreadable::end(store, &spoilt, ended, now).await?;
    }
    Err(contended().into())
}

fn queue_of(lane: &Document) -> Result<([u8; 16], Vec<Delivery>), Failure> {
    let queue = lane.documents("queue").into_iter().map(row::delivery);
    Ok((lane.id("_id")?, queue.collect::<Result<_, Error>>()?))
}

async fn look(
    store: &MongoStore,
    parallel: Vec<Bson>,
    fifo: Vec<Bson>,
    depth: usize,
) -> Result<Vec<Document>, Failure> {
    let ready =
        vec![doc! { "$match": { "state": "ready" } }, doc! { "$sort": { "due_at": 1, "_id": 1 } }];
    let line = vec![doc! { "$sort": { "_id": 1 } }];
    let (parallel, fifo) = try_join(
        look_along(store, parallel, "lane", ready, depth),
        look_along(store, fifo, "line", line, 2),
    )
    .await?;
    Ok(parallel.into_iter().chain(fifo).collect())
}

/// The first deliveries of each of the lanes, as `queue`, by an index that begins with `field`.
pub(crate) async fn look_along(
    store: &MongoStore,
    lanes: Vec<Bson>,
    field: &str,
    mut order: Vec<Document>,
    depth: usize,
) -> Result<Vec<Document>, Failure> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    order.push(doc! { "$limit": count(depth) });
    order.push(doc! { "$project": row::without_attempts() });
    store.aggregate(LANE, along(store, lanes, field, order)).await
}

pub(crate) fn along(
    store: &MongoStore,
    lanes: Vec<Bson>,
    field: &str,
    order: Vec<Document>,
) -> Vec<Document> {
    vec![
        doc! { "$match": { "_id": { "$in": lanes } } },
        doc! { "$project": { "_id": 1 } },
        doc! { "$lookup": {
            "from": store.name(DELIVERY),
            "localField": "_id",
            "foreignField": field,
            "pipeline": order,
            "as": "queue",
        } },
    ]
}
