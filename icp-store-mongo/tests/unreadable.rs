//! Documents that a store cannot have written: who meets one goes on without it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::collections::HashSet;

use fixture::{NOW, SESSION, batch, claim, delivered, id, item, store, url};
use icp_core::Code;
use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::letter::LetterStore;
use icp_core::store::PageQuery;
use icp_store_mongo::MongoStore;
use icp_store_mongo::mongodb::bson::spec::BinarySubtype;
use icp_store_mongo::mongodb::bson::{Binary, Document, doc};

async fn spoil(store: &MongoStore, collection: &str, n: u128, change: Document) {
    let bytes = Binary { subtype: BinarySubtype::Generic, bytes: id(n).to_vec() };
    let rows = store.database().collection::<Document>(collection);
    let spoilt = rows.update_one(doc! { "_id": bytes }, change).await.unwrap();
    assert_eq!(spoilt.modified_count, 1);
}

fn in_order(n: u128) -> IngestItem {
    let mut item = item(16 * n);
    let new = &mut item.deliveries[0];
    new.lane.mode = LaneMode::Fifo;
    new.lane.max_in_flight = 1;
    new.lane.order_key = Some("k".into());
    new.lane.id = LaneId::of(&item.event.org, &new.integration, Some("k"));
    item
}

fn name(n: u128) -> DeliveryId {
    DeliveryId::from_bytes(id(n))
}

fn names(claimed: &[ClaimedDelivery]) -> HashSet<DeliveryId> {
    claimed.iter().map(|claimed| claimed.delivery.id).collect()
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_keeps_nobody_from_going_on() {
    let store = store(url()).await;
    store.ingest(batch(0..40)).await.unwrap();
    let mut items: Vec<_> = (10..13).map(in_order).collect();
    items.sort_by_key(|item| item.deliveries[0].id);
    let line: Vec<_> = items.iter().map(|item| item.deliveries[0].id).collect();
    let first = (10..13).find(|n| name(16 * n) == line[0]).unwrap();
    store.ingest(Ingest { items: items.into(), direct: None, now: NOW }).await.unwrap();
    spoil(&store, "icp_delivery", 3, doc! { "$set": { "rescues": -1 } }).await;
    spoil(&store, "icp_delivery", 4, doc! { "$set": { "integration": "no name!" } }).await;
    spoil(&store, "icp_delivery", 5, doc! { "$unset": { "round": "" } }).await;
    spoil(&store, "icp_delivery", 16 * first, doc! { "$set": { "tries": "many" } }).await;
    // What cannot be read of an event is as good as lost.
    spoil(&store, "icp_event", 6, doc! { "$set": { "type": "no type!" } }).await;

    let (mut taken, mut unreadable) = (HashSet::new(), 0);
    let mut claimed = store.claim(claim(100)).await.unwrap();
    while !claimed.deliveries.is_empty() {
        unreadable += claimed.unreadable;
        taken.extend(names(&claimed.deliveries));
        store.settle(delivered(&claimed.deliveries)).await.unwrap();
        claimed = store.claim(claim(100)).await.unwrap();
    }
    assert_eq!((unreadable, claimed.unreadable), (4, 0), "each is met once");
    let good = (0..40).filter(|n| !(3..7).contains(n)).map(name).chain(line[1..].iter().copied());
    assert_eq!(taken, good.collect());
    let counts = store.counts().await.unwrap();
    assert_eq!(counts, [(DeliveryState::Delivered, 38), (DeliveryState::Dead, 5)]);

    let org = OrgId::new("org-3").unwrap();
    let page = PageQuery { after: None, limit: 40 };
    let query = DeliveryQuery { page, ..DeliveryQuery::default() };
    assert_eq!(store.deliveries(&org, &query).await.unwrap().items.len(), 2);
    assert_eq!(store.delivery(&org, name(3)).await.unwrap_err().code(), Code::StoreCorrupt);
    let due = store.due_letters(NOW, 9).await.unwrap();
    assert_eq!(due.len(), 1, "of the one that can be read, no round is tried of the others");
    store.database().drop().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_keeps_no_other_from_its_rescue() {
    let store = store(url()).await;
    store.ingest(batch(0..3)).await.unwrap();
    assert_eq!(store.claim(claim(9)).await.unwrap().deliveries.len(), 3);
    spoil(&store, "icp_delivery", 1, doc! { "$set": { "epoch": "one" } }).await;
    store.sweep(Sweep { now: NOW, limit: 9 }).await.unwrap();
    let of = RescueOf::Session(SESSION);
    let rescue = Rescue { of, now: NOW, limit: 9, max_rescues: 3 };
    assert_eq!(store.rescue(rescue).await.unwrap().len(), 2);
    let counts = store.counts().await.unwrap();
    assert_eq!(counts, [(DeliveryState::Ready, 2), (DeliveryState::Dead, 1)]);
    store.database().drop().await.unwrap();
}
