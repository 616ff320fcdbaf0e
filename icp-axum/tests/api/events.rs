use serde_json::json;

use crate::harness::Api;

const EVENTS: &str = "/api/v1/organizations/acme/events";

#[tokio::test]
async fn an_event_is_published_once_for_its_key() {
    let api = Api::with_orders().await;
    let event = json!({"type": "order.paid", "data": [1, null], "ordering_key": "17"});
    let key = [("idempotency-key", "one")];
    let first = api.send("POST", EVENTS, &key, event.clone()).await.expect(202);
    assert_eq!((&first["duplicate"], &first["deliveries"]), (&json!(false), &json!(1)));
    let again = api.send("POST", EVENTS, &key, event).await.expect(202);
    assert_eq!((&again["duplicate"], &again["id"]), (&json!(true), &first["id"]));
    let other = json!({"type": "order.paid", "data": 2, "idempotency_key": "one"});
    api.post(EVENTS, other.clone()).await.problem(409, "idempotency_conflict");
    let differs = [("idempotency-key", "two")];
    let problem = api.send("POST", EVENTS, &differs, other).await.problem(400, "event_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/idempotency_key");
}

#[tokio::test]
async fn an_event_is_shown_as_it_was_published() {
    let api = Api::with_orders().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = r#"{"type":"order.paid","data":{"b":1,  "a":1.50},"ttl_seconds":60}"#;
    let headers = [("content-type", "application/json; charset=utf-8"), ("traceparent", parent)];
    let id = api.call("POST", EVENTS, &headers, body).await.expect(202)["id"].clone();
    let shown = api.get(&format!("{EVENTS}/{}", id.as_str().unwrap())).await;
    let event = shown.expect(200);
    assert!(shown.text.contains(r#""data":{"b":1,  "a":1.50}"#), "{}", shown.text);
    assert_eq!((&event["type"], &event["traceparent"]), (&json!("order.paid"), &json!(parent)));
    assert!(event["expires_at"].is_string());

    let binary = json!({"type": "a.b", "body_base64": "AP8=", "content_type": "image/png"});
    let id = api.post(EVENTS, binary).await.expect(202)["id"].clone();
    let event = api.get(&format!("{EVENTS}/{}", id.as_str().unwrap())).await.expect(200);
    assert_eq!((&event["body_base64"], &event["data"]), (&json!("AP8="), &json!(null)));

    let null = api.post(EVENTS, json!({"type": "a.b", "data": null})).await.expect(202);
    let event = api.get(&format!("{EVENTS}/{}", null["id"].as_str().unwrap())).await;
    assert!(event.text.contains(r#""data":null"#), "{}", event.text);

    let listed = api.get(&format!("{EVENTS}?type=order.paid")).await.expect(200);
    let items = listed["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["deliveries"]), (1, &json!(1)));
    let listed = api.get(&format!("{EVENTS}?until=2020-01-01T00:00:00Z")).await.expect(200);
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn a_batch_answers_for_each_of_its_events() {
    let api = Api::with_orders().await;
    let batch = format!("{EVENTS}/batch");
    let good = json!({"type": "order.paid", "data": 1});
    let all = api.post(&batch, json!({"events": [good, good]})).await.expect(202);
    assert_eq!(all["results"][1]["event"]["deliveries"], 1);

    let mixed = json!({"events": [{"type": "a b", "data": 1}, good, {"typ": "a"}, {"type": "x"}]});
    let some = api.post(&batch, mixed).await.expect(207);
    let results = some["results"].as_array().unwrap();
    assert_eq!(results[0]["problem"]["code"], "event_type_invalid");
    assert_eq!(
        (&results[1]["status"], &results[1]["event"]["duplicate"]),
        (&json!(202), &json!(false))
    );
    assert_eq!(results[2]["problem"]["violations"][0]["pointer"], "/events/2/typ");
    assert_eq!(results[3]["problem"]["violations"][0]["pointer"], "/events/3/data");

    let many: Vec<_> = (0..1001).map(|_| &good).collect();
    api.post(&batch, json!({"events": many})).await.problem(413, "batch_too_large");
    let key = [("idempotency-key", "one")];
    let keyed = api.send("POST", &batch, &key, json!({"events": [good]})).await;
    keyed.problem(400, "header_invalid");
}

#[tokio::test]
async fn an_explanation_names_every_integration() {
    let api = Api::with_orders().await;
    let (event, delivery) = api.paid().await;
    let why = api.get(&format!("{EVENTS}/{event}/explain")).await.expect(200);
    let first = &why["integrations"][0];
    assert_eq!(
        (&first["integration"], &first["deliveries"][0]["id"]),
        (&json!("orders"), &json!(delivery))
    );
    let missing = format!("{EVENTS}/evt_00000000000000000000000000");
    api.get(&missing).await.problem(404, "event_not_found");
    api.get(&format!("{missing}/explain")).await.problem(404, "event_not_found");
}
