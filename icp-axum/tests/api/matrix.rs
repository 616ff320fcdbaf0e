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
    /// Whether a role in a unit lets in.
    by_unit: bool,
}

impl Route {
    /// Its path for an organization, about something that is not there.
    fn of(&self, org: &str) -> String {
        self.about(org, "nothing")
    }

    fn about(&self, org: &str, id: &str) -> String {
        let path = self.path.replace("{org}", org).replace("{id}", id);
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
            let (method, by_unit) = (method.to_uppercase(), operation["x-by-unit"] == json!(true));
            routes.push(Route { method, path: path.clone(), asks: set, looks, by_unit });
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
    holder(api, org, json!({ "role": role })).await
}

async fn holder(api: &Api, org: &str, grant: Value) -> String {
    let body = json!({ "spec": { "grants": [grant] } });
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

/// What there is of one unit, or of the whole organization, by the noun of the route.
struct Things {
    integration: String,
    source: String,
    event: String,
    delivery: String,
}

impl Things {
    async fn of(api: &Api, unit: Option<&str>) -> Self {
        let org = "/api/v1/organizations/acme";
        let integration = format!("in-{}", unit.unwrap_or("all"));
        let mut made = crate::harness::orders();
        made["id"] = json!(integration);
        let source = format!("from-{}", unit.unwrap_or("all"));
        let mut from = json!({ "id": source, "spec": { "type": "orders" } });
        let mut event = json!({ "type": "order.paid", "data": {} });
        if let Some(unit) = unit {
            made["spec"]["unit"] = json!(unit);
            from["spec"]["unit"] = json!(unit);
            event["unit"] = json!(unit);
        }
        api.post(&format!("{org}/integrations"), made).await.expect(201);
        api.post(&format!("{org}/event-sources"), from).await.expect(201);
        let event = api.post(&format!("{org}/events"), event).await.expect(202)["id"].clone();
        let event = event.as_str().unwrap().to_owned();
        let found = api.get(&format!("{org}/deliveries?event={event}")).await.expect(200);
        let delivery = found["items"][0]["id"].as_str().unwrap().to_owned();
        Self { integration, source, event, delivery }
    }

    fn id(&self, route: &Route) -> &str {
        let nouns = [
            ("integrations", &self.integration),
            ("event-sources", &self.source),
            ("events", &self.event),
            ("deliveries", &self.delivery),
            ("dead-letters", &self.delivery),
        ];
        let noun = route.path.split('/').nth(5).unwrap();
        nouns.into_iter().find(|(known, _)| *known == noun).unwrap().1
    }
}

#[tokio::test]
async fn a_role_in_a_unit_is_good_for_what_is_of_the_unit() {
    let api = Api::new().await;
    let units = json!([{ "id": "eu" }, { "id": "de", "parent": "eu" }, { "id": "us" }]);
    let made = json!({ "id": "acme", "spec": { "units": units } });
    api.post("/api/v1/organizations", made).await.expect(201);
    make(&api, &["other"]).await;
    let mut routes = routes(&api).await;
    assert!(routes.iter().filter(|route| route.by_unit).count() > 30);
    // What takes the things away comes last.
    routes.sort_by_key(|route| (route.method == "DELETE", route.path.contains("/cancel")));
    let below = Things::of(&api, Some("de")).await;
    let other = Things::of(&api, Some("us")).await;
    let whole = Things::of(&api, None).await;
    let nothing = Things {
        integration: "in-none".into(),
        source: "from-none".into(),
        event: "evt_00000000000000000000000001".into(),
        delivery: "dlv_00000000000000000000000001".into(),
    };
    for role in BuiltInRole::ALL {
        let grant = json!({ "role": role.as_str(), "unit": "eu" });
        let token = holder(&api, "acme", grant).await;
        for route in &routes {
            let what = format!("{} {} {}", role.as_str(), route.method, route.path);
            let asks = route.asks.filter(|_| route.is_of_an_organization());
            let has = asks.is_some_and(|asks| asks.difference(role.permissions()).is_empty());
            let is_of_one = route.by_unit && route.path.contains("{id}");
            let path = match is_of_one {
                true => route.about("acme", nothing.id(route)),
                false => route.of("acme"),
            };
            let missing = ask(&api, Some(&token), route, &path).await;
            if route.asks.is_some() {
                let is_denied = missing.1[0] == "permission_denied";
                assert_eq!(is_denied, !(has && route.by_unit), "{what}: {missing:?}");
                assert!(missing.0 != 401 && missing.0 < 500, "{what}: {missing:?}");
            }
            if !is_of_one {
                continue;
            }
            for beyond in [&other, &whole] {
                let id = beyond.id(route);
                let found = ask(&api, Some(&token), route, &route.about("acme", id)).await;
                let told = found.1.to_string().replace(id, nothing.id(route));
                assert_eq!((found.0, told), (missing.0, missing.1.to_string()), "{what}");
            }
            if has && *role == BuiltInRole::Admin {
                let own = route.about("acme", below.id(route));
                let (status, told) = ask(&api, Some(&token), route, &own).await;
                let code = told[0].as_str().unwrap_or_default();
                let is_found = !["resource_not_found", "event_not_found", "delivery_not_found"]
                    .contains(&code);
                assert!(is_found && status < 500, "{what}: {status} {told}");
            }
        }
    }
}
