#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::Api;

const ORG: &str = "/api/v1/organizations/acme";
const LOOKUPS: &str = "/api/v1/organizations/acme/lookups";
const KEY: (&str, &str) = ("idempotency-key", "a b/1");

fn table(name: &str) -> Value {
    json!({"name": name, "spec": {"entries": []}})
}

async fn count(api: &Api) -> usize {
    api.get(LOOKUPS).await.expect(200)["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn what_is_sent_again_is_done_once() {
    let api = Api::with_orders().await;
    let first = api.send("POST", LOOKUPS, &[KEY], table("one")).await;
    let again = api.send("POST", LOOKUPS, &[KEY], table("one")).await;
    assert_eq!(first.expect(201), again.expect(201));
    for name in ["location", "etag", "content-type"] {
        assert_eq!(first.header(name), again.header(name));
    }
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("x-content-type-options"), "nosniff");
    assert_eq!(count(&api).await, 1);

    let other = api.send("POST", LOOKUPS, &[KEY], table("two")).await;
    other.problem(422, "idempotency_mismatch");
    let elsewhere = api.send("POST", &format!("{ORG}/pause"), &[KEY], json!({"reason": "x"})).await;
    elsewhere.problem(422, "idempotency_mismatch");
    let fresh = [("idempotency-key", "another")];
    api.send("POST", LOOKUPS, &fresh, table("one")).await.expect(201);
    assert_eq!(count(&api).await, 2);
}

#[tokio::test]
async fn what_was_refused_may_be_tried_again() {
    let api = Api::with_orders().await;
    let bad = json!({"spec": {"entries": 1}});
    for _ in 0..2 {
        let refused = api.send("POST", LOOKUPS, &[KEY], bad.clone()).await;
        refused.problem(400, "resource_invalid");
        assert!(!refused.headers.contains_key("idempotency-replayed"));
    }
    api.send("POST", LOOKUPS, &[KEY], table("one")).await.expect(201);
    let long = "k".repeat(256);
    for key in ["", &long] {
        let refused = api.send("POST", LOOKUPS, &[("idempotency-key", key)], table("x")).await;
        refused.problem(400, "header_invalid");
    }
    let twice = [KEY, KEY];
    api.send("POST", LOOKUPS, &twice, table("x")).await.problem(400, "header_invalid");
}

#[tokio::test]
async fn of_many_at_once_one_is_done() {
    let api = Api::with_orders().await;
    let all = join_all((0..16).map(|_| api.send("POST", LOOKUPS, &[KEY], table("one")))).await;
    let statuses: Vec<_> = all.iter().map(|answer| answer.status.as_u16()).collect();
    assert!(statuses.contains(&201), "{statuses:?}");
    for answer in &all {
        if answer.status != 201 {
            answer.problem(409, "idempotency_running");
        }
    }
    assert_eq!(count(&api).await, 1);
}

#[tokio::test]
async fn secrets_are_not_kept_for_another_time() {
    let api = Api::with_orders().await;
    let copy = format!("{ORG}/integrations/orders/duplicate");
    let first = api.call("POST", &copy, &[KEY], "").await;
    first.expect(201);
    api.call("POST", &copy, &[KEY], "").await.problem(409, "idempotency_unkept");
    let all = api.get(&format!("{ORG}/integrations")).await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
}
