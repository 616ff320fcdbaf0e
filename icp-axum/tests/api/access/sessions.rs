//! Users and their sessions, the first user, and operators in the place of others.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{ACME, PASSWORD, acme};
use crate::harness::Api;

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
