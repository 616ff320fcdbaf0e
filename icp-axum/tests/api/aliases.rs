//! The paths of earlier products: every row of their page, beside the operation that it names.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::harness::Api;

const PAGE: &str = include_str!("../../../docs/guides/paths-of-earlier-products.md");

struct Row {
    method: String,
    path: String,
    /// The path of the operation.
    own: String,
    is_open: bool,
}

fn rows(document: &Value) -> Vec<Row> {
    let operations: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, all)| all.as_object().unwrap().values().map(move |one| (path, one)))
        .collect();
    let lines = PAGE.lines().filter(|line| line.ends_with("` |") && !is_put_otherwise(line));
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let found = operations.iter().find(|(_, one)| one["operationId"] == cells[3]);
        let (own, operation) = found.unwrap();
        Row {
            method: cells[1].to_owned(),
            path: cells[2].to_owned(),
            own: (*own).clone(),
            is_open: operation["security"] == json!([]),
        }
    };
    lines.map(row).collect()
}

/// Whether requests of the row are put otherwise than those of its operation.
fn is_put_otherwise(line: &str) -> bool {
    line.contains("/bulk") || line.contains("compare/{from}") || line.contains("rollback/{version}")
}

fn filled(path: &str) -> String {
    path.replace("{org}", "acme").replace("{id}", "nothing").replace("{version}", "1")
}

/// The parameters that a path stands for.
fn said(row: &Row) -> &'static str {
    match (row.method.as_str(), row.path.trim_start_matches("/api/v1/")) {
        ("GET", "import-export/outbound-integrations.json") => "?kind=integration&format=json",
        ("GET", "import-export/outbound-integrations.csv") => "?kind=integration&format=csv",
        ("POST", "import-export/validate") => "?validate_only=true",
        ("GET", "logs/export") => "?format=csv",
        ("GET", "logs/export/json") => "?format=ndjson",
        _ => "",
    }
}

async fn ask(
    router: &Router,
    (method, path): (&str, &str),
    fields: &[(&str, &str)],
    body: &str,
) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let told = serde_json::from_slice(&bytes);
    (status, told.unwrap_or_else(|_| String::from_utf8(bytes.to_vec()).unwrap().into()))
}

async fn acme() -> (Api, Router, String) {
    let api = Api::with_orders().await;
    let other = json!({ "id": "other", "spec": {} });
    api.post("/api/v1/organizations", other).await.expect(201);
    let spec = json!({ "spec": { "grants": [{ "role": "admin" }] } });
    let key = api.post("/api/v1/organizations/acme/api-keys", spec).await.expect(201);
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    let router = icp_axum::Api::new(api.engine.clone()).earlier_paths().build().unwrap();
    (api, router, bearer)
}

/// What differs from one request to the next.
fn steady(mut answer: Value) -> Value {
    for moving in ["memory", "now", "uptime_seconds", "since", "until", "at"] {
        if let Some(fields) = answer.as_object_mut() {
            fields.remove(moving);
        }
    }
    answer
}

#[tokio::test]
async fn every_alias_answers_as_its_operation_does() {
    let (api, router, bearer) = acme().await;
    let operator = format!("Bearer {}", api.key);
    let rows = rows(&api.document);
    assert!(rows.len() > 70);
    for row in &rows {
        let (alias, own) = (filled(&row.path), filled(&row.own) + said(row));
        let (method, what) = (row.method.as_str(), format!("{} {}", row.method, row.path));
        let known = [("authorization", &*bearer)];
        let there = ask(&router, (method, &alias), &known, "").await;
        let wanted = ask(&router, (method, &own), &known, "").await;
        assert_eq!(there.0, wanted.0, "{what}: {}", there.1);
        assert!(there.0 < 500 && there.1["code"] != "route_unknown", "{what}: {}", there.1);
        assert_eq!(steady(there.1.clone()), steady(wanted.1), "{what}");
        if row.is_open {
            continue;
        }
        let (status, _) = ask(&router, (method, &alias), &[], "").await;
        assert_eq!(status, 401, "{what}");
        let (status, told) =
            ask(&router, (method, &format!("{alias}?tenantId=acme")), &known, "").await;
        assert_eq!((status, &told["code"]), (400, &json!("tenant_id_not_allowed")), "{what}");
        assert_eq!(told["violations"][0]["pointer"], "/tenantId");
        if row.path.contains("{org}") || !row.own.contains("{org}") {
            continue;
        }
        // Another organization is named by the field or the parameter; it is not told from none.
        let foreign = [("authorization", &*bearer), ("x-tenant-id", "other")];
        let (status, told) = ask(&router, (method, &alias), &foreign, "").await;
        assert_eq!((status, &told["code"]), (404, &json!("organization_unknown")), "{what}");
        let by_query = format!("{alias}?orgId=other");
        let (status, told) = ask(&router, (method, &by_query), &known, "").await;
        assert_eq!((status, &told["code"]), (404, &json!("organization_unknown")), "{what}");
        let named = [("authorization", &*operator), ("x-tenant-id", "acme")];
        let wanted = ask(&router, (method, &own), &named, "").await.0;
        assert_eq!(ask(&router, (method, &alias), &named, "").await.0, wanted, "{what}");
        let by_query = format!("{alias}?orgId=acme");
        let (status, told) = ask(&router, (method, &by_query), &foreign, "").await;
        assert_eq!((status, &told["code"]), (400, &json!("header_invalid")), "{what}");
    }
}

#[tokio::test]
async fn an_alias_does_what_its_operation_does() {
    let (_, router, bearer) = acme().await;
    let fields = [("authorization", &*bearer), ("content-type", "application/json")];
    let send = async |method: &str, path: &str, body: Value| {
        ask(&router, (method, &format!("/api/v1{path}")), &fields, &body.to_string()).await
    };
    let event = json!({ "type": "order.paid", "data": {} });
    let (status, published) = send("POST", "/events/push", event).await;
    assert_eq!((status, &published["deliveries"]), (202, &json!(1)));
    let (_, log) = send("GET", "/logs?state=ready,leased", Value::Null).await;
    assert_eq!(log["items"][0]["event"], published["id"]);
    let page = send("GET", "/outbound-integrations?limit=1&sort=name", Value::Null).await.1;
    assert_eq!(page["items"][0]["id"], "orders");
    let path = "/versions/integration/orders/compare?from=1&to=1";
    assert_eq!(send("GET", path, Value::Null).await.1["from"], 1);
    let (_, file) = send("GET", "/import-export/outbound-integrations.json", Value::Null).await;
    assert_eq!(file["resources"][0]["id"], "orders");
    let (_, checked) = send("POST", "/import-export/validate?on_existing=skip", file).await;
    assert_eq!((&checked["applied"], &checked["skipped"]), (&json!(false), &json!(1)));
    let named = json!({ "type": "order.paid", "data": {}, "tenantId": "acme" });
    let (status, told) = send("POST", "/events/push", named).await;
    assert_eq!((status, &told["code"]), (400, &json!("tenant_id_not_allowed")));
}

#[tokio::test]
async fn what_was_put_otherwise_is_understood() {
    let (_, router, bearer) = acme().await;
    let fields = [("authorization", &*bearer), ("content-type", "application/json")];
    let send = async |method: &str, path: &str, body: Value| {
        ask(&router, (method, &format!("/api/v1{path}")), &fields, &body.to_string()).await
    };
    let integration = |id: &str, url: &str| {
        let target = json!({ "kind": "http", "url": url });
        json!({ "id": id, "spec": { "events": ["order.*"], "target": target } })
    };
    let enabled = async |id: &str| {
        send("GET", &format!("/outbound-integrations/{id}"), Value::Null).await.1["spec"]["enabled"]
            .clone()
    };
    let bulk = "/bulk/outbound-integrations";
    let items = json!([integration("a", "https://a.example"), integration("b", "no url")]);
    let (status, told) = send("POST", bulk, json!({ "items": items })).await;
    assert_eq!((status, &told["code"]), (400, &json!("bulk_refused")), "{told}");
    let (_, told) = send("POST", bulk, json!({ "items": items, "continueOnError": true })).await;
    assert_eq!((&told["done"], &told["refused"]), (&json!(1), &json!(1)), "{told}");
    let items = json!([integration("a", "https://other.example")]);
    let (_, told) = send("PUT", bulk, json!({ "items": items })).await;
    assert_eq!(told["done"], 1, "{told}");
    for (path, active) in
        [("/outbound-integrations/bulk", false), ("/bulk/outbound-integrations/status", true)]
    {
        let body = json!({ "ids": ["a", "nothing"], "isActive": active });
        let (status, told) = send("PATCH", path, body).await;
        assert_eq!((status, &told["done"], &told["refused"]), (200, &json!(1), &json!(1)));
        assert_eq!(enabled("a").await, active, "{path}");
        let (status, told) = send("PATCH", path, json!({ "ids": ["a"] })).await;
        assert_eq!((status, &told["violations"][0]["pointer"]), (400, &json!("/isActive")));
        let (status, _) = ask(&router, ("PATCH", &format!("/api/v1{path}")), &fields, "{").await;
        assert_eq!(status, 400);
    }
    let versions = "/versions/integration/a";
    let (_, told) = send("GET", &format!("{versions}/compare/1/2"), Value::Null).await;
    assert_eq!((&told["from"], &told["to"]), (&json!(1), &json!(2)), "{told}");
    let (status, _) = send("GET", &format!("{versions}/compare/1/x"), Value::Null).await;
    assert_eq!(status, 400);
    let path = format!("/api/v1{versions}/rollback/1");
    let (status, told) = ask(&router, ("POST", &path), &fields[..1], "").await;
    assert_eq!((status, &told["spec"]["target"]["url"]), (200, &json!("https://a.example")));
    let body = json!({ "ids": ["a"], "confirm": true });
    for (path, done) in [(bulk, 1), ("/outbound-integrations/bulk", 0)] {
        let (status, told) = send("DELETE", path, body.clone()).await;
        assert_eq!((status, &told["done"]), (200, &json!(done)), "{told}");
    }
    let (status, _) = ask(&router, ("DELETE", "/api/v1/outbound-integrations/bulk"), &[], "").await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn aliases_are_off_unless_the_host_says_so() {
    let (api, _, _) = acme().await;
    let served = api.get("/api/v1/outbound-integrations").await;
    served.problem(404, "route_unknown");
    // The caller's own organization is meant, which the operator of this test has one of.
    let router = icp_axum::Api::new(api.engine.clone()).earlier_paths().build().unwrap();
    let bearer = format!("Bearer {}", api.key);
    let fields = [("authorization", &*bearer)];
    let (status, own) = ask(&router, ("GET", "/api/v1/tenant"), &fields, "").await;
    assert_eq!((status, &own["id"]), (200, &json!("_operators")));
    let (status, _) = ask(&router, ("OPTIONS", "/api/v1/logs"), &fields, "").await;
    assert_eq!(status, 204);
}
