#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]
use serde_json::{Value, json};

use crate::harness::Api;

const ACME: &str = "/api/v1/organizations/acme";
const MANY: &str = "/api/v1/organizations/acme/deliveries";

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// An API with a dead delivery and one that waits, and their ids.
async fn with_both() -> (Api, String, String) {
    let api = Api::with_orders().await;
    let dead = api.attempted().await;
    let (_, ready) = api.paid().await;
    (api, dead, ready)
}

#[tokio::test]
async fn deliveries_are_found_by_what_is_told_of_them() {
    let (api, dead, ready) = with_both().await;
    let (both, first) = (vec![ready.as_str(), dead.as_str()], vec![dead.as_str()]);
    let event = api.get(&format!("{MANY}/{dead}")).await.expect(200)["event"].clone();
    let now = api.engine.now();
    let (past, later) =
        (now - std::time::Duration::from_secs(60), now + std::time::Duration::from_secs(60));
    for (filters, expected) in [
        ("".to_owned(), both.clone()),
        ("state=ready,dead".to_owned(), both.clone()),
        ("state=ready&state=dead".to_owned(), both.clone()),
        ("state=dead,skipped".to_owned(), first.clone()),
        ("category=network".to_owned(), first.clone()),
        ("category=timeout".to_owned(), vec![]),
        ("code=connect_failed".to_owned(), first.clone()),
        ("code=exhausted&state=dead".to_owned(), first.clone()),
        ("event_type=order.paid".to_owned(), both.clone()),
        ("event_type=order.paid&category=network".to_owned(), first.clone()),
        ("event_type=order.other".to_owned(), vec![]),
        (format!("event={}", event.as_str().unwrap()), first),
        (format!("since={past}&until={later}"), both),
        (format!("since={later}"), vec![]),
        (format!("until={past}"), vec![]),
    ] {
        let page = api.get(&format!("{MANY}?{filters}")).await.expect(200);
        assert_eq!((ids(&page), &page["next"]), (expected, &Value::Null), "{filters}");
    }
}

#[tokio::test]
async fn pages_of_filtered_deliveries_lead_to_the_end() {
    let api = Api::with_orders().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(api.paid().await.1);
    }
    made.reverse();
    for filters in ["state=ready,dead", "event_type=order.paid", "integration=orders"] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{MANY}?{filters}&limit=2{cursor}");
            let page = api.get(&path).await.expect(200);
            found.extend(ids(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, made, "{filters}");
    }
}

#[tokio::test]
async fn filters_that_make_no_sense_are_refused() {
    let api = Api::with_orders().await;
    for (filters, pointer) in [
        ("state=lost", "/state"),
        ("state=dead,", "/state"),
        ("category=sad", "/category"),
        ("event_type=order.paid&event=evt_00000000000000000000000000", "/event_type"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "/until"),
    ] {
        for path in [MANY.to_owned(), format!("{MANY}/summary"), format!("{MANY}/export")] {
            let problem = api.get(&format!("{path}?{filters}")).await.problem(400, "query_invalid");
            assert_eq!(problem["violations"][0]["pointer"], pointer, "{path} {filters}");
        }
    }
    api.get(&format!("{MANY}/export?format=xlsx")).await.problem(400, "query_invalid");
}

#[tokio::test]
async fn the_log_is_summed_up_and_taken_out() {
    let (api, dead, ready) = with_both().await;
    let summary = api.get(&format!("{MANY}/summary")).await.expect(200);
    assert_eq!(summary["states"], json!({"dead": 1, "ready": 1}));
    assert_eq!(summary["categories"], json!({"network": 1}));
    assert_eq!((&summary["counted"], &summary["more"]), (&json!(2), &json!(false)));

    let lines = api.get(&format!("{MANY}/export")).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> =
        lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["id"], &lines[1]["id"]), (&json!(ready), &json!(dead)));
    assert_eq!(
        (&lines[1]["class"], &lines[1]["category"]),
        (&json!("connect_failed"), &json!("network"))
    );

    let table = api.get(&format!("{MANY}/export?format=csv&state=dead")).await;
    assert!(table.header("content-type").starts_with("text/csv"));
    assert_eq!(table.header("content-disposition"), "attachment; filename=\"deliveries.csv\"");
    let rows: Vec<_> = table.text.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].starts_with("id,event,integration,state,"));
    assert!(rows[1].starts_with(&dead) && rows[1].ends_with("connect_failed,network"), "{rows:?}");
}

#[tokio::test]
async fn what_happened_to_an_event_is_told_in_order() {
    let api = Api::with_orders().await;
    let spec =
        json!({"events": ["other.*"], "target": {"kind": "http", "url": "http://127.0.0.1:1/"}});
    let other = json!({"id": "other", "spec": spec});
    api.post(&format!("{ACME}/integrations"), other).await.expect(201);
    let dead = api.attempted().await;
    let event = api.get(&format!("{MANY}/{dead}")).await.expect(200)["event"].clone();
    let path = format!("{ACME}/events/{}/timeline", event.as_str().unwrap());
    let timeline = api.get(&path).await.expect(200);
    let moments = timeline["moments"].as_array().unwrap();
    let happened: Vec<_> = moments.iter().map(|m| m["happened"].as_str().unwrap()).collect();
    assert_eq!(happened, ["received", "made", "attempted", "ended"]);
    assert_eq!(moments[2]["outcome"], json!({"failed": "connect_failed"}));
    assert_eq!((&moments[3]["state"], &moments[0]["gap_ms"]), (&json!("dead"), &json!(0)));
    assert_eq!(timeline["skipped"][0]["integration"], "other");
    let missing = format!("{ACME}/events/evt_00000000000000000000000000/timeline");
    api.get(&missing).await.problem(404, "event_not_found");
}

#[tokio::test]
async fn many_dead_letters_are_delivered_once_more_each_on_its_own() {
    let (api, dead, ready) = with_both().await;
    let path = format!("{ACME}/dead-letters/retry");
    let missing = "dlv_00000000000000000000000000";
    let answer = api.post(&path, json!({"ids": [dead, ready, missing]})).await.expect(207);
    let results = &answer["results"];
    assert_eq!(results[0]["delivery"]["replay_of"], dead.as_str());
    assert_eq!(results[1]["problem"]["code"], "delivery_state_conflict");
    assert_eq!(results[2]["problem"]["code"], "delivery_not_found");
    let many: Vec<Value> = (0..101).map(|_| json!(dead)).collect();
    api.post(&path, json!({"ids": many})).await.problem(413, "batch_too_large");
}
