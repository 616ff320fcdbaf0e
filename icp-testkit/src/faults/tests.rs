//! The checker is shown what it has to catch.

use std::collections::BTreeMap;

use icp_core::delivery::Cancel;
use icp_core::event::{Ingest, IngestItem};
use icp_core::id::DeliveryId;
use icp_core::resource::Actor;
use icp_core::store::MemoryStore;

use super::stage::{PATH, Stage, event, plain, publish_until_answered};
use super::*;

/// An account that closes, and the stage it was made on.
async fn account() -> (Stage, BTreeMap<u64, icp_core::id::EventId>) {
    let mut stage = Stage::new(remote::fixture(Arc::new(MemoryStore::new())).await).await;
    stage.start(false).await;
    let mut acknowledged = BTreeMap::new();
    for number in 0..5 {
        acknowledged.insert(number, publish_until_answered(&stage.outside, number).await.id);
    }
    stage.drain().await;
    (stage, acknowledged)
}

async fn close(stage: &Stage, acknowledged: &BTreeMap<u64, icp_core::id::EventId>) -> Findings {
    ledger(stage, acknowledged).await.close()
}

async fn ledger(stage: &Stage, acknowledged: &BTreeMap<u64, icp_core::id::EventId>) -> Ledger {
    let received = stage.receiver.requests(PATH);
    let store = stage.fixture.direct.as_ref();
    Ledger::read(store, &stage.org, acknowledged.clone(), &received).await
}

/// Takes in an event behind the engine's back, with as many deliveries as are asked for.
async fn plant(stage: &Stage, number: u64, deliveries: usize) -> icp_core::id::EventId {
    let event = stage.outside.accept(plain(number)).await.unwrap();
    let id = event.id;
    let mut item: IngestItem = commit::item(stage, event);
    let one = item.deliveries.remove(0);
    for _ in 0..deliveries {
        let id = DeliveryId::generate(stage.outside.ids());
        item.deliveries.push(icp_core::event::NewDelivery { id, ..one.clone() });
    }
    let now = stage.outside.now();
    let ingest = Ingest { items: [item].into(), direct: None, now };
    stage.fixture.direct.ingest(ingest).await.unwrap();
    id
}

#[tokio::test]
async fn an_account_without_faults_closes() {
    let (stage, acknowledged) = account().await;
    assert_eq!(close(&stage, &acknowledged).await, Findings::default());
}

#[tokio::test]
async fn a_planted_loss_is_caught() {
    let (stage, mut acknowledged) = account().await;
    acknowledged.insert(90, plant(&stage, 90, 0).await);
    let other = icp_core::id::EventId::generate(stage.outside.ids());
    acknowledged.insert(91, other);
    assert_eq!(close(&stage, &acknowledged).await.lost, [90, 91]);
}

#[tokio::test]
async fn a_planted_second_fan_out_is_caught() {
    let (stage, acknowledged) = account().await;
    let id = plant(&stage, 90, 2).await;
    stage.drain().await;
    let findings = close(&stage, &acknowledged).await;
    assert_eq!((findings.fanned_out_twice, findings.duplicates), (vec![id], 1));
}

#[tokio::test]
async fn an_event_under_two_ids_is_caught() {
    let (stage, acknowledged) = account().await;
    stage.outside.publish(plain(3)).await.unwrap();
    stage.drain().await;
    let findings = close(&stage, &acknowledged).await;
    assert_eq!((findings.repeated, findings.lost), (vec![3], vec![]));
}

#[tokio::test]
async fn a_delivery_that_was_called_off_is_caught() {
    let (mut stage, mut acknowledged) = account().await;
    stage.stop().await;
    let published = stage.outside.publish(event(90)).await.unwrap();
    acknowledged.insert(90, published.id);
    let open = ledger(&stage, &acknowledged).await.deliveries;
    let open = open.into_iter().find(|delivery| !delivery.state.is_final()).unwrap();
    let cancel = Cancel {
        org: stage.org.clone(),
        delivery: open.id,
        reason: icp_core::delivery::EndReason::new("cancelled", "planted"),
        actor: Actor::engine(),
        now: stage.outside.now(),
    };
    stage.fixture.direct.cancel(cancel).await.unwrap();
    let findings = close(&stage, &acknowledged).await;
    assert_eq!((findings.lost, findings.undelivered), (vec![90], vec![open.id]));
}

#[tokio::test]
async fn what_came_in_is_held_against_the_store() {
    let (stage, acknowledged) = account().await;
    let whole = ledger(&stage, &acknowledged).await;

    let mut again = whole.clone();
    let receipt = Receipt { epoch: "2".to_owned(), ..whole.received[0].clone() };
    again.received.push(receipt);
    let findings = again.close();
    assert_eq!((findings.is_clean(), findings.duplicates), (true, 1));

    let mut stale = whole.clone();
    stale.received.push(whole.received[0].clone());
    assert_eq!(stale.close().sent_twice_in_an_epoch, [whole.received[0].delivery.clone()]);

    let mut silent = whole.clone();
    silent.received.remove(0);
    let findings = silent.close();
    assert_eq!((findings.lost.len(), findings.undelivered.len()), (1, 1));

    let mut strange = whole.clone();
    strange.events.remove(&acknowledged[&2]);
    assert_eq!(strange.close().strangers, [acknowledged[&2].to_string()]);
}
