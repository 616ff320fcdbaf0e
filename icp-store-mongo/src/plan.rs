//! No query of the hot path scans a collection.

use std::time::Duration;

use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::resource::{ResourceStore, Revision};
use icp_core::store::PageQuery;
use mongodb::bson::{Bson, Document, doc};

use super::fixture::{NOW, SESSION, item, store};
use super::queue::along;
use super::row::Fields;
use super::store::{LANE, MongoStore};

/// What an engine does all day.
async fn day(store: &MongoStore) {
    store.open_session(SESSION, NOW).await.unwrap();
    let direct = Direct { session: SESSION, budget: 1, lease_until: NOW + Duration::from_secs(9) };
    let items = (0..40).map(item).collect();
    store.ingest(Ingest { items, direct: Some(direct), now: NOW }).await.unwrap();
    let lease_until = NOW + Duration::from_secs(9);
    let claim = Claim {
        session: SESSION,
        now: NOW,
        lease_until,
        limit: 9,
        per_lane: 4,
        without: [].into(),
    };
    let claimed = store.claim(claim).await.unwrap().deliveries;
    assert!(!claimed.is_empty());
    let leases = claimed
        .iter()
        .map(|claimed| Lease { delivery: claimed.delivery.id, epoch: claimed.delivery.epoch });
    let leases: Vec<Lease> = leases.collect();
    store.renew(Renew { leases: leases.clone(), until: lease_until }).await.unwrap();
    let settlements = claimed.iter().zip(&leases).map(|(claimed, lease)| Settlement {
        lease: *lease,
        lane: claimed.delivery.lane,
        attempt: None,
        next: Next::Dead { reason: EndReason::new("exhausted", "for the test") },
        block_lane_until: None,
        notice: None,
    });
    store.settle(Settle { settlements: settlements.collect(), now: NOW }).await.unwrap();
    store.beat(SESSION, NOW).await.unwrap();
    store.outbox(&[], 10).await.unwrap();
    let of = RescueOf::Orphans { before: NOW };
    store.rescue(Rescue { of, now: NOW, limit: 9, max_rescues: 3 }).await.unwrap();
    store.sweep(Sweep { now: NOW, limit: 9 }).await.unwrap();
    let org = OrgId::new("org-1").unwrap();
    let query = DeliveryQuery { page: PageQuery::default(), ..DeliveryQuery::default() };
    store.deliveries(&org, &query).await.unwrap();
    store.events(&org, &EventQuery::default()).await.unwrap();
    let lanes = store.lanes(&org, PageQuery::default()).await.unwrap().items;
    let lanes: Vec<LaneId> = lanes.iter().map(|lane| lane.id).collect();
    store.backlogs(&org, &lanes).await.unwrap();
    store.lane_totals(NOW).await.unwrap();
    store.counts().await.unwrap();
    store.changes(Revision::ZERO, 10).await.unwrap();
    icp_core::letter::LetterStore::due_letters(store, NOW, 10).await.unwrap();
    icp_core::erasure::ErasureStore::finish_erasures(store, 10, NOW).await.unwrap();
    let claim = icp_core::replay::ReplayClaim { session: SESSION, now: NOW, lease_until };
    icp_core::replay::ReplayStore::claim_replay(store, claim).await.unwrap();
}

#[tokio::test]
async fn no_hot_query_scans_a_collection() {
    let store = store("plan_profile").await;
    day(&store).await;
    let db = store.database();
    db.run_command(doc! { "profile": 2 }).await.unwrap();
    // Once more, with something to be found in every collection.
    let again = Ingest { items: (40..60).map(item).collect(), direct: None, now: NOW };
    store.ingest(again).await.unwrap();
    day(&store).await;
    db.run_command(doc! { "profile": 0 }).await.unwrap();
    let sessions = format!("{}.{}", db.name(), store.name("session"));
    let scans = doc! {
        "planSummary": { "$regex": "COLLSCAN" },
        "ns": { "$ne": sessions, "$not": { "$regex": "system" } },
    };
    let scans = store_profile(&store, scans).await;
    assert!(scans.is_empty(), "{scans:#?}");
    let seen = store_profile(&store, doc! { "planSummary": { "$regex": "IXSCAN" } }).await;
    assert!(seen.len() > 30, "the profiler saw {}", seen.len());
    db.drop().await.unwrap();
}

async fn store_profile(store: &MongoStore, filter: Document) -> Vec<Document> {
    use futures_util::TryStreamExt;
    let profile = store.database().collection::<Document>("system.profile");
    let fields = doc! { "ns": 1, "planSummary": 1, "command": 1 };
    profile.find(filter).projection(fields).await.unwrap().try_collect().await.unwrap()
}

#[tokio::test]
async fn heads_are_found_by_their_indexes() {
    let store = store("plan_heads").await;
    day(&store).await;
    let lanes = store.all(LANE, doc! {}, doc! { "_id": 1 }).await.unwrap();
    let lanes: Vec<Bson> = lanes.iter().filter_map(|lane| lane.get("_id").cloned()).collect();
    let ready =
        vec![doc! { "$match": { "state": "ready" } }, doc! { "$sort": { "due_at": 1, "_id": 1 } }];
    for (field, order) in [("lane", ready), ("line", vec![doc! { "$sort": { "_id": 1 } }])] {
        let mut order = order;
        order.push(doc! { "$limit": 3 });
        let explain = store.database().run_command(doc! {
            "explain": {
                "aggregate": store.name(LANE),
                "pipeline": along(&store, lanes.clone(), field, order),
                "cursor": {},
            },
            "verbosity": "executionStats",
        });
        let told = explain.await.unwrap();
        let look = told.documents("stages").into_iter().find(|stage| stage.contains_key("$lookup"));
        let look = look.unwrap_or_else(|| panic!("no lookup in {told:#?}"));
        assert_eq!(look.maybe_int("collectionScans"), Some(0), "{look:#?}");
        assert!(look.maybe_int("totalDocsExamined") < Some(40), "{look:#?}");
    }
    store.database().drop().await.unwrap();
}
