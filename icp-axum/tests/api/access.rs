//! Principals: keys, users, sessions, roles; and what they may not do.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod keys;
mod sessions;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::harness::{Answer, Api};

const ACME: &str = "/api/v1/organizations/acme";
const PASSWORD: &str = "correct horse battery";

async fn acme() -> Api {
    let api = Api::new().await;
    for org in ["acme", "other"] {
        let made = api.post("/api/v1/organizations", json!({"id": org, "spec": {}})).await;
        made.expect(201);
    }
    api
}

impl Api {
    /// Sends a request as whoever holds `token`.
    pub(crate) async fn as_holder(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let media = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", media);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.raw(request.body(body).unwrap()).await
    }

    /// Posts as whoever proves nothing.
    pub(crate) async fn as_nobody(&self, path: &str, body: Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.raw(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// A new key of `acme` with these grants: its id and its text.
    async fn acme_key(&self, spec: Value) -> (String, String) {
        let made = self.post(&format!("{ACME}/api-keys"), json!({ "spec": spec })).await;
        let made = made.expect(201);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&made["document"]["id"]), text(&made["key"]))
    }

    async fn acme_user(&self, email: &str, role: &str) -> String {
        let spec = json!({ "email": email, "grants": [{ "role": role }] });
        let made = self.post(&format!("{ACME}/users"), json!({ "spec": spec })).await.expect(201);
        let id = made["id"].as_str().unwrap().to_owned();
        let path = format!("{ACME}/users/{id}/password");
        self.send("PUT", &path, &[], json!({ "password": PASSWORD })).await.expect(200);
        id
    }

    async fn log_in(&self, email: &str, password: &str) -> Answer {
        let body = json!({ "organization": "acme", "email": email, "password": password });
        self.auth("login", body).await
    }

    /// Sends a request without any proof of who sends it.
    async fn auth(&self, route: &str, body: Value) -> Answer {
        let request = Request::post(format!("/api/v1/auth/{route}"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()));
        self.raw(request.unwrap()).await
    }
}

#[tokio::test]
async fn a_key_does_what_its_roles_let_it_and_no_more() {
    let api = acme().await;
    let (_, viewer) = api.acme_key(json!({ "grants": [{ "role": "viewer" }] })).await;
    let get = async |path: &str| api.as_holder(&viewer, "GET", path, Value::Null).await;
    get(&format!("{ACME}/integrations")).await.expect(200);
    get(&format!("{ACME}/audit")).await.problem(403, "permission_denied");
    get("/api/v1/organizations").await.problem(403, "permission_denied");
    let foreign = get("/api/v1/organizations/other/integrations").await;
    let missing = get("/api/v1/organizations/nobody/integrations").await;
    let (foreign, missing) = (foreign.problem(404, "organization_unknown"), missing.expect(404));
    assert_eq!(foreign["detail"].as_str().unwrap().replace("other", "nobody"), missing["detail"]);
    let publish = json!({ "type": "order.paid", "data": {} });
    let refused = api.as_holder(&viewer, "POST", &format!("{ACME}/events"), publish).await;
    assert!(
        refused.problem(403, "permission_denied")["detail"]
            .as_str()
            .unwrap()
            .contains("events:write")
    );
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_have() {
    let api = acme().await;
    let (_, admin) = api.acme_key(json!({ "grants": [{ "role": "org_admin" }] })).await;
    let post = async |path: &str, spec: Value| {
        api.as_holder(&admin, "POST", &format!("{ACME}{path}"), json!({ "spec": spec })).await
    };
    let key = |role: &str| json!({ "grants": [{ "role": role }] });
    post("/api-keys", key("viewer")).await.expect(201);
    for spec in [
        key("admin"),
        key("super_admin"),
        key("nobody"),
        json!({ "grants": [{ "role": "viewer", "organization": "*" }] }),
        json!({ "grants": [{ "role": "viewer", "unit": "nowhere" }] }),
    ] {
        post("/api-keys", spec.clone()).await.problem(400, "resource_invalid");
    }
    let role = json!({ "permissions": ["audit_logs:read"] });
    let refused = post("/roles", role).await.problem(400, "resource_invalid");
    assert_eq!(refused["violations"][0]["code"], "not_granted");
    post("/roles", json!({ "permissions": ["logs:*"] })).await.expect(201);
    let bulk = json!({ "action": "create", "items": [{ "spec": key("admin") }] });
    let path = format!("{ACME}/bulk/api-keys");
    assert!(api.as_holder(&admin, "POST", &path, bulk).await.status.is_client_error());
}

#[tokio::test]
async fn the_stronger_are_not_changed_by_the_weaker() {
    let api = acme().await;
    let grant = |role: &str| json!({ "grants": [{ "role": role }] });
    let (_, weak) = api.acme_key(grant("org_admin")).await;
    let (strong, strong_key) = api.acme_key(grant("admin")).await;
    let boss = api.acme_user("boss@example.com", "admin").await;
    let role = |id: &str, may: &str| json!({ "id": id, "spec": { "permissions": [may] } });
    api.post(&format!("{ACME}/roles"), role("auditor", "audit_logs:*")).await.expect(201);
    api.post(&format!("{ACME}/roles"), role("api_key", "events:write")).await.expect(201);
    let at = |path: &str| format!("{ACME}/{path}");
    let key = at(&format!("api-keys/{strong}"));
    let user = at(&format!("users/{boss}"));
    let off = json!({ "spec": { "enabled": false } });
    let plain = json!({ "spec": { "grants": [] } });
    let mail = json!({ "spec": { "email": "boss@example.com" } });
    let spec = |may: &str| json!({ "spec": { "permissions": [may] } });
    let password = json!({ "password": "another long password" });
    let before = state(&api, &[&key, &user, &at("roles/auditor")]).await;
    for (method, path, body, pointer) in [
        ("PUT", key.clone(), plain, "/spec/grants/0/role"),
        ("PATCH", key.clone(), off.clone(), "/spec/grants/0/role"),
        ("DELETE", key.clone(), Value::Null, "/spec/grants/0/role"),
        ("POST", format!("{key}/rotate"), json!({}), "/spec/grants/0/role"),
        ("PUT", user.clone(), mail, "/spec/grants/0/role"),
        ("PATCH", user.clone(), off, "/spec/grants/0/role"),
        ("DELETE", user.clone(), Value::Null, "/spec/grants/0/role"),
        ("PUT", format!("{user}/password"), password, "/spec/grants/0/role"),
        ("PUT", at("roles/auditor"), spec("logs:read"), "/spec/permissions/0"),
        ("DELETE", at("roles/auditor"), Value::Null, "/spec/permissions/0"),
        ("POST", at("roles/auditor/rollback"), json!({ "version": 1 }), "/spec/permissions/0"),
        // One that is called as a built-in role takes from whoever has that one.
        ("POST", at("roles"), role("admin", "logs:read"), "/spec"),
    ] {
        let answer = api.as_holder(&weak, method, &path, body).await;
        let problem = answer.problem(403, "principal_stronger");
        let first = &problem["violations"][0];
        assert_eq!((&first["pointer"], &first["code"]), (&json!(pointer), &json!("stronger")));
    }
    for (path, body) in [
        ("bulk/api-keys", json!({ "action": "disable", "ids": [strong] })),
        ("bulk/api-keys", json!({ "action": "delete", "ids": [strong] })),
        ("bulk/users", json!({ "action": "disable", "ids": [boss] })),
        (
            "bulk/users",
            json!({ "action": "replace",
            "items": [{ "id": boss, "spec": { "email": "boss@example.com" } }] }),
        ),
        ("bulk/roles", json!({ "action": "delete", "ids": ["auditor"] })),
    ] {
        let answer = api.as_holder(&weak, "POST", &at(path), body.clone()).await;
        let problem = answer.problem(400, "bulk_refused");
        assert_eq!(problem["violations"][0]["code"], "stronger", "{body}");
        let mut alone = body;
        alone["continue_on_error"] = json!(true);
        let answer = api.as_holder(&weak, "POST", &at(path), alone).await.expect(200);
        assert_eq!(answer["results"][0]["problem"]["code"], "principal_stronger");
        assert_eq!(answer["results"][0]["status"], 403);
    }
    let rows = json!({ "resources": [
        { "kind": "role", "id": "auditor", "spec": { "permissions": [] } },
    ] });
    let import = at("import?on_existing=update");
    let answer = api.as_holder(&weak, "POST", &import, rows).await;
    assert_eq!(answer.problem(400, "import_refused")["violations"][0]["code"], "stronger");
    assert_eq!(state(&api, &[&key, &user, &at("roles/auditor")]).await, before);
    let me = api.as_holder(&strong_key, "GET", "/api/v1/auth/me", Value::Null).await;
    me.expect(200);
    // Peers and weaker ones are theirs to change, and so is an override of a weaker built-in role.
    let (peer, _) = api.acme_key(grant("org_admin")).await;
    let (less, _) = api.acme_key(grant("viewer")).await;
    let narrow = json!({ "grants": [{ "role": "admin" }], "scopes": ["logs:read"] });
    let (narrowed, _) = api.acme_key(narrow).await;
    for path in [
        at(&format!("api-keys/{peer}")),
        at(&format!("api-keys/{less}")),
        at(&format!("api-keys/{narrowed}")),
        at("roles/api_key"),
    ] {
        api.as_holder(&weak, "DELETE", &path, Value::Null).await.expect(204);
    }
    api.call("DELETE", &key, &[], "").await.expect(204);
}

/// The revisions of what is at these paths.
async fn state(api: &Api, paths: &[&str]) -> Vec<Value> {
    let mut revisions = Vec::new();
    for path in paths {
        revisions.push(api.get(path).await.expect(200)["revision"].clone());
    }
    revisions
}

#[tokio::test]
async fn roles_of_an_organization_take_the_place_of_built_in_ones() {
    let api = acme().await;
    let (_, viewer) = api.acme_key(json!({ "grants": [{ "role": "viewer" }] })).await;
    let get = async |path: &str| {
        let answer = api.as_holder(&viewer, "GET", &format!("{ACME}{path}"), Value::Null).await;
        answer.status.as_u16()
    };
    assert_eq!((get("/deliveries").await, get("/audit").await), (200, 403));
    let role = json!({ "id": "viewer", "spec": { "permissions": ["audit_logs:read"] } });
    api.post(&format!("{ACME}/roles"), role).await.expect(201);
    assert_eq!((get("/deliveries").await, get("/audit").await), (403, 200));
    let reserved = json!({ "id": "super_admin", "spec": { "permissions": [] } });
    api.post(&format!("{ACME}/roles"), reserved).await.problem(400, "resource_invalid");
}

#[tokio::test]
async fn members_of_a_suspended_organization_look_and_change_nothing() {
    let api = acme().await;
    let (_, admin) = api.acme_key(json!({ "grants": [{ "role": "admin" }] })).await;
    let patch = [("content-type", "application/merge-patch+json")];
    let suspend = json!({ "spec": { "status": "suspended" } }).to_string();
    api.call("PATCH", ACME, &patch, &suspend).await.expect(200);
    let path = format!("{ACME}/lookups");
    api.as_holder(&admin, "GET", &path, Value::Null).await.expect(200);
    let body = json!({ "spec": {} });
    let refused = api.as_holder(&admin, "POST", &path, body.clone()).await;
    refused.problem(403, "organization_suspended");
    api.post(&path, body).await.expect(201);
}

#[tokio::test]
async fn work_in_another_organization_is_told_once_in_a_while() {
    let api = acme().await;
    for _ in 0..3 {
        api.get(&format!("{ACME}/deliveries")).await.expect(200);
    }
    let rows = api.get(&format!("{ACME}/audit")).await.expect(200);
    let crossings = rows["items"].as_array().unwrap().iter().filter(|row| row["action"] == "cross");
    assert_eq!(crossings.count(), 1);
}

#[tokio::test]
async fn the_header_field_for_the_organization_does_not_lead_elsewhere() {
    let api = acme().await;
    let path = format!("{ACME}/integrations");
    api.call("GET", &path, &[("x-tenant-id", "acme")], "").await.expect(200);
    let other = api.call("GET", &path, &[("x-tenant-id", "other")], "").await;
    other.problem(400, "header_invalid");
    api.call("GET", &format!("{path}?tenantId=acme"), &[], "").await.problem(400, "query_invalid");
    let body = json!({ "id": "x", "spec": {}, "tenantId": "acme" });
    api.post(&format!("{ACME}/lookups"), body).await.problem(400, "resource_invalid");
}

#[tokio::test]
async fn the_operators_cannot_be_suspended() {
    let api = acme().await;
    let patch = [("content-type", "application/merge-patch+json")];
    let suspend = json!({ "spec": { "status": "suspended" } }).to_string();
    let refused = api.call("PATCH", "/api/v1/organizations/_operators", &patch, &suspend).await;
    refused.problem(400, "resource_invalid");
}

#[tokio::test]
async fn many_changes_at_once_ask_for_the_permission_of_each_kind() {
    let api = acme().await;
    let (_, editor) = api.acme_key(json!({ "grants": [{ "role": "integration_editor" }] })).await;
    let table = |id: &str| json!({ "kind": "lookup", "id": id, "spec": {} });
    let user = json!({ "kind": "user", "id": "eve", "spec": { "email": "eve@example.com" } });
    api.post(&format!("{ACME}/lookups"), json!({ "id": "old", "spec": {} })).await.expect(201);
    let document = json!({ "id": "eve", "spec": { "email": "eve@example.com" } });
    let steps = json!([
        { "kind": "lookup", "action": "create", "document": { "id": "new", "spec": {} } },
        { "kind": "user", "action": "create", "document": document },
    ]);
    let both = json!({ "resources": [table("new"), user] });
    for (path, body, lacks) in [
        ("import", &both, "users:write"),
        ("import?continue_on_error=true", &both, "users:write"),
        ("import?validate_only=true", &both, "users:write"),
        ("apply", &json!({ "steps": steps }), "users:write"),
        ("bulk/lookups", &json!({ "action": "delete", "ids": ["old"] }), "lookup_tables:delete"),
    ] {
        let path = format!("{ACME}/{path}");
        let refused = api.as_holder(&editor, "POST", &path, body.clone()).await;
        let problem = refused.problem(403, "permission_denied");
        assert!(problem["detail"].as_str().unwrap().contains(lacks), "{path}: {problem}");
    }
    let tables = api.get(&format!("{ACME}/lookups")).await.expect(200);
    assert_eq!(tables["items"].as_array().unwrap().len(), 1, "nothing was written: {tables}");
    let one = json!({ "resources": [table("new")] });
    let done = api.as_holder(&editor, "POST", &format!("{ACME}/import"), one).await.expect(200);
    assert_eq!(done["created"], 1);
}
