//! Events that arrive, at once or in the end.

use icp::delivery::{AttemptOutcome, DeliveryState};
use serde_json::json;
use standardwebhooks::Webhook;

use crate::stage::{Backend, SIGNING_SECRET, Stage};

crate::on_every_store! {
    an_event_arrives_signed,
}

async fn an_event_arrives_signed(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let body = json!({ "order": 17, "text": "grün" });
    let published = stage.publish("order.paid", &body).await;
    assert_eq!((published.deliveries, published.duplicate), (1, false));

    let received = stage.receiver.wait_for_to("/crm", 1).await.remove(0);
    Webhook::new(SIGNING_SECRET).unwrap().verify(&received.body, &received.headers).unwrap();
    assert_eq!(received.body, serde_json::to_vec(&body).unwrap());
    assert_eq!(received.id(), published.id.to_string());
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("icp-event-type"), "order.paid");

    let delivery = stage.only(DeliveryState::Delivered).await;
    assert_eq!((delivery.tries, delivery.epoch, delivery.event), (1, 1, published.id));
    let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Delivered);
    assert_eq!(attempts[0].status, Some(200));
    assert_eq!(received.header("icp-delivery"), delivery.id.to_string());
    stage.end().await;
}
