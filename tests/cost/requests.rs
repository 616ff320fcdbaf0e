//! How many statements a request to the HTTP API costs, on SQLite.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use icp::engine::Engine;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::secret::LocalKeys;
use icp_testkit::receiver::PATIENCE;
use serde_json::json;
use tower::ServiceExt;

use crate::store::{Counted, Kind};

const SEALING_KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const REQUESTS: u32 = 200;
const INTEGRATIONS: &str = "/api/v1/organizations/acme/integrations";

/// An engine that runs asks its store for something 13 times a second; so much of it falls upon a
/// request.
const BESIDE: f64 = 0.4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_asks_the_store_for_no_more_than_what_it_is_about() {
    let counted = Counted::fresh(Kind::Sqlite).await;
    let engine = Engine::builder_on(Arc::clone(&counted.store))
        .keys(LocalKeys::parse(SEALING_KEY).unwrap())
        .allow_loopback()
        .build()
        .unwrap();
    let (org, host) = (OrgId::new("acme").unwrap(), Actor::host());
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "organization", draft(json!({})), &host).await.unwrap();
    let target = json!({ "kind": "http", "url": "http://127.0.0.1:1/" });
    let hook = Draft {
        id: Some(ResourceId::new("hook").unwrap()),
        ..draft(json!({ "events": ["other.*"], "target": target }))
    };
    engine.resources().create(&org, "integration", hook, &host).await.unwrap();
    let grants = json!({ "grants": [{ "role": "api_key" }] });
    let key = engine.create_key(&org, draft(grants), &host).await.unwrap().key;
    let running = engine.start().await.unwrap();
    let api = icp::axum::router(engine.clone());

    let event = r#"{"type":"order.paid","data":1}"#;
    for (method, path, body, most) in [
        // Who calls, what they may do, and what they look at is known by the node.
        ("GET", format!("{INTEGRATIONS}/hook"), "", 0.0),
        ("GET", format!("{INTEGRATIONS}?limit=20"), "", 1.0),
        ("GET", format!("{INTEGRATIONS}/other"), "", 1.0),
        ("POST", "/api/v1/organizations/acme/events".to_owned(), event, 3.0),
    ] {
        let figure = statements(&counted, &api, key.expose(), method, &path, body).await;
        println!("{method} {path}: {figure:.2} statements");
        assert!(figure <= most + BESIDE, "{method} {path}: {figure} statements, not {most}");
        assert!(figure + 1.0 >= most, "{method} {path}: {figure}; put the bound of {most} near it");
    }
    running.shutdown(PATIENCE).await;
}

/// Statements for a request, once it was made a first time.
async fn statements(
    counted: &Counted,
    api: &Router,
    key: &str,
    method: &str,
    path: &str,
    body: &'static str,
) -> f64 {
    let ask = async || {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", key)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let status = api.clone().oneshot(request).await.unwrap().status();
        assert!(status.is_success() || status == StatusCode::NOT_FOUND, "{path}: {status}");
    };
    ask().await;
    let before = counted.statements();
    for _ in 0..REQUESTS {
        ask().await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred statements")]
    let figure = (counted.statements() - before) as f64 / f64::from(REQUESTS);
    figure
}
