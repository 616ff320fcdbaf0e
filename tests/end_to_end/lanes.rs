//! Lanes whose receivers fail, or take only so much.

use std::time::Duration;

use icp::delivery::health::BreakerState;
use icp::delivery::{DeliveryState, LaneState};
use icp::event::NewEvent;
use icp::id::OrgId;
use icp::store::PageQuery;
use icp::time::Timestamp;
use icp_testkit::receiver::{Behaviour, Reaction};
use serde_json::json;

use crate::stage::{Backend, Stage, config, create};

crate::on_every_store! {
    a_failing_receiver_is_left_alone_and_probed,
    a_rate_is_kept_and_costs_no_try,
    another_rate_holds_at_once,
    an_organization_leaves_room_for_others,
}

/// When each attempt began, in order.
async fn starts(stage: &Stage) -> Vec<Timestamp> {
    let mut starts = Vec::new();
    for delivery in stage.deliveries().await {
        let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
        starts.extend(attempts.iter().map(|attempt| attempt.started_at));
    }
    starts.sort_unstable();
    starts
}

async fn a_failing_receiver_is_left_alone_and_probed(backend: Backend) {
    let stage = Stage::new(backend).await;
    let breaker = json!({ "failures": 3, "open_seconds": 1 });
    let retry = json!({ "schedule": { "type": "list", "delays_seconds": [0, 0, 0, 0, 0] } });
    let more = json!({ "breaker": breaker, "retry": retry, "max_in_flight": 1 });
    stage.integration("crm", more).await;
    stage.receiver.behave("/crm", Behaviour::script(vec![Reaction::Status(500); 4]));
    for n in 0..5 {
        stage.publish("order.paid", &json!(n)).await;
    }
    let status = async || {
        stage.engine.lane_statuses(&stage.org, PageQuery::default()).await.unwrap().items.remove(0)
    };
    let open = async || Some(status().await).filter(|lane| lane.state == LaneState::Open);
    let open = stage.until(open).await;
    assert_eq!((open.breaker, open.waiting, open.lane.in_flight), (BreakerState::Open, 5, 0));
    let labels = format!("{{org=\"{}\",integration=\"crm\",lane=\"{}\"}}", stage.org, open.lane.id);
    let metrics = stage.engine.lane_metrics(&stage.org).await.unwrap();
    assert!(metrics.contains(&format!("icp_lane_waiting{labels} 5\n")), "{metrics}");
    assert!(metrics.contains(&format!("icp_lane_oldest_wait_seconds{labels} ")), "{metrics}");
    assert!(metrics.contains(&format!("icp_lane_in_flight{labels} 0\n")), "{metrics}");
    stage.settled(DeliveryState::Delivered, 5).await;
    let starts = starts(&stage).await;
    assert_eq!(starts.len(), 9);
    assert!(starts[3].since(starts[2]) >= Duration::from_millis(800), "{starts:?}");
    assert!(starts[4].since(starts[3]) >= Duration::from_millis(1_600), "{starts:?}");
    assert_eq!(status().await.breaker, BreakerState::Closed);
    stage.end().await;
}

async fn a_rate_is_kept_and_costs_no_try(backend: Backend) {
    let stage = Stage::new(backend).await;
    let rate = json!({ "requests": 5, "per_seconds": 1, "burst": 2 });
    stage.integration("crm", json!({ "rate_limit": rate })).await;
    let events = (0..5).map(|n| stage.event("order.paid", &json!(n))).collect();
    let begun = stage.engine.now();
    assert!(stage.engine.publish_batch(events).await.iter().all(Result::is_ok));
    // They may be claimed a moment after they were taken in. One comes back every 200 ms.
    let taken = async || {
        let lanes = stage.engine.lane_statuses(&stage.org, PageQuery::default()).await.unwrap();
        let back = stage.engine.now().since(begun).as_millis() / 200;
        lanes.items[0].rate.filter(|rate| u128::from(rate.remaining) <= back)
    };
    let rate = stage.until(taken).await;
    assert_eq!((rate.limit, rate.per_seconds, rate.burst), (5, 1, 2));
    stage.settled(DeliveryState::Delivered, 5).await;
    let starts = starts(&stage).await;
    assert!(starts[4].since(begun) >= Duration::from_millis(600), "{begun:?}: {starts:?}");
    assert!(stage.deliveries().await.iter().all(|d| (d.tries, d.epoch) == (1, 1)));
    stage.end().await;
}

async fn another_rate_holds_at_once(backend: Backend) {
    let stage = Stage::new(backend).await;
    let rate = json!({ "requests": 1, "per_seconds": 86_400 });
    stage.integration("crm", json!({ "rate_limit": rate })).await;
    for n in 0..3 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.settled(DeliveryState::Delivered, 1).await;
    stage.change("crm", json!({ "rate_limit": null })).await;
    stage.settled(DeliveryState::Delivered, 3).await;
    stage.end().await;
}

async fn an_organization_leaves_room_for_others(backend: Backend) {
    let mut config = config();
    config.max_in_flight = 8;
    let engine = backend.builder().config(config).build().unwrap();
    let stage = Stage::with(backend, engine).await;
    stage.integration("hang", json!({ "max_in_flight": 100 })).await;
    stage.receiver.behave("/hang", Reaction::Hang);
    let other = OrgId::new("beta").unwrap();
    create(&stage.engine, &other, "organization", None, json!({})).await.unwrap();
    let spec = stage.spec("swift", json!({}));
    create(&stage.engine, &other, "integration", Some("swift"), spec).await.unwrap();
    for n in 0..40 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.receiver.wait_for_to("/hang", 6).await;
    for n in 0..20 {
        let event = NewEvent::json("beta", "order.paid", &json!(n)).unwrap();
        stage.engine.publish(event).await.unwrap();
    }
    stage.settled(DeliveryState::Delivered, 20).await;
    let under_way = stage.receiver.seen().count("/hang");
    assert!((6..8).contains(&under_way), "{under_way} of 8");
    stage.receiver.behave("/hang", Reaction::OK);
    stage.receiver.release("/hang");
    stage.settled(DeliveryState::Delivered, 60).await;
    stage.end().await;
}
