#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use icp_core::secret::SystemEntropy;
use icp_core::signing::standard::generate_keypair;
use serde_json::{Value, json};

use crate::harness::{Api, orders};

const ORG: &str = "/api/v1/organizations/acme";
const ONE: &str = "/api/v1/organizations/acme/integrations/orders";

async fn log(api: &Api, filter: &str) -> Vec<Value> {
    let log = api.get(&format!("{ORG}/audit?{filter}")).await.expect(200);
    log["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_integration_is_paused_and_goes_on() {
    let api = Api::with_orders().await;
    let paused = api.post(&format!("{ONE}/pause"), json!({"reason": "repairs"})).await.expect(200);
    let note = &paused["status"]["paused"];
    assert_eq!(note["reason"], "repairs");
    assert!(note["by"].as_str().unwrap().starts_with("key:") && note["at"].is_string());
    let again = api.post(&format!("{ONE}/pause"), json!({"reason": "more"})).await.expect(200);
    assert_eq!((&again["revision"], &again["status"]), (&paused["revision"], &paused["status"]));
    let (_, id) = api.paid().await;
    let running = api.engine.start().await.unwrap();
    let lanes = api.get(&format!("{ORG}/lanes")).await.expect(200);
    assert_eq!(lanes["items"][0]["paused"], true);
    let patch = json!({"name": "Orders"});
    let patched = api.send("PATCH", ONE, &[], patch).await.expect(200);
    assert_eq!(patched["status"], paused["status"], "an edit does not end a pause");
    let shown = api.get(&format!("{ORG}/deliveries/{id}")).await.expect(200);
    assert_eq!((&shown["state"], &shown["tries"]), (&json!("ready"), &json!(0)));

    let resumed = api.call("POST", &format!("{ONE}/resume"), &[], "").await.expect(200);
    assert_eq!(resumed["status"], Value::Null);
    let lanes = api.get(&format!("{ORG}/lanes")).await.expect(200);
    assert_eq!(lanes["items"][0]["paused"], false);
    let actions: Vec<_> =
        log(&api, "kind=integration").await.iter().map(|e| e["action"].clone()).collect();
    assert_eq!(actions, ["resume", "update", "pause", "create"]);
    running.shutdown(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_organization_is_paused_and_goes_on() {
    let api = Api::with_orders().await;
    api.paid().await;
    let paused = api.post(&format!("{ORG}/pause"), json!({"reason": "flood"})).await.expect(200);
    assert_eq!(paused["status"]["paused"]["reason"], "flood");
    api.post(&format!("{ONE}/pause"), json!({"reason": "too"})).await.expect(200);
    api.call("POST", &format!("{ORG}/resume"), &[], "").await.expect(200);
    let lanes = api.get(&format!("{ORG}/lanes")).await.expect(200);
    assert_eq!(lanes["items"][0]["paused"], true, "the integration's own pause stands");
    api.call("DELETE", ONE, &[], "").await.expect(204);
    let lanes = api.get(&format!("{ORG}/lanes")).await.expect(200);
    assert_eq!(lanes["items"][0]["paused"], false, "nothing rests for what is gone");
    let none = "/api/v1/organizations/none/pause";
    api.post(none, json!({"reason": ""})).await.problem(404, "resource_not_found");
    api.post(&format!("{ONE}/pause"), json!({"reason": ""}))
        .await
        .problem(404, "resource_not_found");
    api.post(&format!("{ORG}/pause"), json!({})).await.problem(400, "body_malformed");
}

#[tokio::test]
async fn many_deliveries_are_counted_and_called_off() {
    let api = Api::with_orders().await;
    for _ in 0..3 {
        api.paid().await;
    }
    let path = format!("{ORG}/deliveries/cancel");
    let filter = json!({"integration": "orders", "event_type": "order.paid"});
    let preview = api.post(&format!("{path}/preview"), filter.clone()).await.expect(200);
    assert_eq!(preview, json!({"ready": 3, "in_flight": 0}));
    let other = api.post(&format!("{path}/preview"), json!({"event_type": "a.b"})).await;
    assert_eq!(other.expect(200), json!({"ready": 0, "in_flight": 0}));
    let done = api.post(&path, json!({"filter": filter, "reason": "wrong data"})).await.expect(200);
    assert_eq!(done, json!({"cancelled": 3, "in_flight": 0}));
    let found = api.get(&format!("{ORG}/deliveries?state=cancelled")).await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 3);
    assert_eq!(found["items"][0]["reason"]["message"], "wrong data");
    let again = api.post(&path, json!({"filter": {}})).await.expect(200);
    assert_eq!(again["cancelled"], 0);

    let log = log(&api, "kind=integration&id=orders").await;
    assert_eq!(log[0]["action"], "cancel_deliveries_end");
    assert_eq!(log[0]["note"], "3 called off, 0 under way not touched");
    assert!(log[0]["actor"]["name"].as_str().unwrap().starts_with("key:key_"));
    let begin = log[1]["note"].as_str().unwrap();
    assert!(begin.starts_with("integration orders, event type order.paid"), "{begin}");

    let bad = json!({"ordering_key": "k"});
    let problem = api.post(&format!("{path}/preview"), bad).await.problem(400, "selection_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/ordering_key");
    api.post(&path, json!({"filter": {"lane": "x"}})).await.problem(400, "selection_invalid");
    let none = "/api/v1/organizations/none/deliveries/cancel/preview";
    api.post(none, json!({})).await.problem(404, "organization_unknown");
}

#[tokio::test]
async fn one_delivery_called_off_and_replayed_is_in_the_audit_log() {
    let api = Api::with_orders().await;
    let (_, id) = api.paid().await;
    let one = format!("{ORG}/deliveries/{id}");
    let named = [("x-request-id", "req-7")];
    api.send("POST", &format!("{one}/cancel"), &named, json!({"reason": "late"})).await.expect(200);
    let new = api.call("POST", &format!("{one}/replay"), &named, "").await.expect(201);
    let log = log(&api, &format!("kind=delivery&id={id}")).await;
    let rows: Vec<_> = log.iter().map(|e| (e["action"].clone(), e["note"].clone())).collect();
    let made = format!("as {}", new["id"].as_str().unwrap());
    assert_eq!(rows, [(json!("replay"), json!(made)), (json!("cancel"), json!("late"))]);
    for entry in &log {
        assert_eq!(entry["actor"]["request_id"], "req-7");
        assert!(entry["actor"]["name"].as_str().unwrap().starts_with("key:key_"));
    }
}

#[tokio::test]
async fn a_copy_has_all_but_the_id_and_the_signing_secret() {
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let api = Api::with_orders().await;
    let signing = json!({"spec": {"signing": {"keys": [{"id": "k", "secret": secret}]}}});
    let original = api.send("PATCH", ONE, &[], signing).await.expect(200);
    api.post(&format!("{ONE}/pause"), json!({"reason": "x"})).await.expect(200);
    let copied = api.call("POST", &format!("{ONE}/duplicate"), &[], "").await;
    let answer = copied.expect(201);
    let copy = &answer["integration"];
    let id = copy["id"].as_str().unwrap();
    assert_ne!(id, "orders");
    assert_eq!(copied.header("location"), format!("{ORG}/integrations/{id}"));
    assert_eq!(copied.header("cache-control"), "no-store");
    assert_eq!((&copy["name"], &copy["status"]), (&json!("orders (Copy)"), &Value::Null));
    assert_eq!((&copy["spec"], &copy["labels"]), (&original["spec"], &original["labels"]));
    let fresh = answer["signing_secret"].as_str().unwrap();
    assert!(fresh.starts_with("whsec_") && fresh != secret);
    assert!(!copied.text.contains(secret) && !copied.text.contains("hush-hush"));
    let shown = api.get(&format!("{ORG}/integrations/{id}")).await;
    assert!(!shown.text.contains(fresh), "the fresh secret is shown once");
    assert_eq!(log(&api, &format!("id={id}")).await[0]["action"], "duplicate");
    let none = format!("{ORG}/integrations/none/duplicate");
    api.call("POST", &none, &[], "").await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn many_integrations_are_switched_each_with_its_outcome() {
    let api = Api::with_orders().await;
    let mut second = orders();
    second["id"] = "second".into();
    api.post(&format!("{ORG}/integrations"), second).await.expect(201);
    let path = format!("{ORG}/bulk/integrations");
    let bulk = async |action: &str, ids: Value| {
        let answer =
            api.post(&path, json!({"action": action, "ids": ids, "continue_on_error": true}));
        let answer = answer.await.expect(200);
        let statuses: Vec<_> =
            answer["results"].as_array().unwrap().iter().map(|r| r["status"].clone()).collect();
        (answer, statuses)
    };
    let (answer, statuses) = bulk("disable", json!(["orders", "none", "second"])).await;
    assert_eq!(statuses, [200, 404, 200]);
    assert_eq!((&answer["done"], &answer["refused"]), (&json!(2), &json!(1)));
    assert_eq!(answer["results"][0]["document"]["spec"]["enabled"], false);
    assert_eq!(answer["results"][1]["problem"]["code"], "resource_not_found");
    assert!(!answer.to_string().contains("hush-hush"));
    let before = api.get(ONE).await.expect(200)["revision"].clone();
    assert_eq!(bulk("disable", json!(["orders"])).await.1, [200]);
    assert_eq!(
        api.get(ONE).await.expect(200)["revision"],
        before,
        "nothing to do, nothing written"
    );
    let (answer, _) = bulk("enable", json!(["orders", "second"])).await;
    assert_eq!(answer["results"][1]["document"]["spec"]["enabled"], true);
    assert_eq!(bulk("delete", json!(["orders", "second", "second"])).await.1, [204, 204, 404]);
    api.get(ONE).await.problem(404, "resource_not_found");

    let many: Vec<_> = (0..101).map(|n| format!("i{n}")).collect();
    for ids in [json!([]), json!(many)] {
        let refused = api.post(&path, json!({"action": "delete", "ids": ids})).await;
        let problem = refused.problem(400, "resource_invalid");
        assert_eq!(problem["violations"][0]["pointer"], "/ids");
    }
}

#[tokio::test]
async fn a_copy_of_what_signs_with_a_pair_shows_its_public_half() {
    let api = Api::with_orders().await;
    let (secret, public) = generate_keypair(&SystemEntropy).unwrap();
    let signing = json!({"spec": {"signing": {"keys": [{"secret": secret.expose()}]}}});
    api.send("PATCH", ONE, &[], signing).await.expect(200);
    let copied = api.call("POST", &format!("{ONE}/duplicate"), &[], "").await;
    let answer = copied.expect(201);
    let fresh = answer["signing_public_key"].as_str().unwrap();
    assert!(fresh.starts_with("whpk_") && fresh != public);
    assert!(!copied.text.contains("whsk_") && answer["signing_secret"].is_null());
}
