#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::{Value, json};

use crate::harness::Api;

const ORG: &str = "/api/v1/organizations/acme";

async fn publish(api: &Api, subject: &str) -> String {
    let event = json!({"type": "order.paid", "data": {"who": "Ann Secret"}, "subject": subject});
    let published = api.post(&format!("{ORG}/events"), event).await.expect(202);
    published["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_subject_is_erased_with_a_receipt() {
    let api = Api::with_orders().await;
    let (one, two) = (publish(&api, "cust-17").await, publish(&api, "cust-18").await);
    let shown = api.get(&format!("{ORG}/events/{one}")).await.expect(200);
    assert_eq!((&shown["subject"], &shown["erased_at"]), (&json!("cust-17"), &Value::Null));

    let erased = api.post(&format!("{ORG}/erasures"), json!({"subject": "cust-17"})).await;
    let receipt = erased.expect(201);
    assert_eq!((&receipt["events"], &receipt["cancelled"]), (&json!(1), &json!(1)));
    assert_eq!(receipt["subject_sha256"].as_str().unwrap().len(), 64);
    assert!(receipt["completed_at"].is_string() && !erased.text.contains("cust-17"));
    assert_eq!(api.get(erased.header("location")).await.expect(200), receipt);
    let listed = api.get(&format!("{ORG}/erasures")).await.expect(200);
    assert_eq!(listed["items"], json!([receipt]));

    let left = api.get(&format!("{ORG}/events/{one}")).await;
    let shown = left.expect(200);
    assert!(shown["erased_at"].is_string() && !left.text.contains("Ann Secret"));
    assert_eq!((&shown["data"], &shown["body_base64"]), (&Value::Null, &Value::Null));
    let other = api.get(&format!("{ORG}/events/{two}")).await.expect(200);
    assert_eq!(other["data"]["who"], "Ann Secret");

    let audit = api.get(&format!("{ORG}/audit?kind=erasure")).await;
    let actions: Vec<_> = audit.expect(200)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["action"].clone())
        .collect();
    assert_eq!(actions, [json!("erase_done"), json!("erase")]);
    assert!(!audit.text.contains("cust-17"));
}

#[tokio::test]
async fn events_are_erased_by_id_and_faults_are_told() {
    let api = Api::with_orders().await;
    let id = publish(&api, "cust-17").await;
    let unknown = "evt_00000000000000000000000000";
    let path = format!("{ORG}/erasures");
    let receipt = api.post(&path, json!({"events": [id, unknown]})).await.expect(201);
    assert_eq!((&receipt["events"], &receipt["requested"]), (&json!(1), &json!([id, unknown])));
    let again = api.post(&path, json!({"events": [id]})).await.expect(201);
    assert_eq!(again["events"], 0);
    for wrong in [json!({}), json!({"events": [], "subject": "x"})] {
        api.post(&path, wrong).await.problem(400, "body_malformed");
    }
    let many: Vec<_> = (0..1_001).map(|_| unknown).collect();
    api.post(&path, json!({"events": many})).await.problem(413, "batch_too_large");
    api.get(&format!("{path}/none")).await.problem(404, "erasure_not_found");
    let malformed = json!({"type": "order.paid", "data": 1, "subject": "ü"});
    let refused = api.post(&format!("{ORG}/events"), malformed).await.problem(400, "event_invalid");
    assert_eq!(refused["violations"][0]["pointer"], "/subject");
}
