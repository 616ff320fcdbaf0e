//! What an operator does while events come in.

use icp::delivery::{DeliveryFilter, DeliveryState};
use icp::event::NewEvent;
use icp::id::ResourceId;
use icp::resource::{Actor, AuditQuery, BulkAction};
use icp::secret::SecretString;
use icp::signing::standard::StandardVerifier;
use icp::signing::{KeyRing, Verifier};
use icp::store::PageQuery;
use icp_testkit::receiver::{Behaviour, Reaction};
use serde_json::json;

use crate::stage::{Backend, Stage};

crate::on_every_store! {
    a_failed_one_is_skipped_and_delivered_late,
    a_failed_one_is_dead_at_once_and_the_next_goes_on,
    a_pause_keeps_order_and_burns_no_try,
    a_paused_organization_delivers_nothing,
    what_waits_is_called_off_and_what_is_under_way_ends,
    a_copy_delivers_with_its_own_key_and_the_same_password,
    a_pause_outlives_the_engine,
}

fn crm() -> ResourceId {
    ResourceId::new("crm").unwrap()
}

fn numbered(stage: &Stage, n: usize) -> NewEvent {
    stage.event("order.paid", &json!(n)).ordering_key("order-17")
}

fn bodies(stage: &Stage) -> Vec<String> {
    let requests = stage.receiver.requests("/crm");
    requests.iter().map(|r| String::from_utf8(r.body.to_vec()).unwrap()).collect()
}

async fn a_failed_one_is_skipped_and_delivered_late(backend: Backend) {
    let stage = Stage::new(backend).await;
    let choice = json!({ "type": "skip_after", "tries": 2 });
    let retry = json!({ "schedule": { "type": "list", "delays_seconds": [0, 2] } });
    let spec = json!({ "ordering": "by_key", "on_failure": choice, "retry": retry });
    stage.integration("crm", spec).await;
    let twice = [Reaction::Status(500), Reaction::Status(500)];
    stage.receiver.behave("/crm", Behaviour::script(twice));
    for n in 0..3 {
        stage.engine.publish(numbered(&stage, n)).await.unwrap();
    }
    stage.settled(DeliveryState::Delivered, 3).await;
    assert_eq!(bodies(&stage), ["0", "0", "1", "2", "0"]);
    let found = stage.deliveries().await;
    let out: Vec<_> = found.iter().map(|delivery| delivery.out_of_order).collect();
    assert_eq!(out, [true, false, false]);
    stage.end().await;
}

async fn a_failed_one_is_dead_at_once_and_the_next_goes_on(backend: Backend) {
    let stage = Stage::new(backend).await;
    let spec = json!({ "ordering": "by_key", "on_failure": { "type": "dead_letter" } });
    stage.integration("crm", spec).await;
    stage.receiver.behave("/crm", Behaviour::script([Reaction::Status(500)]));
    for n in 0..3 {
        stage.engine.publish(numbered(&stage, n)).await.unwrap();
    }
    stage.settled(DeliveryState::Delivered, 2).await;
    assert_eq!(bodies(&stage), ["0", "1", "2"]);
    let dead = stage.deliveries().await.remove(0);
    assert_eq!((dead.state, dead.tries), (DeliveryState::Dead, 1));
    assert_eq!(dead.reason.unwrap().code, "first_failure");
    stage.end().await;
}

async fn a_pause_keeps_order_and_burns_no_try(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "ordering": "by_key" })).await;
    stage.integration("other", json!({})).await;
    stage.receiver.behave("/crm", Reaction::Hang);
    stage.engine.publish(numbered(&stage, 0)).await.unwrap();
    stage.receiver.wait_for_to("/crm", 1).await;
    let (engine, org, host) = (&stage.engine, &stage.org, Actor::host());
    let paused = engine.pause_integration(org, &crm(), "repairs", &host).await.unwrap();
    assert_eq!(paused.status["paused"]["reason"], "repairs");
    stage.receiver.release("/crm");
    for n in 1..5 {
        let published = engine.publish(numbered(&stage, n)).await.unwrap();
        assert_eq!(published.deliveries, 2, "a paused integration goes on to collect");
    }
    // What was under way ends, and the other integration's whole way passes meanwhile.
    stage.settled(DeliveryState::Delivered, 6).await;
    assert_eq!(bodies(&stage), ["0"]);
    let waiting = stage.deliveries().await;
    let waiting: Vec<_> = waiting.iter().filter(|d| d.state == DeliveryState::Ready).collect();
    assert_eq!(waiting.len(), 4);
    assert!(waiting.iter().all(|delivery| delivery.tries == 0));

    engine.resume_integration(org, &crm(), &host).await.unwrap();
    stage.settled(DeliveryState::Delivered, 10).await;
    assert_eq!(bodies(&stage), ["0", "1", "2", "3", "4"]);
    assert!(stage.deliveries().await.iter().all(|delivery| delivery.tries == 1));
    let query = AuditQuery { id: Some(crm()), ..AuditQuery::default() };
    let log = engine.resources().audit_log(org, &query).await.unwrap().items;
    let actions: Vec<_> = log.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["resume", "pause", "create"]);
    stage.end().await;
}

async fn a_paused_organization_delivers_nothing(backend: Backend) {
    let stage = Stage::new(backend).await;
    let (engine, org, host) = (&stage.engine, &stage.org, Actor::host());
    engine.pause_organization(org, "flood", &host).await.unwrap();
    stage.integration("crm", json!({})).await;
    stage.publish("order.paid", &json!(1)).await;
    let waiting = stage.only(DeliveryState::Ready).await;
    assert_eq!((waiting.tries, waiting.epoch), (0, 0), "not even handed over");
    assert!(engine.lanes(org, PageQuery::default()).await.unwrap().items[0].paused);
    engine.resume_organization(org, &host).await.unwrap();
    stage.only(DeliveryState::Delivered).await;
    stage.end().await;
}

async fn what_waits_is_called_off_and_what_is_under_way_ends(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "max_in_flight": 2 })).await;
    stage.receiver.behave("/crm", Reaction::Hang);
    let event = |n| stage.event(if n % 2 == 0 { "order.paid" } else { "order.sent" }, &json!(n));
    let events: Vec<_> = (0..1_200).map(event).collect();
    for batch in events.chunks(100) {
        for published in stage.engine.publish_batch(batch.to_vec()).await {
            published.unwrap();
        }
    }
    stage.receiver.wait_for_to("/crm", 2).await;
    let event_type = "order.paid".parse().ok();
    let filter = DeliveryFilter { integration: Some(crm()), event_type, ..Default::default() };
    let (engine, org, host) = (&stage.engine, &stage.org, Actor::host());
    let preview = engine.preview_cancel(org, &filter).await.unwrap();
    assert_eq!(preview.ready + preview.in_flight, 600);
    assert!(preview.in_flight <= 2);
    let done = engine.cancel_many(org, &filter, "wrong prices", &host).await.unwrap();
    assert_eq!((done.cancelled, done.in_flight), (preview.ready, preview.in_flight));
    stage.receiver.release("/crm");
    stage.settled(DeliveryState::Delivered, 1_200 - done.cancelled).await;
    stage.settled(DeliveryState::Cancelled, done.cancelled).await;
    stage.end().await;
}

async fn a_copy_delivers_with_its_own_key_and_the_same_password(backend: Backend) {
    let stage = Stage::new(backend).await;
    let auth = json!({ "type": "basic", "username": "icp", "password": "open sesame" });
    stage.integration("crm", json!({ "auth": auth })).await;
    let (resources, org, host) = (stage.engine.resources(), &stage.org, Actor::host());
    let copy = resources.duplicate(org, &crm(), &host).await.unwrap();
    let ids = [crm()];
    let switched = resources.bulk(org, BulkAction::Disable, &ids, &host).await.unwrap();
    assert!(switched[0].outcome.is_ok());
    assert_eq!(stage.publish("order.paid", &json!({})).await.deliveries, 1);
    stage.only(DeliveryState::Delivered).await;
    let request = stage.receiver.requests("/crm").remove(0);
    assert_eq!(request.header("authorization"), "Basic aWNwOm9wZW4gc2VzYW1l");
    let verifies = |secret: SecretString| {
        let verifier = StandardVerifier::new(&KeyRing::single(secret)).unwrap();
        verifier.verify(&request.headers, &request.body, stage.engine.now()).is_ok()
    };
    assert!(verifies(copy.signing.unwrap().secret.unwrap()));
    assert!(!verifies(crate::stage::SIGNING_SECRET.into()));
    stage.end().await;
}

async fn a_pause_outlives_the_engine(backend: Backend) {
    let mut stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let host = Actor::host();
    stage.engine.pause_integration(&stage.org, &crm(), "repairs", &host).await.unwrap();
    stage.running().shutdown(std::time::Duration::from_secs(5)).await;
    let next = stage.backend.builder().build().unwrap();
    let running = next.start().await.unwrap();
    next.publish(stage.event("order.paid", &json!(1))).await.unwrap();
    let waiting = stage.only(DeliveryState::Ready).await;
    assert_eq!((waiting.tries, waiting.epoch), (0, 0));
    let shown = next.resources().get(&stage.org, "integration", &crm()).await.unwrap();
    assert_eq!(shown.status["paused"]["by"], "host");
    next.resume_integration(&stage.org, &crm(), &host).await.unwrap();
    stage.only(DeliveryState::Delivered).await;
    running.shutdown(std::time::Duration::from_secs(5)).await;
    stage.end().await;
}
