//! Every route, for every role: in their own organization, in another, unknown, and suspended.
//! The cases are made from the API's own table, so that a new route is in them by itself.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use icp_core::access::{BuiltInRole, PermissionPattern, PermissionSet};
use serde_json::{Value, json};

use crate::harness::Api;

/// One operation of the table.
struct Route {
    method: String,
    path: String,
    /// What it asks for; none where it only asks who calls.
    asks: Option<PermissionSet>,
    looks: bool,
}

impl Route {
    /// Its path for an organization, about something that is not there.
    fn of(&self, org: &str) -> String {
        let path = self.path.replace("{org}", org).replace("{id}", "nothing");
        path.replace("{number}", "1").replace("{version}", "1").replace("{revision}", "1")
    }

    fn is_of_an_organization(&self) -> bool {
        self.path.contains("{org}")
    }
}

async fn routes(api: &Api) -> Vec<Route> {
    let document = api.get("/api/v1/openapi.json").await.expect(200);
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation["security"] == json!([]) {
                continue;
            }
            let asks = operation["x-permission"].as_str();
            let set = asks.map(|text| text.parse::<PermissionPattern>().unwrap().permissions());
            let looks = asks.is_some_and(|a| a.ends_with(":read") || a.ends_with(":export"));
            let method = method.to_uppercase();
            routes.push(Route { method, path: path.clone(), asks: set, looks });
        }
    }
    routes
}

/// The status, and the code and detail of a problem; what is no problem is not read.
async fn ask(api: &Api, token: Option<&str>, route: &Route, path: &str) -> (u16, Value) {
    let mut request = Request::builder().method(route.method.as_str()).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = api.respond(request.body(Body::empty()).unwrap()).await;
    let status = response.status().as_u16();
    if status < 400 {
        return (status, Value::Null);
    }
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    (status, json!([problem["code"], problem["detail"]]))
}

async fn key(api: &Api, org: &str, role: &str) -> String {
    let body = json!({ "spec": { "grants": [{ "role": role }] } });
    let made = api.post(&format!("/api/v1/organizations/{org}/api-keys"), body).await.expect(201);
    made["key"].as_str().unwrap().to_owned()
}

async fn make(api: &Api, orgs: &[&str]) {
    for org in orgs {
        let made = api.post("/api/v1/organizations", json!({ "id": org, "spec": {} })).await;
        made.expect(201);
    }
}

#[tokio::test]
async fn every_route_lets_in_whom_its_row_names() {
    let api = Api::new().await;
    make(&api, &["acme", "other"]).await;
    let routes = routes(&api).await;
    assert!(
        routes.len() > 100
            && routes.iter().all(|route| !route.path.contains("{org}") || route.asks.is_some())
    );
    for role in BuiltInRole::ALL {
        let holder = key(&api, "acme", role.as_str()).await;
        for route in &routes {
            let what = format!("{} {} {}", role.as_str(), route.method, route.path);
            let (status, told) = ask(&api, Some(&holder), route, &route.of("acme")).await;
            let (has, is_denied) = (
                route.asks.is_none_or(|asks| asks.difference(role.permissions()).is_empty()),
                told[0] == "permission_denied",
            );
            let is_let_in = has && (route.is_of_an_organization() || route.asks.is_none());
            assert_eq!(is_denied, !is_let_in, "{what}: {status} {told}");
            assert!(status != 401 && status < 500, "{what}: {status} {told}");
        }
    }
}

#[tokio::test]
async fn another_organization_is_not_told_from_none() {
    let api = Api::new().await;
    make(&api, &["acme", "other"]).await;
    let routes = routes(&api).await;
    for role in BuiltInRole::ALL {
        let holder = key(&api, "acme", role.as_str()).await;
        for route in routes.iter().filter(|route| route.is_of_an_organization()) {
            let foreign = ask(&api, Some(&holder), route, &route.of("other")).await;
            let missing = ask(&api, Some(&holder), route, &route.of("nobody")).await;
            assert_eq!(foreign.0, 404, "{} {}", route.method, route.path);
            let told = foreign.1.to_string().replace("other", "nobody");
            assert_eq!((foreign.0, told), (missing.0, missing.1.to_string()));
        }
    }
}

#[tokio::test]
async fn who_is_not_known_is_let_in_nowhere() {
    let api = Api::new().await;
    make(&api, &["acme"]).await;
    for route in routes(&api).await {
        for token in [None, Some("nonsense"), Some("icp_x"), Some("ics_x"), Some("a.b.c")] {
            for org in ["acme", "nobody"] {
                let (status, told) = ask(&api, token, &route, &route.of(org)).await;
                assert_eq!((status, &told[0]), (401, &json!("unauthenticated")), "{}", route.path);
            }
        }
    }
}

#[tokio::test]
async fn a_suspended_organization_is_only_looked_at() {
    let api = Api::new().await;
    make(&api, &["acme"]).await;
    let routes = routes(&api).await;
    let mut holders = Vec::new();
    for role in BuiltInRole::ALL {
        holders.push((role, key(&api, "acme", role.as_str()).await));
    }
    let patch = [("content-type", "application/merge-patch+json")];
    let body = json!({ "spec": { "status": "suspended" } }).to_string();
    api.call("PATCH", "/api/v1/organizations/acme", &patch, &body).await.expect(200);
    for (role, holder) in holders {
        for route in routes.iter().filter(|route| route.is_of_an_organization()) {
            let what = format!("{} {} {}", role.as_str(), route.method, route.path);
            let (status, told) = ask(&api, Some(&holder), route, &route.of("acme")).await;
            let has = route.asks.is_some_and(|a| a.difference(role.permissions()).is_empty());
            let wanted = match (has, route.looks) {
                (false, _) => Some("permission_denied"),
                (true, false) => Some("organization_suspended"),
                (true, true) => None,
            };
            match wanted {
                Some(code) => assert_eq!((status, &told[0]), (403, &json!(code)), "{what}"),
                None => assert!(status != 403 && status < 500, "{what}: {status} {told}"),
            }
        }
    }
}
