#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::Api;

const ACME: &str = "/api/v1/organizations/acme";

/// One event as it came.
#[derive(Debug)]
struct Told {
    name: String,
    id: String,
    data: Value,
}

async fn next(body: &mut Body) -> Option<Told> {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await.unwrap()?;
        let bytes = frame.unwrap().into_data().unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let field = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.unwrap_or_default().to_owned()
        };
        if let Ok(data) = serde_json::from_str(&field("data")) {
            return Some(Told { name: field("event"), id: field("id"), data });
        }
    }
}

#[tokio::test]
async fn attempts_come_as_they_are_made_and_again_when_resumed() {
    let api = Api::with_orders().await;
    let path = format!("{ACME}/live/attempts");
    let answer = api.open(&path, &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let running = api.engine.start().await.unwrap();
    let (_, delivery) = api.paid().await;
    let told = next(&mut body).await.unwrap();
    assert_eq!((told.name.as_str(), &told.data["delivery"]), ("attempt", &json!(delivery)));
    assert_eq!((&told.data["number"], &told.data["state"]), (&json!(1), &json!("dead")));
    assert_eq!(told.data["outcome"], json!({"failed": "connect_failed"}));

    // From a moment before it on.
    let before = told.id.split_once('.').unwrap().0.parse::<i64>().unwrap() - 1;
    let before = format!("{before}.dlv_00000000000000000000000000.0");
    let mut resumed = api.open(&path, &[("last-event-id", &before)]).await.into_body();
    assert_eq!(next(&mut resumed).await.unwrap().id, told.id);

    running.shutdown(Duration::from_secs(20)).await;
    for body in [&mut body, &mut resumed] {
        let end = next(body).await.unwrap();
        assert_eq!((end.name.as_str(), &end.data), ("end", &json!({"reason": "shutdown"})));
        assert!(next(body).await.is_none(), "a stream that is over ends its connection");
    }
}

#[tokio::test]
async fn changes_go_on_where_the_reader_was() {
    let api = Api::with_orders().await;
    let path = format!("{ACME}/live/changes");
    let mut body = api.open(&path, &[("last-event-id", "0")]).await.into_body();
    let made = next(&mut body).await.unwrap();
    assert_eq!((made.name.as_str(), &made.data["kind"]), ("change", &json!("organization")));
    drop(body);
    api.post("/api/v1/organizations", json!({"id": "other", "spec": {}})).await.expect(201);
    let mut body = api.open(&path, &[("last-event-id", &made.id)]).await.into_body();
    let orders = next(&mut body).await.unwrap();
    assert_eq!((&orders.data["id"], &orders.data["version"]), (&json!("orders"), &json!(1)));
    let one = format!("{ACME}/integrations/orders");
    api.call("DELETE", &one, &[("if-match", "*")], "").await;
    let gone = next(&mut body).await.unwrap();
    assert_eq!((&gone.data["id"], &gone.data["deleted"]), (&json!("orders"), &json!(true)));
    api.engine.close_streams();
    assert_eq!(next(&mut body).await.unwrap().name, "end");
}

#[tokio::test]
async fn an_id_that_is_none_is_refused() {
    let api = Api::with_orders().await;
    for (path, id) in [("attempts", "7"), ("attempts", "x.y.z"), ("changes", "-1")] {
        let path = format!("{ACME}/live/{path}");
        let answer = api.call("GET", &path, &[("last-event-id", id)], "").await;
        answer.problem(400, "cursor_invalid");
    }
}
