//! Secrets that reach the receiver and nothing else.

use std::time::Duration;

use base64::Engine as _;
use icp::delivery::DeliveryState;
use icp::id::ResourceId;
use icp::integration::MatchReason;
use icp::resource::{AuditQuery, ListQuery};
use icp::secret::{LocalKeys, SystemEntropy};
use icp_testkit::receiver::{Behaviour, Reaction};
use serde_json::json;

use crate::stage::{Backend, SIGNING_SECRET, Stage, config, create};

crate::on_every_store! {
    a_secret_is_shown_to_its_receiver_only,
    a_refused_secret_is_not_repeated,
    events_wait_for_a_key_that_is_missing,
}

const CANARY: &str = "canary-c4e1f2-password";

/// What must not be seen: the password, its base64 as in `Authorization`, and the signing key.
fn hunted() -> [String; 3] {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("icp:{CANARY}"));
    [CANARY.to_owned(), basic, SIGNING_SECRET.trim_start_matches("whsec_").to_owned()]
}

fn assert_hidden(place: &str, text: &str) {
    for secret in hunted() {
        assert!(!text.contains(&secret), "{place} shows a secret: {text}");
    }
}

async fn a_secret_is_shown_to_its_receiver_only(backend: Backend) {
    let mut stage = Stage::new(backend).await;
    let auth = json!({ "type": "basic", "username": "icp", "password": CANARY });
    let created = stage.integration("crm", json!({ "auth": auth })).await;
    stage.receiver.behave("/crm", Behaviour::script([Reaction::Status(500), Reaction::Reset]));
    stage.publish("order.paid", &json!({})).await;
    let delivery = stage.only(DeliveryState::Delivered).await;
    let received = stage.receiver.requests("/crm").pop().unwrap();
    assert_eq!(received.header("authorization"), format!("Basic {}", hunted()[1]));

    let (engine, org) = (&stage.engine, &stage.org);
    let id = ResourceId::new("crm").unwrap();
    let resources = engine.resources();
    assert_hidden("the answer of create", &serde_json::to_string(&created).unwrap());
    stage.change("crm", json!({ "max_in_flight": 3 })).await;
    let got = resources.get(org, "integration", &id).await.unwrap();
    assert_eq!(got.spec["auth"]["username"], "icp");
    assert_hidden("the answer of get", &serde_json::to_string(&got).unwrap());
    let list = resources.list(org, "integration", &ListQuery::default()).await.unwrap();
    assert_hidden("the answer of list", &serde_json::to_string(&list.items).unwrap());
    let history = resources.history(org, "integration", &id, None, 10).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_hidden("the history", &serde_json::to_string(&history).unwrap());
    let log = resources.audit_log(org, &AuditQuery::default()).await.unwrap();
    assert_hidden("the audit log", &format!("{log:?}"));
    let attempts = engine.attempts(org, delivery.id).await.unwrap();
    assert_eq!(attempts.len(), 3);
    assert_hidden("the attempts", &format!("{attempts:?}"));
    assert_hidden("the delivery", &format!("{delivery:?}"));
    assert_hidden("debug", &format!("{engine:?} {:?}", stage.backend.store));
    assert_hidden("the metrics", &engine.metrics().render());

    stage.publish("order.paid", &json!({})).await;
    stage.settled(DeliveryState::Delivered, 2).await;
    let last = stage.receiver.requests("/crm").pop().unwrap();
    assert_eq!(last.header("authorization"), format!("Basic {}", hunted()[1]));
    stage.running().shutdown(Duration::from_secs(5)).await;
    stored_bytes_hide_everything(&stage.backend);
    stage.end().await;
}

async fn events_wait_for_a_key_that_is_missing(backend: Backend) {
    let mut stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    stage.running().shutdown(Duration::from_secs(5)).await;

    let mut hasty = config();
    hasty.poll = Duration::from_millis(20);
    let other = LocalKeys::generate("k2", &SystemEntropy).unwrap();
    let keyless = stage.backend.another_node().await.keys(other).config(hasty).build().unwrap();
    let running = keyless.start().await.unwrap();
    let event = stage.event("order.paid", &json!({ "order": 17 }));
    let published = keyless.publish(event).await.unwrap();
    assert_eq!(published.deliveries, 1);
    let explained = keyless.explain(&stage.org, published.id).await.unwrap();
    assert!(matches!(explained.integrations[0].reason, MatchReason::Waits { .. }), "{explained:?}");
    let waits = stage
        .until(async || {
            let delivery = stage.deliveries().await.remove(0);
            (delivery.epoch > 0 && delivery.tries == 0).then_some(delivery)
        })
        .await;
    running.shutdown(Duration::from_secs(5)).await;

    let restored = stage.backend.another_node().await.build().unwrap();
    let running = restored.start().await.unwrap();
    let delivered = stage.reaches(waits.id, DeliveryState::Delivered).await;
    assert_eq!(delivered.tries, 1);
    let received = stage.receiver.requests("/crm").remove(0);
    assert_eq!(received.body, r#"{"order":17}"#);
    running.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

fn stored_bytes_hide_everything(backend: &Backend) {
    let Some((_, dir)) = &backend.sqlite else { return };
    let mut bytes = 0;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        bytes += content.len();
        for secret in hunted() {
            let found = content.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "{} holds {secret}", path.display());
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(&hunted()[2]).unwrap();
        assert!(!content.windows(decoded.len()).any(|w| w == decoded));
    }
    assert!(bytes > 10_000, "the database has only {bytes} bytes");
}

async fn a_refused_secret_is_not_repeated(backend: Backend) {
    let stage = Stage::new(backend).await;
    for (id, field, value) in [
        ("a", "auth", json!({ "type": "basic", "username": "a:b", "password": CANARY })),
        ("b", "auth", json!({ "type": "basic", "username": "a", "password": [CANARY] })),
        ("c", "auth", json!({ "type": "bearer", "password": CANARY })),
        ("e", "signing", json!({ "keys": [{ "secret": format!("whsec_{CANARY}") }] })),
        ("f", "auth", json!({ "type": "bearer", "token": format!("{CANARY}\n") })),
    ] {
        let spec = stage.spec(id, json!({ field: value }));
        let refused = create(&stage.engine, &stage.org, "integration", Some(id), spec).await;
        let error = refused.unwrap_err();
        assert_hidden("an error", &format!("{error} {error:?} {:?}", error.list()));
    }
    stage.end().await;
}
