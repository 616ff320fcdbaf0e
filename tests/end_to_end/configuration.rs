//! What a change of the configuration does to deliveries.

use icp::delivery::DeliveryState;
use icp::id::ResourceId;
use icp::integration::MatchReason;
use icp::{Code, Error};
use icp_testkit::receiver::Reaction;
use serde_json::json;

use crate::stage::{Backend, Stage, create};

crate::on_every_store! {
    gone_switches_the_integration_off,
    a_disabled_integration_holds_its_deliveries,
    a_deleted_integration_cancels_its_deliveries,
    a_mapping_drops_what_it_is_told_to,
    an_explanation_says_why,
    an_idempotency_key_counts_once,
}

async fn gone_switches_the_integration_off(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    stage.receiver.behave("/crm", Reaction::Status(410));
    stage.publish("order.paid", &json!({})).await;
    let dead = stage.only(DeliveryState::Dead).await;
    assert_eq!((dead.tries, dead.reason.unwrap().code.as_str()), (1, "gone"));
    let id = ResourceId::new("crm").unwrap();
    let crm = stage.engine.resources().get(&stage.org, "integration", &id).await.unwrap();
    assert_eq!(crm.spec["enabled"], json!(false));
    assert_eq!(crm.status["switched_off"]["reason"], "gone");
    let next = stage.publish("order.paid", &json!({})).await;
    assert_eq!(next.deliveries, 0);
    stage.end().await;
}

async fn a_disabled_integration_holds_its_deliveries(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "max_in_flight": 1 })).await;
    stage.integration("other", json!({})).await;
    stage.receiver.behave("/crm", Reaction::Hang);
    for n in 0..3 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.receiver.wait_for_to("/crm", 1).await;
    stage.change("crm", json!({ "enabled": false })).await;
    stage.receiver.release("/crm");
    stage.settled(DeliveryState::Delivered, 4).await;
    // Another lane's whole way passes meanwhile, with polls of the store on the way.
    stage.publish("order.paid", &json!(3)).await;
    stage.settled(DeliveryState::Delivered, 5).await;
    assert_eq!(stage.receiver.seen().count("/crm"), 1);
    let held = stage.deliveries().await;
    assert_eq!(held.iter().filter(|d| d.state == DeliveryState::Ready).count(), 2);

    stage.change("crm", json!({ "enabled": true })).await;
    stage.settled(DeliveryState::Delivered, 7).await;
    assert_eq!(stage.receiver.seen().count("/crm"), 3);
    stage.end().await;
}

async fn a_deleted_integration_cancels_its_deliveries(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "max_in_flight": 1 })).await;
    stage.receiver.behave("/crm", Reaction::Hang);
    for n in 0..3 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.receiver.wait_for_to("/crm", 1).await;
    stage.delete("crm").await;
    stage.receiver.release("/crm");
    stage.settled(DeliveryState::Cancelled, 2).await;
    stage.settled(DeliveryState::Delivered, 1).await;
    assert_eq!(stage.receiver.seen().count("/crm"), 1);
    let cancelled = stage.deliveries().await;
    let cancelled = cancelled.iter().find(|d| d.state == DeliveryState::Cancelled).unwrap();
    let refused = stage
        .engine
        .replay(&stage.org, cancelled.id, &icp::resource::Actor::host())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::IntegrationNotFound);
    stage.end().await;
}

async fn a_mapping_drops_what_it_is_told_to(backend: Backend) {
    let stage = Stage::new(backend).await;
    let mapping = json!({
        "base": "empty",
        "rules": [{ "target": "number", "from": "order" }],
        "drop": { "when": { "test": true }, "reason": "test data" },
    });
    stage.integration("crm", json!({ "transform": [{ "map": mapping }] })).await;
    stage.publish("order.paid", &json!({ "order": 1, "test": true })).await;
    let skipped = stage.only(DeliveryState::Skipped).await;
    assert_eq!(skipped.reason.unwrap().message, "test data");
    stage.publish("order.paid", &json!({ "order": 2 })).await;
    let received = stage.receiver.wait_for_to("/crm", 1).await.remove(0);
    assert_eq!(received.body, r#"{"number":2}"#);
    stage.settled(DeliveryState::Delivered, 1).await;
    stage.end().await;
}

async fn an_explanation_says_why(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("matched", json!({ "events": ["order.*"] })).await;
    stage.integration("other-type", json!({ "events": ["invoice.*"] })).await;
    stage.integration("switched-off", json!({ "enabled": false })).await;
    let filter = json!({ "filter": { "data.total": { "$gt": 100 } } });
    stage.integration("filtered", filter).await;
    let published = stage.publish("order.paid", &json!({ "total": 5 })).await;
    assert_eq!(published.deliveries, 1);
    stage.only(DeliveryState::Delivered).await;
    stage.change("matched", json!({ "events": ["nothing.*"] })).await;

    let explained = stage.engine.explain(&stage.org, published.id).await.unwrap();
    let filtered = MatchReason::Filter { why: "`data.total` fails `$gt`".into() };
    let reasons: Vec<_> =
        explained.integrations.iter().map(|e| (e.integration.as_str(), &e.reason)).collect();
    let expected = [
        ("filtered", &filtered),
        ("matched", &MatchReason::Matched),
        ("other-type", &MatchReason::EventType),
        ("switched-off", &MatchReason::Disabled),
    ];
    assert_eq!(reasons, expected);
    let matched = &explained.integrations[1];
    assert!(matched.changed_since);
    assert_eq!(matched.deliveries.len(), 1);
    assert_eq!(matched.deliveries[0].state, DeliveryState::Delivered);
    stage.end().await;
}

async fn an_idempotency_key_counts_once(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let event = |n: u32| stage.event("order.paid", &json!(n)).idempotency_key("order-17");
    let first = stage.engine.publish(event(1)).await.unwrap();
    let again = stage.engine.publish(event(1)).await.unwrap();
    assert_eq!((again.id, again.duplicate, again.deliveries), (first.id, true, 0));
    let conflict = stage.engine.publish(event(2)).await.unwrap_err();
    assert_eq!(conflict.code(), Code::IdempotencyConflict);
    let batch = stage.engine.publish_batch(vec![event(1), event(2), event(1)]).await;
    let codes: Vec<_> = batch.iter().map(|r| r.as_ref().err().map(Error::code)).collect();
    assert_eq!(codes, [None, Some(Code::IdempotencyConflict), None]);

    let globex = icp::id::OrgId::new("globex").unwrap();
    create(&stage.engine, &globex, "organization", None, json!({})).await.unwrap();
    let other = icp::event::NewEvent::json("globex", "order.paid", &json!(2)).unwrap();
    let other = stage.engine.publish(other.idempotency_key("order-17")).await.unwrap();
    assert!(!other.duplicate);
    stage.only(DeliveryState::Delivered).await;
    stage.end().await;
}
