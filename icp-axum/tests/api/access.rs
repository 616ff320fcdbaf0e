//! Principals: keys, users, sessions, roles; and what they may not do.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

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
async fn a_key_is_shown_once_and_its_hash_never() {
    let api = acme().await;
    let (id, text) = api.acme_key(json!({ "grants": [{ "role": "viewer" }] })).await;
    let shown = api.get(&format!("{ACME}/api-keys/{id}")).await;
    assert_eq!(shown.expect(200)["spec"]["verifier"], "••••••••");
    assert!(!shown.text.contains(text.split('_').nth(2).unwrap()));
    let forged = json!({ "spec": { "verifier": "0".repeat(64) } });
    api.post(&format!("{ACME}/api-keys"), forged).await.problem(400, "resource_invalid");
    let named = json!({ "id": "mine", "spec": {} });
    api.post(&format!("{ACME}/api-keys"), named).await.problem(400, "resource_invalid");
}

#[tokio::test]
async fn a_key_can_be_narrowed_switched_off_and_deleted() {
    let api = acme().await;
    let spec = json!({ "grants": [{ "role": "admin" }], "scopes": ["integrations:read"] });
    let (id, text) = api.acme_key(spec).await;
    let get =
        async |path: &str| api.as_holder(&text, "GET", &format!("{ACME}{path}"), Value::Null).await;
    get("/integrations").await.expect(200);
    get("/deliveries").await.problem(403, "permission_denied");
    let path = format!("{ACME}/api-keys/{id}");
    let patch = [("content-type", "application/merge-patch+json")];
    let off = json!({ "spec": { "enabled": false } }).to_string();
    api.call("PATCH", &path, &patch, &off).await.expect(200);
    get("/integrations").await.problem(401, "unauthenticated");
    let on = json!({ "spec": { "enabled": true, "expires_at": "2000-01-01T00:00:00Z" } });
    api.call("PATCH", &path, &patch, &on.to_string()).await.expect(200);
    get("/integrations").await.problem(401, "unauthenticated");
    let on = json!({ "spec": { "expires_at": null } }).to_string();
    api.call("PATCH", &path, &patch, &on).await.expect(200);
    get("/integrations").await.expect(200);
    api.call("DELETE", &path, &[], "").await.expect(204);
    get("/integrations").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_rotated_key_overlaps_with_the_one_before() {
    let api = acme().await;
    let (id, first) = api.acme_key(json!({ "grants": [{ "role": "viewer" }] })).await;
    let rotate = async |body: Value| {
        let rotated = api.post(&format!("{ACME}/api-keys/{id}/rotate"), body).await.expect(200);
        rotated["key"].as_str().unwrap().to_owned()
    };
    let get = async |key: &str| {
        let path = format!("{ACME}/integrations");
        api.as_holder(key, "GET", &path, Value::Null).await.status.as_u16()
    };
    let second = rotate(json!({})).await;
    assert_eq!((get(&first).await, get(&second).await), (200, 200));
    let third = rotate(json!({ "overlap_seconds": 0 })).await;
    assert_eq!((get(&first).await, get(&second).await, get(&third).await), (401, 401, 200));
    let path = format!("{ACME}/api-keys/{id}/rotate");
    api.post(&path, json!({ "overlap_seconds": 2_592_001 })).await.problem(400, "resource_invalid");
}

#[tokio::test]
async fn a_key_may_send_no_more_than_its_limit() {
    let api = acme().await;
    let spec = json!({
        "grants": [{ "role": "viewer" }],
        "rate_limit": { "requests": 2, "seconds": 3_600 },
    });
    let (_, key) = api.acme_key(spec).await;
    let get =
        async || api.as_holder(&key, "GET", &format!("{ACME}/integrations"), Value::Null).await;
    let first = get().await;
    first.expect(200);
    assert_eq!(first.header("ratelimit-policy"), "\"principal\";q=2;w=3600");
    assert_eq!(first.header("ratelimit"), "\"principal\";r=1;t=1800");
    get().await.expect(200);
    let refused = get().await;
    refused.problem(429, "rate_limited");
    assert!((1790..=1800).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
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
async fn a_session_goes_on_by_a_token_that_is_good_once() {
    let api = acme().await;
    let id = api.acme_user("Ann@example.com", "viewer").await;
    let begun = api.log_in("ann@EXAMPLE.com", PASSWORD).await;
    assert_eq!(begun.header("cache-control"), "no-store");
    let begun = begun.expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (access, refresh) = (text(&begun["access_token"]), text(&begun["refresh_token"]));
    let me = api.as_holder(&access, "GET", "/api/v1/auth/me", Value::Null).await.expect(200);
    assert_eq!(
        (&me["name"], &me["organization"]),
        (&json!(format!("user:acme/{id}")), &json!("acme"))
    );
    assert!(me["permissions"].as_array().unwrap().contains(&json!("logs:read")));
    let body = |token: &str| json!({ "refresh_token": token });
    let next = text(&api.auth("refresh", body(&refresh)).await.expect(200)["refresh_token"]);
    // The token that was used comes back: somebody has a copy, and nobody goes on.
    api.auth("refresh", body(&refresh)).await.problem(401, "unauthenticated");
    api.auth("refresh", body(&next)).await.problem(401, "unauthenticated");
    let late = api.as_holder(&access, "GET", "/api/v1/auth/me", Value::Null).await;
    late.problem(401, "unauthenticated");
    let rows = api.get(&format!("{ACME}/audit?kind=user")).await.expect(200);
    assert!(rows["items"].as_array().unwrap().iter().any(|row| row["action"] == "session_reused"));
}

#[tokio::test]
async fn logging_out_and_a_new_password_end_sessions() {
    let api = acme().await;
    api.acme_user("ann@example.com", "viewer").await;
    let begin = async |password: &str| {
        let begun = api.log_in("ann@example.com", password).await.expect(200);
        let text = |name: &str| begun[name].as_str().unwrap().to_owned();
        (text("access_token"), text("refresh_token"))
    };
    let me = async |access: &str| {
        let answer = api.as_holder(access, "GET", "/api/v1/auth/me", Value::Null).await;
        answer.status.as_u16()
    };
    let (access, refresh) = begin(PASSWORD).await;
    let other = begin(PASSWORD).await;
    api.auth("logout", json!({ "refresh_token": refresh })).await.expect(204);
    api.auth("logout", json!({ "refresh_token": "nonsense" })).await.expect(204);
    assert_eq!((me(&access).await, me(&other.0).await), (401, 200));
    let change = |present: &str, next: &str| json!({ "present": present, "password": next });
    let put = async |token: &str, body: Value| {
        api.as_holder(token, "PUT", "/api/v1/auth/password", body).await
    };
    put(&other.0, change("wrong wrong wrong", "a brand new password")).await.expect(401);
    put(&other.0, change(PASSWORD, "short")).await.problem(400, "password_weak");
    put(&other.0, change(PASSWORD, "a brand new password")).await.expect(204);
    assert_eq!(me(&other.0).await, 401);
    api.log_in("ann@example.com", PASSWORD).await.problem(401, "unauthenticated");
    begin("a brand new password").await;
}

#[tokio::test]
async fn who_guesses_is_locked_out() {
    let api = acme().await;
    api.acme_user("ann@example.com", "viewer").await;
    for _ in 0..10 {
        let wrong = api.log_in("ann@example.com", "wrong wrong wrong").await;
        let unknown = api.log_in("nobody@example.com", "wrong wrong wrong").await;
        assert_eq!(wrong.problem(401, "unauthenticated"), unknown.expect(401));
    }
    api.log_in("ann@example.com", PASSWORD).await.problem(429, "rate_limited");
    api.log_in("nobody@example.com", PASSWORD).await.problem(429, "rate_limited");
    api.log_in("third@example.com", PASSWORD).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn addresses_are_unique_in_their_organization() {
    let api = acme().await;
    api.acme_user("ann@example.com", "viewer").await;
    let user = |email: &str| json!({ "spec": { "email": email } });
    let again = api.post(&format!("{ACME}/users"), user("ANN@example.com")).await;
    again.problem(409, "handle_taken");
    let other = "/api/v1/organizations/other/users";
    api.post(other, user("ann@example.com")).await.expect(201);
    api.post(other, user("nobody")).await.problem(400, "resource_invalid");
    let plain = json!({ "spec": { "email": "b@c", "password": "not a hash" } });
    let refused = api.post(other, plain).await;
    assert!(!refused.text.contains("not a hash"));
    refused.problem(400, "resource_invalid");
}

#[tokio::test]
async fn an_operator_acts_in_a_role_and_the_audit_log_tells() {
    let api = acme().await;
    let ask = |role: &str, reason: &str| json!({ "organization": "acme", "role": role, "reason": reason });
    let path = "/api/v1/auth/impersonate";
    api.post(path, ask("super_admin", "x")).await.problem(400, "resource_invalid");
    api.post(path, ask("org_user", " ")).await.problem(400, "resource_invalid");
    let got = api.post(path, ask("org_admin", "ticket 4711")).await.expect(200);
    assert_eq!(got.get("refresh_token"), None);
    let token = got["access_token"].as_str().unwrap();
    let me = api.as_holder(token, "GET", "/api/v1/auth/me", Value::Null).await.expect(200);
    assert_eq!((&me["acting_as"], &me["organization"]), (&json!("org_admin@acme"), &json!("acme")));
    let made = json!({ "id": "codes", "spec": {} });
    api.as_holder(token, "POST", &format!("{ACME}/lookups"), made).await.expect(201);
    let foreign = "/api/v1/organizations/other/lookups";
    api.as_holder(token, "GET", foreign, Value::Null).await.problem(404, "organization_unknown");
    let twice = api.as_holder(token, "POST", path, ask("org_user", "deeper")).await;
    twice.problem(403, "permission_denied");
    let rows = api.get(&format!("{ACME}/audit")).await.expect(200);
    let rows = rows["items"].as_array().unwrap();
    let told = rows.iter().find(|row| row["action"] == "impersonate").unwrap();
    assert_eq!(told["note"], "as org_admin: ticket 4711");
    let change = rows.iter().find(|row| row["id"] == "codes").unwrap();
    assert!(change["actor"]["name"].as_str().unwrap().starts_with("key:key_"));
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
async fn the_first_user_is_made_once() {
    let api = Api::without_key();
    let body = |password: &str| json!({ "email": "op@example.com", "password": password });
    api.auth("bootstrap", body("short")).await.problem(400, "password_weak");
    api.auth("bootstrap", json!({ "email": "op", "password": PASSWORD }))
        .await
        .problem(400, "resource_invalid");
    api.auth("bootstrap", body(PASSWORD)).await.expect(204);
    api.auth("bootstrap", body(PASSWORD)).await.problem(409, "bootstrap_done");
    let login = json!({ "email": "op@example.com", "password": PASSWORD });
    let begun = api.auth("login", login).await.expect(200);
    let token = begun["access_token"].as_str().unwrap();
    let made = json!({ "id": "acme", "spec": {} });
    api.as_holder(token, "POST", "/api/v1/organizations", made).await.expect(201);
    let me = api.as_holder(token, "GET", "/api/v1/auth/me", Value::Null).await.expect(200);
    assert_eq!(me["organization"], "_operators");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_known() {
    let api = acme().await;
    let (id, key) = api.acme_key(json!({ "grants": [{ "role": "viewer" }] })).await;
    let path = format!("{ACME}/api-keys/{id}/last-use");
    assert_eq!(api.get(&path).await.expect(200)["last_used_at"], Value::Null);
    api.as_holder(&key, "GET", &format!("{ACME}/integrations"), Value::Null).await.expect(200);
    let noted = async {
        while api.get(&path).await.expect(200)["last_used_at"].is_null() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), noted).await.unwrap();
    let foreign = format!("/api/v1/organizations/other/api-keys/{id}/last-use");
    api.get(&foreign).await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn no_request_makes_the_first_user_unless_the_host_says_so() {
    let api = Api::without_key();
    let router = icp_axum::router(api.engine.clone());
    let body = json!({ "email": "op@example.com", "password": PASSWORD }).to_string();
    let request =
        Request::post("/api/v1/auth/bootstrap").header("content-type", "application/json");
    let answer = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 403);
    api.auth("login", json!({ "email": "op@example.com", "password": PASSWORD }))
        .await
        .problem(401, "unauthenticated");
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
