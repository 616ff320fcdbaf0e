//! Engines beside each other, ending, and broken from within.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icp::delivery::{AttemptOutcome, DeliveryState};
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Expect};
use icp::transform::{
    Origin, Outcome, Plan, Position, Report, TransformContext, TransformError, Transformer,
};
use icp_testkit::receiver::{Behaviour, Reaction};
use serde_json::json;

use crate::stage::{Backend, Stage, config};

crate::on_every_store! {
    a_backlog_goes_out_without_a_poll,
    two_engines_on_one_store_share_the_work,
    engines_on_two_stores_do_not_see_each_other,
    a_shutdown_finishes_what_it_can,
    a_shutdown_gives_back_what_takes_too_long,
    a_transformer_may_drop_panic_and_fail,
}

async fn a_backlog_goes_out_without_a_poll(backend: Backend) {
    let mut rare = config();
    rare.poll = Duration::from_secs(3_600);
    let engine = backend.builder().config(rare).build().unwrap();
    let mut stage = Stage::with(backend, engine.clone()).await;
    stage.integration("narrow", json!({ "max_in_flight": 2 })).await;
    stage.integration("off", json!({})).await;
    stage.running().shutdown(Duration::from_secs(5)).await;
    for n in 0..30 {
        stage.publish("order.paid", &json!(n)).await;
    }
    let soon = stage.engine.now() + Duration::from_millis(100);
    let later = stage.event("order.paid", &json!("later")).due_at(soon);
    stage.engine.publish(later).await.unwrap();
    stage.change("off", json!({ "enabled": false })).await;
    stage.receiver.behave("/narrow", Behaviour::script([Reaction::RetryAfter(429, 1)]));

    let mut rare = config();
    rare.poll = Duration::from_secs(3_600);
    let next = stage.backend.builder().config(rare).build().unwrap();
    let running = next.start().await.unwrap();
    stage.settled(DeliveryState::Delivered, 31).await;
    let id = ResourceId::new("off").unwrap();
    let patch = json!({ "spec": { "enabled": true } });
    let (resources, expect, actor) = (next.resources(), Expect::Present, Actor::engine());
    resources.merge_patch(&stage.org, "integration", &id, &patch, expect, &actor).await.unwrap();
    stage.settled(DeliveryState::Delivered, 62).await;
    running.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

async fn two_engines_on_one_store_share_the_work(backend: Backend) {
    let second = backend.builder().build().unwrap();
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "max_in_flight": 50 })).await;
    let other = second.start().await.unwrap();
    let mut published = BTreeMap::new();
    for round in 0..10 {
        let events = |n: u32| NewEvent::json("acme", "order.paid", &json!([round, n])).unwrap();
        for engine in [&stage.engine, &second] {
            for answer in engine.publish_batch((0..20).map(events).collect()).await {
                published.insert(answer.unwrap().id.to_string(), 1);
            }
        }
    }
    stage.settled(DeliveryState::Delivered, 400).await;
    assert_eq!(stage.receiver.seen().ids("/crm"), published);
    let drained = other.shutdown(Duration::from_secs(5)).await;
    assert_eq!((drained.released, drained.unsettled), (0, 0));
    stage.end().await;
}

async fn engines_on_two_stores_do_not_see_each_other(backend: Backend) {
    let one = Stage::new(backend).await;
    let two = Stage::new(Backend::memory().await).await;
    one.integration("crm", json!({})).await;
    let nowhere = two.publish("order.paid", &json!({})).await;
    assert_eq!(nowhere.deliveries, 0);
    let published = one.publish("order.paid", &json!({})).await;
    one.only(DeliveryState::Delivered).await;
    assert!(two.engine.event(&two.org, published.id).await.is_err());
    assert!(two.engine.metrics().render().contains("icp_attempts_total 0"));
    assert!(one.engine.metrics().render().contains("icp_attempts_total 1"));
    two.end().await;
    one.end().await;
}

async fn a_shutdown_finishes_what_it_can(backend: Backend) {
    let mut stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "max_in_flight": 2 })).await;
    stage.receiver.behave("/crm", Reaction::Hang);
    for n in 0..3 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.receiver.wait_for_to("/crm", 2).await;
    let (running, receiver) = (stage.running(), &stage.receiver);
    let release = async {
        tokio::task::yield_now().await;
        receiver.release("/crm");
    };
    let (drained, ()) = tokio::join!(running.shutdown(Duration::from_secs(20)), release);
    assert_eq!((drained.finished, drained.released, drained.unsettled), (2, 0, 0));
    let after = stage.publish("order.paid", &json!("after")).await;
    assert_eq!(after.deliveries, 1);

    let next = stage.backend.builder().build().unwrap();
    let running = next.start().await.unwrap();
    stage.settled(DeliveryState::Delivered, 4).await;
    running.shutdown(Duration::from_secs(5)).await;
    assert_eq!(stage.receiver.seen().count("/crm"), 4);
    stage.end().await;
}

async fn a_shutdown_gives_back_what_takes_too_long(backend: Backend) {
    let mut stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    stage.receiver.behave("/crm", Reaction::Hang);
    stage.publish("order.paid", &json!({})).await;
    stage.receiver.wait_for_to("/crm", 1).await;
    let drained = stage.running().shutdown(Duration::from_millis(50)).await;
    assert_eq!((drained.finished, drained.released, drained.unsettled), (0, 1, 0));
    let delivery = stage.only(DeliveryState::Ready).await;
    assert_eq!((delivery.tries, delivery.epoch), (0, 1));

    stage.receiver.behave("/crm", Reaction::OK);
    let next = stage.backend.builder().build().unwrap();
    let running = next.start().await.unwrap();
    let delivery = stage.only(DeliveryState::Delivered).await;
    assert_eq!((delivery.tries, delivery.epoch), (1, 2));
    let received = stage.receiver.wait_for_to("/crm", 2).await;
    assert_eq!(received[0].id(), received[1].id());
    running.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

/// A host's own transformer: the event's type says how it goes.
#[derive(Debug)]
struct Moody;

#[async_trait]
impl Transformer for Moody {
    async fn check(&self, _: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        Ok(())
    }

    async fn run(
        &self,
        _: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        let outcome = match cx.event_type.as_str() {
            "mood.drop" => Outcome::Dropped { reason: "not wanted".into() },
            "mood.panic" => panic!("the transformer lost its temper"),
            "mood.panic_once" if cx.attempt == 1 => panic!("the transformer lost its temper"),
            "mood.refuse" => {
                let at = Some(Position { line: 2, column: 7 });
                let origin = Origin { at, console: vec!["well".to_owned()], ..Origin::default() };
                let error = TransformError::new("refused", "no").at_pointer("/transform/0/map");
                return Err(error.in_program(origin));
            }
            _ => Outcome::Value(input),
        };
        let console = vec![cx.event_type.to_string()];
        Ok(Report { console, ..Report::new(outcome) })
    }
}

async fn a_transformer_may_drop_panic_and_fail(backend: Backend) {
    let engine = backend.builder().transformer(Moody).build().unwrap();
    let stage = Stage::with(backend, engine).await;
    stage.integration("crm", json!({ "transform": [{ "map": {} }] })).await;
    for kind in ["drop", "panic", "panic_once", "refuse", "fine"] {
        stage.publish(&format!("mood.{kind}"), &json!({})).await;
    }
    stage
        .until(async || stage.deliveries().await.iter().all(|d| d.state.is_final()).then_some(()))
        .await;
    let deliveries = stage.deliveries().await;
    let ends: Vec<_> = deliveries
        .iter()
        .map(|d| (d.state, d.tries, d.reason.as_ref().map_or("", |r| r.code.as_str())))
        .collect();
    let expected = [
        (DeliveryState::Skipped, 1, "dropped"),
        (DeliveryState::Dead, 4, "exhausted"),
        (DeliveryState::Delivered, 2, ""),
        (DeliveryState::Dead, 1, "impossible"),
        (DeliveryState::Delivered, 1, ""),
    ];
    assert_eq!(ends, expected);
    let attempts = stage.engine.attempts(&stage.org, deliveries[0].id).await.unwrap();
    assert_eq!(attempts[0].outcome, AttemptOutcome::Skipped);
    let told = async |at: usize| {
        let attempts = stage.engine.attempts(&stage.org, deliveries[at].id).await.unwrap();
        let last = attempts.into_iter().last().unwrap();
        (last.message, last.transcript.map(|told| told.as_ref().clone()))
    };
    let (message, refused) = told(3).await;
    assert_eq!(message.as_deref(), Some("no (line 2, column 7)"));
    let refused = refused.unwrap();
    assert_eq!(refused.pointer.as_deref(), Some("/transform/0/map"));
    assert_eq!(refused.origin.at, Some(Position { line: 2, column: 7 }));
    assert_eq!(refused.origin.console, ["well"]);
    assert_eq!(told(4).await.1.unwrap().origin.console, ["mood.fine"]);
    assert_eq!(told(1).await.1, None);
    let panicked = stage.engine.attempts(&stage.org, deliveries[1].id).await.unwrap();
    assert!(panicked.iter().all(|a| a.outcome == AttemptOutcome::Failed("panic".into())));
    assert_eq!(stage.receiver.seen().count("/crm"), 2);
    assert!(stage.engine.metrics().render().contains("icp_panics_total 5"));
    assert!(stage.engine.health().await.ready);
    stage.end().await;
}
