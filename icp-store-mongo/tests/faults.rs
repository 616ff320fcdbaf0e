//! Bad days: servers that are not there, refuse or lack something, and calls that are cut off.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::time::Duration;

use fixture::{
    NOW, SESSION, batch, claim, database, delivered, event, id, item, standalone, store, url,
};
use icp_core::Code;
use icp_core::delivery::*;
use icp_core::erasure::{Erase, Erased, ErasureStore, Target};
use icp_core::event::*;
use icp_core::id::*;
use icp_core::store::{PageQuery, Store};
use icp_store_mongo::mongodb::IndexModel;
use icp_store_mongo::mongodb::bson::spec::BinarySubtype;
use icp_store_mongo::mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use icp_store_mongo::mongodb::options::IndexOptions;
use icp_store_mongo::{MongoStore, PlannedMigration};

async fn refused(url: &str) -> icp_core::Error {
    let patience = Duration::from_millis(300);
    let store = MongoStore::builder(url).server_selection_timeout(patience).connect().await;
    store.unwrap_err()
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    let error = refused("mongodb://127.0.0.1:1/icp").await;
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(error.to_string().contains("no server answered in time"), "{error}");
    assert_eq!(error.operation(), "open the store");
}

#[tokio::test]
async fn another_replica_set_is_not_taken_for_the_right_one() {
    let elsewhere = url().replace("replicaSet=", "replicaSet=other_");
    assert_ne!(elsewhere, url(), "the address names its replica set");
    assert_eq!(refused(&elsewhere).await.code(), Code::StoreUnavailable);
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for bad in ["", "postgres://localhost/icp", "mongodb://", "mongodb://host:port/"] {
        assert_eq!(refused(bad).await.code(), Code::ConfigInvalid, "{bad}");
    }
}

#[tokio::test]
async fn a_time_limit_of_zero_is_refused() {
    let hasty = MongoStore::builder(url()).server_selection_timeout(Duration::ZERO);
    let error = hasty.connect().await.unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    assert_eq!(error.list()[0].pointer, "/server_selection_timeout");
}

#[tokio::test]
async fn a_login_that_is_refused_says_so() {
    let stranger = url().replace("mongodb://", "mongodb://nobody:wrong@");
    let error = refused(&stranger).await;
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(error.to_string().contains("refused the login"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_prefix_that_names_no_collection_is_refused() {
    for bad in ["", "a.b", "$x", "a b"] {
        let store = MongoStore::builder(url()).database(database()).prefix(bad).connect().await;
        assert_eq!(store.unwrap_err().code(), Code::ConfigInvalid, "{bad}");
    }
}

#[tokio::test]
async fn collections_of_a_newer_version_are_left_alone() {
    let store = store(url()).await;
    let meta = store.database().collection::<Document>("icp_meta");
    let newer = doc! { "$set": { "version": 99 } };
    meta.update_one(doc! { "_id": "schema" }, newer).await.unwrap();
    let again = MongoStore::with_client(store.client().clone(), store.database().name()).await;
    let error = again.unwrap_err();
    assert_eq!(error.code(), Code::StoreTooNew);
    assert!(error.to_string().contains("99"), "{error}");
    store.database().drop().await.unwrap();
}

#[tokio::test]
async fn what_is_to_be_made_is_told_before_it_is() {
    let name = database();
    let builder = || MongoStore::builder(url()).database(&name);
    let migrations = builder().migrations().await.unwrap();
    let fresh = migrations.status().await.unwrap();
    assert_eq!((fresh.version, fresh.collections.len(), fresh.indexes), (None, 0, 0));
    assert_eq!(fresh.pending.last(), Some(&PlannedMigration::Version(fresh.known)));
    assert_eq!(migrations.dry_run().await.unwrap(), fresh.pending);
    let refused = builder().migrate(false).connect().await.unwrap_err();
    assert_eq!(refused.code(), Code::StoreOutdated);
    assert!(refused.to_string().contains("migrations().apply()"), "{refused}");
    assert_eq!(migrations.status().await.unwrap(), fresh, "nothing was made");

    migrations.apply().await.unwrap();
    let done = migrations.status().await.unwrap();
    assert_eq!((done.version, done.indexes), (Some(done.known), fresh.pending.len() - 1));
    assert!(done.pending.is_empty() && done.collections.contains(&"icp_lane".to_owned()));
    let store = builder().migrate(false).connect().await.unwrap();
    store.database().drop().await.unwrap();
}

#[tokio::test]
async fn a_database_that_lacks_something_is_told_and_mended() {
    let store = store(url()).await;
    let (db, name) = (store.database().clone(), store.database().name().to_owned());
    let builder = || MongoStore::builder(url()).database(&name);
    let migrations = builder().migrations().await.unwrap();
    db.collection::<Document>("icp_lane").drop_index("turn").await.unwrap();
    let older = doc! { "$set": { "version": 0 } };
    let meta = db.collection::<Document>("icp_meta");
    meta.update_one(doc! { "_id": "schema" }, older).await.unwrap();
    let planned = migrations.dry_run().await.unwrap();
    let [PlannedMigration::Index { collection, name: index, .. }, PlannedMigration::Version(1)] =
        &planned[..]
    else {
        panic!("{planned:?}")
    };
    assert_eq!((collection.as_str(), index.as_str()), ("icp_lane", "turn"));
    let refused = builder().migrate(false).connect().await.unwrap_err();
    assert_eq!(refused.code(), Code::StoreOutdated);
    builder().connect().await.unwrap();
    assert!(migrations.status().await.unwrap().pending.is_empty());

    let lanes = db.collection::<Document>("icp_lane");
    lanes.drop_index("turn").await.unwrap();
    let options = IndexOptions::builder().name("turn".to_owned()).build();
    let other = IndexModel::builder().keys(doc! { "order": 1 }).options(options).build();
    lanes.create_index(other).await.unwrap();
    for refused in [migrations.apply().await, builder().connect().await.map(drop)] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::StoreForeign);
        assert!(refused.to_string().contains("turn of icp_lane"), "{refused}");
    }
    let newer = doc! { "$set": { "version": 99 } };
    meta.update_one(doc! { "_id": "schema" }, newer).await.unwrap();
    lanes.drop_index("turn").await.unwrap();
    assert_eq!(migrations.status().await.unwrap().version, Some(99), "it is told");
    assert_eq!(migrations.dry_run().await.unwrap_err().code(), Code::StoreTooNew);
    db.drop().await.unwrap();
}

#[tokio::test]
async fn stores_of_two_prefixes_and_a_host_share_a_database() {
    let one = store(url()).await;
    let db = one.database().clone();
    db.collection::<Document>("orders").insert_one(doc! { "_id": 17 }).await.unwrap();
    let two = MongoStore::builder(url()).database(db.name()).prefix("other_").connect().await;
    let two = two.unwrap();
    one.ingest(batch(0..3)).await.unwrap();
    assert_eq!(one.counts().await.unwrap(), [(DeliveryState::Ready, 3)]);
    assert_eq!(two.counts().await.unwrap(), []);
    assert_eq!(db.collection::<Document>("orders").count_documents(doc! {}).await.unwrap(), 1);
    db.drop().await.unwrap();
}

#[tokio::test]
async fn nodes_that_start_together_agree() {
    let name = database();
    let starts = (0..6).map(|_| MongoStore::builder(url()).database(&name).connect());
    let stores = futures_util::future::join_all(starts).await;
    let store = stores.into_iter().map(Result::unwrap).next().unwrap();
    store.ping().await.unwrap();
    store.database().drop().await.unwrap();
}

#[tokio::test]
async fn a_standalone_server_does_all_but_take_part_in_transactions() {
    let store = store(standalone()).await;
    assert!(!store.info().host_transactions);
    let mut session = store.client().start_session().await.unwrap();
    let error = store.publish_in(&mut session, &event(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.to_string().contains("--replSet"), "{error}");
    store.ingest(batch(0..20)).await.unwrap();
    let claimed = store.claim(claim(50)).await.unwrap().deliveries;
    assert_eq!(claimed.len(), 20);
    let settled = store.settle(delivered(&claimed)).await.unwrap();
    assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
    assert!(store.audit().await.unwrap().is_clean());
    store.database().drop().await.unwrap();
}

#[tokio::test]
async fn a_replica_set_wakes_the_engine_when_a_host_commits() {
    let store = store(url()).await;
    assert!(store.info().host_transactions);
    let woken = store.wakeup();
    tokio::pin!(woken);
    // The stream tells of what comes after it was opened, and a hint may get lost: the host goes
    // on publishing until it is heard.
    for n in 1..=100 {
        let mut session = store.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        store.publish_in(&mut session, &event(n)).await.unwrap();
        session.commit_transaction().await.unwrap();
        let turn = Duration::from_millis(100);
        if tokio::time::timeout(turn, &mut woken).await.is_ok() {
            store.database().drop().await.unwrap();
            return;
        }
    }
    panic!("nobody was woken by 100 events");
}

#[tokio::test]
async fn a_transaction_that_is_aborted_leaves_nothing() {
    let store = store(url()).await;
    for (n, goes_through) in [(1, false), (2, true), (2, true)] {
        let mut session = store.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        store.publish_in(&mut session, &event(n)).await.unwrap();
        if goes_through {
            session.commit_transaction().await.unwrap();
        } else {
            session.abort_transaction().await.unwrap();
        }
    }
    let rows = store.outbox(&[], 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.event.id).collect::<Vec<_>>(), [event(2).id]);
    store.database().drop().await.unwrap();
}

/// Calls of every kind, each cut off a little later than the one before: what a killed process
/// leaves behind is all or nothing after a sweep.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_cut_off_anywhere_lose_nothing() {
    let store = store(url()).await;
    let mut taken: Vec<EventId> = Vec::new();
    for round in 0..60_u128 {
        let patience = Duration::from_micros(u64::try_from(round).unwrap() * 250);
        let ids = round * 20..round * 20 + 20;
        let cut = tokio::time::timeout(patience, store.ingest(batch(ids.clone()))).await;
        if cut.is_err() {
            // The publisher does not know, and says it again.
            store.ingest(batch(ids.clone())).await.unwrap();
        }
        taken.extend(ids.map(|n| event(n).id));
        let held = tokio::time::timeout(patience, store.claim(claim(10))).await;
        if let Ok(claimed) = held {
            let claimed = claimed.unwrap().deliveries;
            let _ = tokio::time::timeout(patience, store.settle(delivered(&claimed))).await;
        }
    }
    recover(&store).await;
    let left = store.rescue(Rescue {
        of: RescueOf::Session(SESSION),
        now: NOW,
        limit: 10_000,
        max_rescues: 99,
    });
    left.await.unwrap();
    recover(&store).await;
    let audit = store.audit().await.unwrap();
    assert!(audit.is_clean(), "{audit:?}");
    assert_eq!(audit.deliveries, taken.len() as u64, "each event has its delivery");
    store.open_session(SessionId::from_bytes([8; 16]), NOW).await.unwrap();
    loop {
        let mut claim = claim(500);
        claim.session = SessionId::from_bytes([8; 16]);
        let claimed = store.claim(claim).await.unwrap().deliveries;
        if claimed.is_empty() {
            break;
        }
        let settled = store.settle(delivered(&claimed)).await.unwrap();
        assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
    }
    let all = [(DeliveryState::Delivered, taken.len() as u64)];
    assert_eq!(store.counts().await.unwrap(), all);
    assert!(store.audit().await.unwrap().is_clean());
    store.database().drop().await.unwrap();
}

/// What a sweep does once calls that were cut off have had their time.
async fn recover(store: &MongoStore) {
    let lanes = store.database().collection::<Document>("icp_lane");
    // A write that was cut off may still be under way on the server.
    store.ping().await.unwrap();
    let aged = doc! { "k": "$$this.k", "v": DateTime::from_millis(0) };
    let held = doc! { "$map": { "input": { "$objectToArray": "$held" }, "in": aged } };
    let long_ago = doc! { "$set": { "held": { "$arrayToObject": held } } };
    let taken = doc! { "in_flight": { "$gt": 0 } };
    lanes.update_many(taken, vec![long_ago]).await.unwrap();
    store.sweep(Sweep { now: NOW, limit: 10_000 }).await.unwrap();
}

#[tokio::test]
async fn places_that_nobody_uses_are_given_back_while_the_lane_is_busy() {
    let store = store(url()).await;
    let lanes = store.database().collection::<Document>("icp_lane");
    let deliveries = store.database().collection::<Document>("icp_delivery");
    store.ingest(batch(0..1)).await.unwrap();
    store.ingest(batch(16..17)).await.unwrap();
    let claimed = store.claim(claim(1)).await.unwrap().deliveries;
    let (taken, org) = (&claimed[0].delivery, &claimed[0].delivery.org);
    let other = [0, 16].map(|n| DeliveryId::from_bytes(id(n)));
    let other = *other.iter().find(|id| **id != taken.id).unwrap();
    let in_flight =
        async || store.lanes(org, PageQuery::default()).await.unwrap().items[0].in_flight;
    let places = async || {
        let lane = lanes.find_one(doc! {}).await.unwrap().unwrap();
        lane.get_document("held").unwrap().len()
    };
    // As if a claim of the other delivery had been killed between its place and its lease.
    let reserve = |at: DateTime| doc! { "$set": { format!("held.{other}_1"): at } };
    lanes.update_one(doc! {}, reserve(DateTime::now())).await.unwrap();
    assert_eq!((places().await, in_flight().await), (2, 1));
    assert!(store.audit().await.unwrap().is_clean());
    let sweep = Sweep { now: NOW, limit: 10 };
    assert_eq!(store.sweep(sweep).await.unwrap().woken, 0);
    assert_eq!(places().await, 2, "it may still be under way");
    lanes.update_one(doc! {}, reserve(DateTime::from_millis(0))).await.unwrap();
    store.sweep(sweep).await.unwrap();
    assert_eq!((places().await, in_flight().await), (1, 1));
    // The claim that comes too late after all takes nothing.
    let row = store.delivery(org, other).await.unwrap().unwrap();
    assert_eq!((row.state, row.epoch), (DeliveryState::Ready, 1));
    // A node that is killed after its outcome, and before the lane: the place goes at once.
    let ended =
        doc! { "$set": { "state": "delivered" }, "$unset": { "owner": "", "lease_until": "" } };
    let leased = doc! { "_id": bytes(taken.id.to_bytes()) };
    deliveries.update_one(leased, ended).await.unwrap();
    assert_eq!((places().await, in_flight().await), (1, 0));
    assert!(store.audit().await.unwrap().is_clean());
    store.sweep(sweep).await.unwrap();
    assert_eq!(places().await, 0);
    // A lane that has lost its lease with a member of the set is told, and gets it back.
    let again = store.claim(claim(1)).await.unwrap().deliveries;
    assert_eq!(again[0].delivery.id, other);
    lanes.update_one(doc! {}, doc! { "$set": { "held": {}, "in_flight": 0 } }).await.unwrap();
    assert_eq!(store.audit().await.unwrap().in_flight_wrong, 1);
    store.sweep(sweep).await.unwrap();
    assert_eq!((places().await, in_flight().await), (1, 1));
    assert!(store.audit().await.unwrap().is_clean());
    store.database().drop().await.unwrap();
}

#[tokio::test]
async fn what_was_left_undone_is_done_at_the_next_start() {
    let store = store(url()).await;
    let db = store.database().clone();
    store.ingest(batch(0..5)).await.unwrap();
    // As if the process had been killed right after the insert of the events.
    let new = |n: u128| {
        let item = item(n);
        let new = &item.deliveries[0];
        doc! {
            "id": bytes(new.id.to_bytes()), "integration": new.integration.as_str(),
            "lane": bytes(new.lane.id.to_bytes()), "fifo": false, "due_at": NOW.as_millis(),
        }
    };
    let deliveries = db.collection::<Document>("icp_delivery");
    let events = db.collection::<Document>("icp_event");
    for n in 0..5 {
        deliveries
            .delete_one(doc! { "_id": bytes(item(n).deliveries[0].id.to_bytes()) })
            .await
            .unwrap();
        let undone = doc! { "$set": { "pending": [new(n)], "taken_at": NOW.as_millis() } };
        events.update_one(doc! { "_id": bytes(event(n).id.to_bytes()) }, undone).await.unwrap();
    }
    assert_eq!(store.counts().await.unwrap(), []);
    let again = MongoStore::with_client(store.client().clone(), db.name()).await.unwrap();
    assert_eq!(again.counts().await.unwrap(), [(DeliveryState::Ready, 5)]);
    assert_eq!(again.claim(claim(9)).await.unwrap().deliveries.len(), 5);
    assert!(again.audit().await.unwrap().is_clean());
    db.drop().await.unwrap();
}

/// Erases an event of the subject `ann` with a delivery that ended after a captured attempt, and
/// one that waits and cannot be read meanwhile, so that the erasure breaks off.
async fn broken_off(store: &MongoStore) {
    let events = store.database().collection::<Document>("icp_event");
    let deliveries = store.database().collection::<Document>("icp_delivery");
    store.ingest(batch(0..1)).await.unwrap();
    let subject = doc! { "$set": { "subject": "ann" } };
    events.update_one(doc! {}, subject).await.unwrap();
    let held = store.claim(claim(1)).await.unwrap().deliveries;
    let mut ended = delivered(&held);
    let settlements = std::sync::Arc::get_mut(&mut ended.settlements).unwrap();
    let attempt = settlements[0].attempt.as_mut().unwrap();
    attempt.exchange = Some(Exchange::default().into());
    attempt.message = Some("ann is not known".into());
    store.settle(ended).await.unwrap();
    let mut waiting = deliveries.find_one(doc! {}).await.unwrap().unwrap();
    waiting.remove("attempts");
    let lane = waiting.remove("lane").unwrap();
    waiting.extend(doc! { "_id": bytes(id(77)), "state": "ready" });
    deliveries.insert_one(waiting).await.unwrap();
    let error = store.erase(&of_ann()).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreCorrupt);
    let mended = doc! { "$set": { "lane": lane } };
    deliveries.update_one(doc! { "_id": bytes(id(77)) }, mended).await.unwrap();
    let event = events.find_one(doc! {}).await.unwrap().unwrap();
    assert!(event.get_datetime("erasing").is_ok() && event.contains_key("subject"));
    assert_shown_erased(store).await;
}

fn of_ann() -> Erase {
    let org = OrgId::new("org-0").unwrap();
    Erase { org, target: Target::Subject("ann".into()), limit: 10, now: NOW }
}

async fn assert_shown_erased(store: &MongoStore) {
    let event = store.event(&of_ann().org, event(0).id).await.unwrap().unwrap();
    assert_eq!((event.erased_at, event.subject, event.body.len()), (Some(NOW), None, 0));
}

/// Whether nothing is left to erase of what [`broken_off`] made.
async fn is_erased(store: &MongoStore) -> bool {
    assert_shown_erased(store).await;
    let events = store.database().collection::<Document>("icp_event");
    let event = events.find_one(doc! {}).await.unwrap().unwrap();
    let marked = event.contains_key("erasing");
    assert_eq!(event.contains_key("subject"), marked, "the subject goes with the mark");
    let attempts = store.attempts(&of_ann().org, DeliveryId::from_bytes(id(0))).await.unwrap();
    let [attempt] = &attempts[..] else { panic!("{attempts:?}") };
    assert_eq!(attempt.exchange.is_none(), !marked, "the mark goes last");
    assert_eq!(attempt.message.is_none(), !marked);
    !marked
}

/// Marks the event as a build of this age did, or as one that kept no moment.
async fn mark(store: &MongoStore, ago: Option<i64>) {
    let events = store.database().collection::<Document>("icp_event");
    let moment = ago.map(|ago| DateTime::now().timestamp_millis() - ago * 1_000);
    let mark = moment.map_or(true.into(), |moment| Bson::from(DateTime::from_millis(moment)));
    events.update_one(doc! {}, doc! { "$set": { "erasing": mark } }).await.unwrap();
}

#[tokio::test]
async fn an_erasure_that_broke_off_is_finished_by_the_duty_after_a_minute() {
    for (ago, done) in [(Some(1), false), (Some(3_600), true), (None, true)] {
        let store = store(url()).await;
        broken_off(&store).await;
        mark(&store, ago).await;
        store.finish_erasures(10, NOW).await.unwrap();
        assert_eq!(is_erased(&store).await, done, "after {ago:?} s");
        let other = if done { DeliveryState::Cancelled } else { DeliveryState::Ready };
        let counts = store.counts().await.unwrap();
        assert!(counts.contains(&(other, 1)), "{counts:?} after {ago:?} s");
        store.database().drop().await.unwrap();
    }
}

#[tokio::test]
async fn an_erasure_that_broke_off_is_finished_by_asking_again() {
    let named = Erase { target: Target::Events(vec![event(0).id]), ..of_ann() };
    for again in [named, of_ann()] {
        let store = store(url()).await;
        broken_off(&store).await;
        let erased = store.erase(&again).await.unwrap();
        assert_eq!((erased.events, erased.cancelled, erased.attempts), (0, 1, 1));
        assert!(is_erased(&store).await);
        assert_eq!(store.erase(&again).await.unwrap(), Erased::default());
        store.database().drop().await.unwrap();
    }
}

#[tokio::test]
async fn asking_again_keeps_the_duty_away() {
    let store = store(url()).await;
    broken_off(&store).await;
    mark(&store, Some(3_600)).await;
    let deliveries = store.database().collection::<Document>("icp_delivery");
    let waiting = doc! { "_id": bytes(id(77)) };
    let unreadable = doc! { "$rename": { "lane": "was" } };
    deliveries.update_one(waiting.clone(), unreadable).await.unwrap();
    store.erase(&of_ann()).await.unwrap_err();
    deliveries.update_one(waiting, doc! { "$rename": { "was": "lane" } }).await.unwrap();
    store.finish_erasures(10, NOW).await.unwrap();
    assert!(!is_erased(&store).await);
    store.database().drop().await.unwrap();
}

fn bytes(id: [u8; 16]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: id.to_vec() }
}

#[tokio::test]
async fn a_thousand_keys_have_one_event_each() {
    let store = store(url()).await;
    let keyed = |key: u128, by: u128| {
        let mut item = item(key * 8 + by);
        let mut event = event(key * 8 + by);
        event.org = OrgId::new("acme").unwrap();
        event.idempotency_key = Some(format!("key-{key}").into());
        item.event = event.into();
        item.deliveries.clear();
        item
    };
    let publishers = (0..8).map(|by| {
        let store = store.clone();
        async move {
            let mut accepted = 0;
            for first in (0..1_000).step_by(100) {
                let items = (first..first + 100).map(|key| keyed(key, by)).collect();
                let answers = store.ingest(Ingest { items, direct: None, now: NOW }).await.unwrap();
                let new = |answer: &&Ingested| matches!(answer, Ingested::Accepted { .. });
                accepted += answers.iter().filter(new).count();
            }
            accepted
        }
    });
    let accepted: usize = futures_util::future::join_all(publishers).await.into_iter().sum();
    assert_eq!(accepted, 1_000);
    let events = store.database().collection::<Document>("icp_event");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 1_000);
    store.database().drop().await.unwrap();
}
