use serde_json::{Value, json};

use crate::harness::Api;

const MANY: &str = "/api/v1/organizations/acme/deliveries";

#[tokio::test]
async fn a_delivery_is_called_off_and_replayed() {
    let api = Api::with_orders().await;
    let (event, id) = api.paid().await;
    let one = format!("{MANY}/{id}");
    let shown = api.get(&one).await.expect(200);
    assert_eq!((&shown["state"], &shown["event"]), (&json!("ready"), &json!(event)));
    api.call("POST", &format!("{one}/replay"), &[], "")
        .await
        .problem(409, "delivery_state_conflict");
    assert_eq!(api.get(&format!("{one}/attempts")).await.expect(200)["items"], json!([]));

    let reason = json!({"reason": "sent by mistake"});
    let cancelled = api.post(&format!("{one}/cancel"), reason).await.expect(200);
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(cancelled["reason"]["message"], "sent by mistake");
    api.call("POST", &format!("{one}/cancel"), &[], "")
        .await
        .problem(409, "delivery_state_conflict");

    let replayed = api.call("POST", &format!("{one}/replay"), &[], "").await;
    let new = replayed.expect(201);
    assert_eq!((&new["replay_of"], &new["state"]), (&json!(id), &json!("ready")));
    assert_eq!(replayed.header("location"), format!("{MANY}/{}", new["id"].as_str().unwrap()));

    let found = api.get(&format!("{MANY}?state=cancelled&integration=orders")).await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let page = api.get(&format!("{MANY}?limit=1")).await.expect(200);
    let next = page["next"].as_str().unwrap();
    let page = api.get(&format!("{MANY}?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((&page["items"][0]["id"], &page["next"]), (&json!(id), &Value::Null));
    api.get(&format!("{MANY}?limit=1&state=ready&cursor={next}"))
        .await
        .problem(400, "cursor_invalid");

    let lanes = api.get("/api/v1/organizations/acme/lanes").await.expect(200);
    let lane = &lanes["items"][0];
    assert_eq!((&lane["integration"], &lane["state"]), (&json!("orders"), &json!("active")));
    assert_eq!((&lane["breaker"], &lane["breaker_trips"]), (&json!("closed"), &json!(0)));
    assert_eq!((&lane["allowed_in_flight"], &lane["rate_limit"]), (&json!(10), &Value::Null));
    assert!(lane["waiting"].as_u64().unwrap() >= 1);
    assert!(lane["oldest_wait_ms"].is_u64() && lane["next_at"].is_string(), "{lane}");
}

#[tokio::test]
async fn lanes_are_listed_page_by_page() {
    let api = Api::with_orders().await;
    let lanes = "/api/v1/organizations/acme/lanes";
    let integrations = "/api/v1/organizations/acme/integrations";
    for n in 0..4 {
        let target = json!({"kind": "http", "url": "http://127.0.0.1:9/"});
        let spec = json!({"events": ["order.*"], "target": target});
        api.post(integrations, json!({"id": format!("more-{n}"), "spec": spec})).await.expect(201);
    }
    let event = json!({"type": "order.paid", "data": 1});
    api.post("/api/v1/organizations/acme/events", event).await.expect(202);
    let all = api.get(lanes).await.expect(200);
    let all: Vec<_> = all["items"].as_array().unwrap().iter().map(|l| l["id"].clone()).collect();
    assert_eq!(all.len(), 5);
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for left in [3, 1] {
        let page = api.get(&format!("{lanes}?limit=2{cursor}")).await.expect(200);
        found.extend(page["items"].as_array().unwrap().iter().map(|l| l["id"].clone()));
        assert_eq!(found.len(), 5 - left);
        assert!(page["items"].as_array().unwrap().iter().all(|l| l["waiting"] == 1), "{page}");
        cursor = format!("&cursor={}", page["next"].as_str().unwrap());
    }
    let page = api.get(&format!("{lanes}?limit=2{cursor}")).await.expect(200);
    found.push(page["items"][0]["id"].clone());
    assert_eq!((found, &page["next"]), (all, &Value::Null));
    api.get(&format!("{MANY}?limit=2{cursor}")).await.problem(400, "cursor_invalid");
}

#[tokio::test]
async fn a_failed_delivery_is_a_dead_letter_with_its_attempt() {
    let api = Api::with_orders().await;
    let id = api.attempted().await;
    let dead = api.get("/api/v1/organizations/acme/dead-letters").await.expect(200);
    assert_eq!((&dead["items"][0]["id"], &dead["items"][0]["state"]), (&json!(id), &json!("dead")));
    let attempts = api.get(&format!("{MANY}/{id}/attempts")).await;
    let attempt = &attempts.expect(200)["items"][0];
    assert_eq!(attempt["number"], 1);
    assert!(attempt["outcome"]["failed"].is_string());
    assert!(!attempts.text.contains("hush-hush"));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let api = Api::with_orders().await;
    let missing = format!("{MANY}/dlv_00000000000000000000000000");
    for (method, path) in [
        ("GET", missing.clone()),
        ("GET", format!("{missing}/attempts")),
        ("POST", format!("{missing}/replay")),
        ("POST", format!("{missing}/cancel")),
    ] {
        api.call(method, &path, &[], "").await.problem(404, "delivery_not_found");
    }
    let (_, id) = api.paid().await;
    api.post("/api/v1/organizations", json!({"id": "other", "spec": {}})).await.expect(201);
    let foreign = format!("/api/v1/organizations/other/deliveries/{id}");
    api.get(&foreign).await.problem(404, "delivery_not_found");
}
