use axum::body::Body;
use axum::http::{Request, Uri};
use base64::engine::general_purpose::STANDARD;
use icp_core::access::ApiKey;
use icp_core::secret::SystemEntropy;
use serde_json::Value;

use crate::harness::Api;

fn plain(path: &'static str) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static(path);
    request
}

#[tokio::test]
async fn health_and_readiness_need_no_key() {
    let api = Api::new().await;
    let health = api.raw(plain("/health")).await;
    assert_eq!(health.expect(200)["version"], env!("CARGO_PKG_VERSION"));
    let ready = api.raw(plain("/ready")).await.expect(503);
    assert_eq!((&ready["ready"], &ready["store"]["backend"]), (&false.into(), &"memory".into()));
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let api = Api::with_orders().await;
    api.paid().await;
    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text.contains("icp_events_published_total 1"));
    assert!(metrics.text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn refused_keys_are_answered_alike() {
    let api = Api::new().await;
    let other = ApiKey::generate(api.engine.ids(), &SystemEntropy).unwrap();
    let (own_id, foreign) = (&api.key[..31], other.to_text());
    // The known id with another secret.
    let wrong = format!("{own_id}{}", &foreign.expose()[31..]);
    let mut bodies = Vec::new();
    for (name, value) in [
        ("x-nothing", String::new()),
        ("authorization", "Bearer nonsense".to_owned()),
        ("authorization", format!("Basic {}", api.key)),
        ("authorization", format!("Bearer {}", foreign.expose())),
        ("authorization", format!("Bearer {wrong}")),
        ("x-api-key", format!("{}x", api.key)),
    ] {
        let mut request = plain("/metrics");
        request.headers_mut().insert(name, value.parse().unwrap());
        let answer = api.raw(request).await;
        answer.problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        bodies.push(answer.text);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    let mut request = plain("/metrics");
    request.headers_mut().insert("x-api-key", api.key.parse().unwrap());
    assert_eq!(api.raw(request).await.status, 200);
}

#[tokio::test]
async fn every_route_of_the_document_answers_and_asks_for_a_key() {
    let api = Api::with_orders().await;
    // Streams would go on for as long as they are read.
    api.engine.close_streams();
    let document = api.get("/api/v1/openapi.json").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let concrete = path.replace("{org}", "acme").replace("{id}", "x");
        for (method, operation) in operations.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path} {method}");
            let open = operation["security"] == serde_json::json!([]);
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&concrete);
            let answer = api.raw(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status == 401, !open, "{method} {path}");
            let known = api.call(&method.to_uppercase(), &concrete, &[], "").await;
            assert_ne!(known.status, 405, "{method} {path}");
            assert!(!known.text.contains("route_unknown"), "{method} {path}");
        }
    }
    assert!(ids.len() > 100, "{ids:?}");
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let api = Api::new().await;
    let document = api.get("/api/v1/openapi.json").await.expect(200);
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for kind in ["organization", "integration", "lookup", "event_type"] {
        assert!(
            document["components"]["schemas"][format!("spec.{kind}")]["properties"].is_object()
        );
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                references.push(reference.clone());
            }
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[tokio::test]
async fn requests_keep_their_ids_and_get_one() {
    let api = Api::new().await;
    let answer = api.call("GET", "/metrics", &[("x-request-id", "mine")], "").await;
    assert_eq!(answer.header("x-request-id"), "mine");
    assert!(api.raw(plain("/health")).await.header("x-request-id").starts_with("req_"));
    assert!(api.raw(plain("/metrics")).await.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn the_router_can_be_nested() {
    let api = Api::new().await;
    let nested = axum::Router::new().nest("/icp", icp_axum::router(api.engine.clone()));
    let request = Request::builder()
        .method("POST")
        .uri("/icp/api/v1/organizations")
        .header("x-api-key", &api.key)
        .header("content-type", "application/json")
        .body(Body::from(r#"{"id":"acme","spec":{}}"#))
        .unwrap();
    let answer = tower::ServiceExt::oneshot(nested.clone(), request).await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["location"], "/icp/api/v1/organizations/acme");

    // What goes by the path of a route goes by the whole of it.
    let pair = base64::Engine::encode(&STANDARD, format!("icp:{}", api.key));
    let request = Request::builder()
        .method("POST")
        .uri("/icp/api/v1/oauth/introspect")
        .header("authorization", format!("Basic {pair}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("token=none"))
        .unwrap();
    let answer = tower::ServiceExt::oneshot(nested, request).await.unwrap();
    assert_eq!(answer.status(), 200);
}
