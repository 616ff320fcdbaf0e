use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icp::delivery::{DeliveryQuery, DeliveryState};
use icp::letter::LetterStatus;
use icp::resource::Actor;
use icp::time::{Clock, SystemClock, Timestamp};
use icp_testkit::receiver::Reaction;
use serde_json::json;

use crate::stage::{Backend, Stage, config};

crate::on_every_store!(
    rounds_come_when_they_are_due_and_end,
    a_closed_lane_gets_no_round,
    what_is_old_is_pruned,
    what_is_under_way_is_erased_after_its_end,
);

const DAY: Duration = Duration::from_secs(86_400);

/// The wall clock, moved ahead by hand.
#[derive(Clone, Debug, Default)]
struct Ahead(Arc<AtomicU64>);

impl Ahead {
    fn go(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

async fn stage(backend: Backend) -> (Stage, Ahead) {
    let clock = Ahead::default();
    let mut config = config();
    config.prune = Duration::from_millis(20);
    let engine = backend.builder().config(config).clock(clock.clone()).build().unwrap();
    (Stage::with(backend, engine).await, clock)
}

async fn rounds_come_when_they_are_due_and_end(backend: Backend) {
    let (stage, clock) = stage(backend).await;
    stage.receiver.behave("/hook", Reaction::Status(500));
    let policy = json!({ "type": "fixed", "rounds": 2 });
    let once = json!({ "max_attempts": 1 });
    stage.integration("hook", json!({ "auto_retry": policy, "retry": once })).await;
    stage.publish("order.paid", &json!({})).await;
    let first = stage.only(DeliveryState::Dead).await;
    let planned = async || stage.engine.letter(&stage.org, first.id).await.unwrap().retry_at;
    stage.until(planned).await;
    for dead in 2..=3 {
        clock.go(Duration::from_secs(721));
        stage.settled(DeliveryState::Dead, dead).await;
    }
    let last = stage
        .until(async || {
            let letters = stage.engine.letters(&stage.org, &DeliveryQuery::default()).await;
            let newest = letters.unwrap().items.remove(0);
            (newest.status == LetterStatus::Abandoned).then_some(newest)
        })
        .await;
    assert_eq!(last.delivery.round, 2);
    assert_eq!(last.abandonment.unwrap().reason.code, "rounds_exhausted");
    let first = stage.engine.letter(&stage.org, first.id).await.unwrap();
    assert_eq!(first.status, LetterStatus::Superseded);
    let requests = stage.receiver.requests("/hook");
    let marks: Vec<_> = requests.iter().map(|r| r.header("icp-dead-letter-retry")).collect();
    assert_eq!(marks, ["", "true", "true"]);
    assert!(requests.iter().all(|request| request.id() == requests[0].id()));
    let metrics = stage.engine.metrics().render();
    assert!(metrics.contains("icp_dead_letters_retried_total 2"), "{metrics}");
    stage.end().await;
}

async fn a_closed_lane_gets_no_round(backend: Backend) {
    let (stage, clock) = stage(backend).await;
    stage.receiver.behave("/hook", Reaction::Status(500));
    let policy = json!({ "type": "fixed", "rounds": 1 });
    let once = json!({ "max_attempts": 1 });
    stage.integration("hook", json!({ "auto_retry": policy, "retry": once })).await;
    stage.publish("order.paid", &json!({})).await;
    let dead = stage.only(DeliveryState::Dead).await;
    let retry_at = async || stage.engine.letter(&stage.org, dead.id).await.unwrap().retry_at;
    let planned = stage.until(retry_at).await;
    stage.change("hook", json!({ "enabled": false })).await;
    clock.go(Duration::from_secs(721));
    stage.until(async || retry_at().await.filter(|at| *at != planned)).await;
    assert_eq!(stage.deliveries().await.len(), 1);
    stage.receiver.behave("/hook", Reaction::OK);
    stage.change("hook", json!({ "enabled": true })).await;
    clock.go(Duration::from_secs(61));
    stage.settled(DeliveryState::Delivered, 1).await;
    let letter = stage.engine.letter(&stage.org, dead.id).await.unwrap();
    assert_eq!(letter.status, LetterStatus::Resolved);
    stage.end().await;
}

async fn what_is_old_is_pruned(backend: Backend) {
    let (stage, clock) = stage(backend).await;
    stage.receiver.behave("/bad", Reaction::Status(500));
    stage.integration("good", json!({ "events": ["a.good"] })).await;
    let once = json!({ "max_attempts": 1 });
    stage.integration("bad", json!({ "events": ["a.bad"], "retry": once })).await;
    let good = stage.publish("a.good", &json!({})).await;
    let bad = stage.publish("a.bad", &json!({})).await;
    stage.settled(DeliveryState::Delivered, 1).await;
    stage.settled(DeliveryState::Dead, 1).await;
    clock.go(DAY * 29);
    let later = stage.publish("a.good", &json!({})).await;
    stage.settled(DeliveryState::Delivered, 2).await;
    clock.go(DAY * 2);
    let gone = async |id| stage.engine.event(&stage.org, id).await.err().map(drop);
    stage.until(async || gone(good.id).await).await;
    assert!(stage.engine.event(&stage.org, bad.id).await.is_ok(), "its dead letter needs it");
    assert!(stage.engine.event(&stage.org, later.id).await.is_ok());
    clock.go(DAY * 60);
    stage.until(async || gone(bad.id).await).await;
    stage.until(async || gone(later.id).await).await;
    // They are counted when their removal has returned.
    for line in ["kind=\"dead_letter\"} 1", "kind=\"delivery\"} 2", "kind=\"event\"} 3"] {
        let line = format!("icp_rows_pruned_total{{{line}");
        stage.until(async || stage.engine.metrics().render().contains(&line).then_some(())).await;
    }
    stage.end().await;
}

async fn what_is_under_way_is_erased_after_its_end(backend: Backend) {
    let (stage, _) = stage(backend).await;
    stage.integration("hook", json!({})).await;
    stage.receiver.behave("/hook", Reaction::Hang);
    let event = stage.event("order.paid", &json!({ "who": "Ann" })).subject("cust-17");
    let id = stage.engine.publish(event).await.unwrap().id;
    stage.receiver.wait_for(1).await;
    let actor = Actor::host();
    let receipt = stage.engine.erase_subject(&stage.org, "cust-17", &actor).await.unwrap();
    assert_eq!((receipt.events, receipt.under_way, receipt.cancelled), (1, 1, 0));
    stage.receiver.release("/hook");
    let done = stage.only(DeliveryState::Delivered).await;
    stage
        .until(async || {
            let attempts = stage.engine.attempts(&stage.org, done.id).await.unwrap();
            attempts.iter().all(|attempt| attempt.exchange.is_none()).then_some(())
        })
        .await;
    let left = stage.engine.event(&stage.org, id).await.unwrap();
    assert!(left.body.is_empty() && left.erased_at.is_some());
    let shown = stage.engine.attempt_curl(&stage.org, done.id, 1, None).await.unwrap();
    assert!(shown.notes[0].starts_with("the event was erased at "), "{:?}", shown.notes);
    assert!(!shown.notes.iter().any(|note| note.contains("sent nothing")), "{:?}", shown.notes);
    let replay = stage.engine.replay(&stage.org, done.id, &Actor::host()).await.unwrap();
    stage.reaches(replay.id, DeliveryState::Cancelled).await;
    assert_eq!(stage.receiver.seen().count("/hook"), 1, "nothing empty is sent");
    stage.end().await;
}
