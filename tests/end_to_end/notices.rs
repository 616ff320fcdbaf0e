//! What the engine tells of itself: failing endpoints and dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icp::delivery::DeliveryState;
use icp::event::EventQuery;
use icp::id::ResourceId;
use icp::notice::{DELIVERY_DEAD, ENDPOINT_DISABLED, ENDPOINT_FAILING, ENDPOINT_RECOVERED};
use icp::time::{Clock, SystemClock, Timestamp};
use icp_testkit::receiver::{Reaction, Received};
use serde_json::{Value, json};

use crate::stage::{Backend, Stage};

crate::on_every_store! {
    a_dead_letter_is_told_to_who_asks,
    an_endpoint_fails_and_recovers,
    an_endpoint_that_fails_for_too_long_is_switched_off,
    an_endpoint_that_is_gone_is_told,
    what_is_told_goes_in_no_circles,
    hosts_cannot_publish_them,
}

async fn a_dead_letter_is_told_to_who_asks(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "events": ["order.*"] })).await;
    stage.integration("all", json!({})).await;
    stage.integration("ops", json!({ "events": ["icp.delivery.*"] })).await;
    stage.receiver.behave("/crm", Reaction::Status(500));
    let event = stage.publish("order.paid", &json!({})).await;
    let told = told(&stage, 1).await;
    assert_eq!(told[0].header("icp-event-type"), DELIVERY_DEAD);
    let body = body(&told[0]);
    assert_eq!(body["event"], event.id.to_string());
    assert_eq!(
        (&body["integration"], &body["event_type"], &body["tries"], &body["reason"]["code"]),
        (&json!("crm"), &json!("order.paid"), &json!(4), &json!("exhausted")),
    );
    stage.settled(DeliveryState::Delivered, 2).await;
    assert_eq!(stage.receiver.seen().count("/all"), 1, "`**` takes no operational events");
    stage.end().await;
}

async fn an_endpoint_fails_and_recovers(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "events": ["order.*"] })).await;
    stage.integration("ops", json!({ "events": ["icp.endpoint.**"] })).await;
    stage.receiver.behave("/crm", Reaction::Status(500));
    stage.publish("order.paid", &json!(1)).await;
    stage.settled(DeliveryState::Dead, 1).await;
    assert_eq!(status(&stage).await, Value::Null, "four failures are not yet five");
    stage.publish("order.paid", &json!(2)).await;
    let told_of_failing = told(&stage, 1).await;
    assert_eq!(told_of_failing[0].header("icp-event-type"), ENDPOINT_FAILING);
    assert_eq!(body(&told_of_failing[0])["integration"], "crm");
    stage.settled(DeliveryState::Dead, 2).await;
    let since = stage
        .until(async || status(&stage).await["failing"]["since"].as_str().map(str::to_owned))
        .await;
    assert_eq!(body(&told_of_failing[0])["failing_since"], since);

    stage.receiver.behave("/crm", Reaction::OK);
    stage.publish("order.paid", &json!(3)).await;
    let all = told(&stage, 2).await;
    assert_eq!(all[1].header("icp-event-type"), ENDPOINT_RECOVERED);
    assert_eq!(body(&all[1])["failing_since"], since);
    stage.until(async || status(&stage).await.is_null().then_some(())).await;
    stage.end().await;
}

async fn an_endpoint_that_fails_for_too_long_is_switched_off(backend: Backend) {
    let clock = Arc::new(Ahead::default());
    let engine = backend.builder().clock(Arc::clone(&clock)).build().unwrap();
    let stage = Stage::with(backend, engine).await;
    let failing = json!({ "disable_after_seconds": 3_600 });
    stage.integration("crm", json!({ "events": ["order.*"], "failing": failing })).await;
    stage.integration("ops", json!({ "events": ["icp.endpoint.**"] })).await;
    stage.receiver.behave("/crm", Reaction::Status(500));
    let mut dead = 0;
    for (minutes, heard) in [(0, 0), (0, 1), (31, 2), (12, 3), (11, 4)] {
        clock.forward(Duration::from_secs(minutes * 60));
        dead += 1;
        stage.publish("order.paid", &json!(dead)).await;
        stage.settled(DeliveryState::Dead, dead).await;
        told(&stage, heard).await;
    }
    clock.forward(Duration::from_secs(7 * 60));
    stage.publish("order.paid", &json!("the last")).await;
    let told = told(&stage, 6).await;
    let percents: Vec<_> = told.iter().map(|told| body(told)["percent"].clone()).collect();
    assert_eq!(percents, [0, 50, 70, 90, 100, 100].map(Value::from));
    // The last two are delivered side by side.
    let disabled: Vec<_> =
        told[4..].iter().filter(|it| it.header("icp-event-type") == ENDPOINT_DISABLED).collect();
    assert_eq!(disabled.len(), 1);
    assert_eq!(body(disabled[0])["reason"], "failing");
    let status = stage
        .until(async || Some(status(&stage).await).filter(|s| !s["switched_off"].is_null()))
        .await;
    assert_eq!(status["switched_off"]["reason"], "failing");
    // The node takes its own write in when that has returned. What is matched before never gets
    // due, so that it does not fail as well.
    let far = clock.now() + Duration::from_secs(86_400);
    let off = async || {
        let event = stage.event("order.paid", &json!(9)).due_at(far);
        (stage.engine.publish(event).await.unwrap().deliveries == 0).then_some(())
    };
    stage.until(off).await;

    // Switched on again, its time begins anew: one more failure switches nothing off.
    stage.change("crm", json!({ "enabled": true })).await;
    stage.settled(DeliveryState::Dead, dead + 1).await;
    assert_eq!(self::status(&stage).await, Value::Null);
    let one = stage.publish("order.paid", &json!(10)).await;
    assert_eq!(one.deliveries, 1);
    stage.settled(DeliveryState::Dead, dead + 2).await;
    let status = stage
        .until(async || Some(self::status(&stage).await).filter(|s| !s["failing"].is_null()))
        .await;
    assert_eq!((&status["failing"]["alerted"], &status["switched_off"]), (&json!(0), &Value::Null));
    stage.end().await;
}

async fn an_endpoint_that_is_gone_is_told(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "events": ["order.*"] })).await;
    stage.integration("ops", json!({ "events": [ENDPOINT_DISABLED] })).await;
    stage.receiver.behave("/crm", Reaction::Status(410));
    stage.publish("order.paid", &json!({})).await;
    let told = told(&stage, 1).await;
    assert_eq!(body(&told[0]), json!({ "integration": "crm", "reason": "gone" }));
    stage.end().await;
}

async fn what_is_told_goes_in_no_circles(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("ops", json!({ "events": ["icp.**", "order.*"] })).await;
    stage.receiver.behave("/ops", Reaction::Status(500));
    for n in 0..2 {
        stage.publish("order.paid", &json!(n)).await;
    }
    // Both orders are dead, each dead letter is told once, and so is the failing endpoint; none
    // of the three could be delivered, and nobody hears of that.
    stage.settled(DeliveryState::Dead, 5).await;
    stage.integration("other", json!({})).await;
    stage.publish("order.paid", &json!("after")).await;
    stage.settled(DeliveryState::Delivered, 1).await;
    stage.settled(DeliveryState::Dead, 7).await;
    let events = stage.engine.events(&stage.org, &EventQuery::default()).await.unwrap().items;
    let own = events.iter().filter(|event| event.event_type.is_operational()).count();
    assert_eq!((events.len() - own, own), (3, 4));
    stage.end().await;
}

async fn hosts_cannot_publish_them(backend: Backend) {
    let stage = Stage::new(backend).await;
    let refused = stage.engine.publish(stage.event("icp.endpoint.failing", &json!({}))).await;
    assert_eq!(refused.unwrap_err().code(), icp::Code::EventTypeReserved);
    stage.end().await;
}

/// The operational events that `ops` was told, once there are so many.
async fn told(stage: &Stage, count: usize) -> Vec<Received> {
    stage.receiver.wait_for_to("/ops", count).await
}

fn body(received: &Received) -> Value {
    serde_json::from_slice(&received.body).unwrap()
}

async fn status(stage: &Stage) -> Value {
    let id = ResourceId::new("crm").unwrap();
    stage.engine.resources().get(&stage.org, "integration", &id).await.unwrap().status
}

/// The system's clock, ahead by what a test says.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Ahead {
    fn forward(&self, by: Duration) {
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
