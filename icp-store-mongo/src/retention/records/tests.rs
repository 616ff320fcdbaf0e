//! Pruners that meet.

use std::time::Duration;

use icp_core::delivery::{Claim, DeliveryStore, Lease, Next, Settle, Settlement};
use icp_core::event::{EventStore, Ingest};
use icp_core::id::OrgId;
use icp_core::retention::What;
use icp_core::time::Timestamp;

use super::*;
use crate::audit::audit;
use crate::fixture::{NOW, SESSION, item, store};

const LATER: Timestamp = Timestamp::MAX;

/// Deliveries of long ago go, events stay.
const CUTOFFS: Cutoffs =
    Cutoffs { events: Timestamp::EPOCH, deliveries: LATER, dead_letters: LATER };

/// Three events of one organization, with a delivered delivery each.
async fn delivered(store: &MongoStore) -> Prune {
    let items = [1, 4, 7].map(item);
    let org = items[0].event.org.clone();
    store.open_session(SESSION, NOW).await.unwrap();
    store.ingest(Ingest { items: items.into(), direct: None, now: NOW }).await.unwrap();
    loop {
        let (limit, lease_until) = (9, NOW + Duration::from_secs(9));
        let without = [].into();
        let claim = Claim { session: SESSION, now: NOW, lease_until, limit, per_lane: 9, without };
        let claimed = store.claim(claim).await.unwrap().deliveries;
        if claimed.is_empty() {
            break;
        }
        let settlements = claimed.iter().map(|claimed| Settlement {
            lease: Lease { delivery: claimed.delivery.id, epoch: claimed.delivery.epoch },
            lane: claimed.delivery.lane,
            attempt: None,
            next: Next::Delivered,
            block_lane_until: None,
            notice: None,
        });
        store.settle(Settle { settlements: settlements.collect(), now: NOW }).await.unwrap();
    }
    Prune { org, what: What::Records(CUTOFFS), after: None, limit: 9, now: NOW }
}

async fn events(store: &MongoStore, org: &OrgId) -> Vec<Document> {
    store.all(EVENT, doc! { "org": org.as_str() }, doc! {}).await.unwrap()
}

#[tokio::test]
async fn what_another_pruner_removed_meanwhile_is_counted_once() {
    let store = store("late_pruner").await;
    let call = delivered(&store).await;
    let events = events(&store, &call.org).await;
    let events: Vec<&Document> = events.iter().collect();
    let mut late = old_deliveries(&store, &events, &CUTOFFS, 90).await.unwrap();
    assert_eq!(late.len(), 3);

    let quick = prune(&store, &call, &CUTOFFS).await.unwrap();
    assert_eq!((quick.deliveries, quick.next), (3, None));

    let mut pruned = Pruned::default();
    remove_rows(&store, &events, &mut late, &mut pruned).await.unwrap();
    assert_eq!((pruned.deliveries, late.len()), (0, 0));
    let audit = audit(&store).await.unwrap();
    assert_eq!((audit.deliveries, audit.fan_out_wrong), (0, 0), "{audit:?}");
    store.database().drop().await.unwrap();
}

#[tokio::test]
async fn what_a_pruner_left_undone_is_done_by_the_next() {
    let store = store("lost_pruner").await;
    let call = delivered(&store).await;
    let all = events(&store, &call.org).await;
    let read: Vec<&Document> = all.iter().collect();
    let mut old = old_deliveries(&store, &read, &CUTOFFS, 90).await.unwrap();
    list(&store, &read, &mut old, &ObjectId::new().into()).await.unwrap();
    // One that listed before there was a name to list under.
    let nameless = doc! { "$unset": { "pruner": "" } };
    store.light(EVENT).update_one(doc! { "_id": bin([4; 16]) }, nameless).await.unwrap();

    prune(&store, &call, &CUTOFFS).await.unwrap();
    let audit = audit(&store).await.unwrap();
    assert_eq!((audit.deliveries, audit.fan_out_wrong), (0, 0), "{audit:?}");
    for event in events(&store, &call.org).await {
        assert_eq!(event.maybe_int("pruned"), Some(1));
        assert!(!event.contains_key("pruning") && !event.contains_key("pruner"), "{event}");
    }
    store.database().drop().await.unwrap();
}
