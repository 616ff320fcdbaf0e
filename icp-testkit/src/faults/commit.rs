//! The connection is cut at the commit of a write, so that its outcome is unknown.

use std::sync::Arc;
use std::time::Duration;

use icp_core::delivery::health::LaneRules;
use icp_core::delivery::{LaneId, LaneMode};
use icp_core::error::{Error, Fault as ErrorFault};
use icp_core::event::{Event, Ingest, IngestItem, Ingested, LaneSeed, NewDelivery};
use icp_core::id::{DeliveryId, ResourceId};
use icp_core::store::Store;

use super::stage::{Stage, engine, event, plain, publish_until_answered};
use super::{Fault, Fixture, Ledger, Size};

pub(super) async fn that_arrived_is_told_as_transient_and_repeats_as_one(
    fixture: Fixture,
    size: Size,
) {
    let found = publish_cut(fixture, size, Fault::CutAfter).await;
    assert!(found > 0, "no cut commit was found to be done");
}

pub(super) async fn that_did_not_arrive_is_told_as_transient_and_repeats_as_one(
    fixture: Fixture,
    size: Size,
) {
    let found = publish_cut(fixture, size, Fault::CutBefore).await;
    assert_eq!(found, 0, "commits that never arrived were done");
}

/// Publishes with each commit cut, and once more without; answers how many were there by then.
async fn publish_cut(fixture: Fixture, size: Size, cut: fn(super::Pattern) -> Fault) -> u32 {
    let stage = Stage::new(fixture).await;
    let publisher = engine((stage.fixture.through)().await.unwrap());
    publish_until_answered(&publisher, u64::MAX).await;
    let mut found = 0;
    for number in 0..u64::from(size.commits) {
        let before = stage.fixture.proxy.counts().applied;
        stage.fixture.proxy.set(cut(stage.fixture.commit.clone()));
        let first = publisher.publish(event(number)).await;
        stage.fixture.proxy.heal();
        let applied = stage.fixture.proxy.counts().applied - before;
        assert!(applied > 0, "nothing was cut; does the fixture tell what commits?");
        if let Err(error) = &first {
            assert_transient(error);
        }
        let second = publish_until_answered(&publisher, number).await;
        found += u32::from(first.is_err() && second.duplicate);
        if let Ok(first) = first {
            assert_eq!((first.id, second.duplicate), (second.id, true));
        }
    }
    let all = size.commits as usize + 1;
    stage.clean(all).await;
    let direct = stage.fixture.direct.as_ref();
    let ledger = Ledger::read(direct, &stage.org, Default::default(), &[]).await;
    assert_eq!((ledger.events.len(), ledger.deliveries.len()), (all, all));
    assert!(ledger.close().fanned_out_twice.is_empty());
    found
}

pub(super) async fn of_unknown_outcome_repeats_by_event_id(fixture: Fixture, size: Size) {
    let stage = Stage::new(fixture).await;
    let store = (stage.fixture.through)().await.unwrap();
    let mut done = 0;
    for _ in 0..size.commits {
        let batch = batch(&stage).await;
        stage.fixture.proxy.set(Fault::CutAfter(stage.fixture.commit.clone()));
        let first = store.ingest(batch.clone()).await;
        stage.fixture.proxy.heal();
        if let Err(error) = &first {
            assert_transient(error);
        }
        let again = ingest_until_answered(store.as_ref(), &batch).await;
        for (item, answer) in batch.items.iter().zip(again) {
            match answer {
                Ingested::Accepted { .. } => assert!(first.is_err(), "{answer:?}"),
                Ingested::Duplicate { of } => {
                    assert_eq!(of, item.event.id);
                    done += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(done > 0, "no cut commit was found to be done");
    let all = size.commits as usize * 2;
    stage.clean(all).await;
    let direct = stage.fixture.direct.as_ref();
    let ledger = Ledger::read(direct, &stage.org, Default::default(), &[]).await;
    assert_eq!((ledger.events.len(), ledger.deliveries.len()), (all, all));
    assert!(ledger.close().fanned_out_twice.is_empty());
}

/// Every commit of two nodes at work is cut: those of publishes, of claims and of outcomes.
pub(super) async fn is_cut_under_load(fixture: Fixture, size: Size) {
    let after = Fault::CutAfter(fixture.commit.clone());
    let before = Fault::CutBefore(fixture.commit.clone());
    let pause = Fault::Bandwidth(1_000_000);
    let turns = [(after, 0.05), (pause.clone(), 0.05), (before, 0.05), (pause, 0.05)];
    let turns: Vec<_> = std::iter::repeat_n(turns, 5).flatten().collect();
    Stage::suffer(fixture, size, &turns).await;
}

fn assert_transient(error: &Error) {
    assert_eq!(error.fault(), ErrorFault::Transient, "{}: {error:?}", error.code());
}

async fn ingest_until_answered(store: &dyn Store, batch: &Ingest) -> Vec<Ingested> {
    loop {
        match store.ingest(batch.clone()).await {
            Ok(answers) => return answers,
            Err(error) => assert_transient(&error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two events with a delivery each.
async fn batch(stage: &Stage) -> Ingest {
    let mut items = Vec::new();
    for number in 0..2 {
        let event = stage.outside.accept(plain(number)).await.unwrap();
        items.push(item(stage, event));
    }
    Ingest { items: items.into(), direct: None, now: stage.outside.now() }
}

pub(super) fn item(stage: &Stage, event: Event) -> IngestItem {
    let integration = ResourceId::new("hook").unwrap();
    let lane = LaneSeed {
        id: LaneId::of(&event.org, &integration, None),
        order_key: None,
        mode: LaneMode::Parallel,
        max_in_flight: 50,
        weight: 1,
        rules: LaneRules::default(),
    };
    let id = DeliveryId::generate(stage.outside.ids());
    let delivery = NewDelivery { id, integration, lane, due_at: event.received_at, at_once: true };
    IngestItem {
        event: Arc::new(event),
        body_hash: [0; 32],
        idempotency_window: Duration::ZERO,
        deliveries: vec![delivery],
        outbox: None,
    }
}
