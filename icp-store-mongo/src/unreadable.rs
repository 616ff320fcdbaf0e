//! Deliveries that cannot be read, and those whose event cannot. Left where they are, they would
//! end every claim that meets them, and with it those of all other lanes.

use std::sync::atomic::{AtomicU64, Ordering};

use icp_core::delivery::{Delivery, EndReason, Settle};
use icp_core::error::Code;
use icp_core::id::DeliveryId;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::Failure;
use super::row::{self, Fields, ms};
use super::store::{DELIVERY, MongoStore};
use super::{settle, sleep};

/// Ends deliveries as dead letters that no round repeats: nothing of them is lost, and whoever
/// mends the document can replay it. Adds how many it ended to `ended`. What changes meanwhile is
/// left as it is.
pub(crate) async fn end(
    store: &MongoStore,
    spoilt: &[&Document],
    ended: &AtomicU64,
    now: Timestamp,
) -> Result<(), Failure> {
    let reason = EndReason::new("unreadable", "the store cannot read it");
    let set = doc! { "state": "dead", "reason": row::reason(&reason), "updated_at": ms(now) };
    let unset = doc! { "line": "", "owner": "", "lease_until": "", "judge_at": "" };
    let mut behind = false;
    for row in spoilt {
        let Some(id) = row.get("_id") else { continue };
        let mut set = set.clone();
        if let Some(lane) = row.get("line") {
            // What waits behind it had no moment of its own to wake its lane.
            set.insert("stir", lane.clone());
            behind = true;
        }
        let mut same = doc! { "_id": id.clone() };
        for field in ["state", "epoch"] {
            same.insert(field, row.get(field).cloned().unwrap_or(Bson::Null));
        }
        let change = doc! { "$set": set, "$unset": unset.clone() };
        if store.lasting(DELIVERY).update_one(same, change).await?.matched_count > 0 {
            ended.fetch_add(1, Ordering::Relaxed);
            tell(row, id);
        }
    }
    if behind {
        sleep::stir(store, usize::MAX, now).await?;
    }
    Ok(())
}

fn tell(row: &Document, id: &Bson) {
    let name = match row.id("_id") {
        Ok(id) => DeliveryId::from_bytes(id).to_string(),
        Err(_) => id.to_string(),
    };
    tracing::error!(
        icp.delivery.id = name,
        icp.error = Code::StoreCorrupt.as_str(),
        "a delivery cannot be read; it ended as a dead letter, to be replayed once its document is \
         mended"
    );
}

/// Ends what has lost its event.
pub(crate) async fn give_up(
    store: &MongoStore,
    lost: &[Delivery],
    now: Timestamp,
) -> Result<(), Failure> {
    tracing::error!(icp.deliveries = lost.len(), "deliveries have lost their events");
    settle::settle(store, &Settle::event_lost(lost, now)).await.map(drop)
}
