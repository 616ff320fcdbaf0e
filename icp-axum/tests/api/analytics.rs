use serde_json::json;

use crate::harness::Api;

const ACME: &str = "/api/v1/organizations/acme";

#[tokio::test]
async fn what_was_attempted_is_summed_up_when_the_engine_has_stopped() {
    let api = Api::with_orders().await;
    let id = api.attempted().await;
    let overview = api.get(&format!("{ACME}/analytics/overview")).await.expect(200);
    let totals = &overview["totals"];
    assert_eq!((&totals["attempts"], &totals["failed"]), (&json!(1), &json!(1)));
    assert_eq!((&totals["dead"], &totals["success_rate"]), (&json!(1), &json!(0.0)));
    assert_eq!(
        (&overview["interval"], &overview["latency"]["measured"]),
        (&json!("day"), &json!(1))
    );

    let errors = api.get(&format!("{ACME}/analytics/errors")).await.expect(200);
    assert_eq!(errors["categories"], json!({"network": 1}));
    let group = json!({
        "integration": "orders", "category": "network", "class": "connect_failed", "count": 1,
    });
    assert_eq!(errors["groups"], json!([group]));
    let latency = api.get(&format!("{ACME}/analytics/latency")).await.expect(200);
    assert_eq!(latency["integrations"][0]["integration"], "orders");
    assert!(latency["integrations"][0]["latency"]["p99_ms"].is_f64());

    let dashboard = api.get(&format!("{ACME}/dashboard")).await.expect(200);
    assert_eq!(
        (&dashboard["totals"]["dead"], &dashboard["before"]["dead"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(dashboard["dead_letters"], 1);
    assert_eq!(dashboard["recent_failures"][0]["delivery"], id.as_str());
    assert_eq!(dashboard["lanes"]["waiting"], 0);
}

#[tokio::test]
async fn a_series_has_every_hour_or_day() {
    let api = Api::with_orders().await;
    api.attempted().await;
    let series = api.get(&format!("{ACME}/analytics/timeseries?interval=day")).await.expect(200);
    let points = series["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[30]["dead"], &points[0]["dead"]), (31, &json!(1), &json!(0)));
    let now = api.engine.now();
    let since = now - std::time::Duration::from_secs(7_200);
    let path = format!("{ACME}/analytics/timeseries?since={since}&until={now}&integration=orders");
    let series = api.get(&path).await.expect(200);
    assert_eq!(series["interval"], "hour");
    assert_eq!(series["points"].as_array().unwrap().last().unwrap()["attempts"], 1);
    let other = path.replace("=orders", "=nothing");
    let series = api.get(&other).await.expect(200);
    assert!(series["points"].as_array().unwrap().iter().all(|point| point["attempts"] == 0));
}

#[tokio::test]
async fn a_time_that_cannot_be_told_is_refused_by_its_field() {
    let api = Api::with_orders().await;
    let overview = format!("{ACME}/analytics/overview");
    for (query, pointer) in [
        ("since=yesterday", "/since"),
        ("interval=week", "/interval"),
        ("since=2020-01-01T00:00:00Z", "/since"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "/since"),
        ("since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z&interval=hour", "/interval"),
        ("interval=day&days=3", "/days"),
    ] {
        let problem = api.get(&format!("{overview}?{query}")).await.problem(400, "query_invalid");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{query}");
    }
    for hours in ["0", "337", "x"] {
        api.get(&format!("{ACME}/dashboard?hours={hours}")).await.problem(400, "query_invalid");
    }
}
