//! Logging in by an outside issuer.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Api};
use crate::idp::{Idp, PAGE};
use crate::signer::encode;

const ACME: &str = "/api/v1/organizations/acme";

async fn world(change: Value) -> (Api, Idp) {
    let Value::Object(change) = change else { unreachable!("an object") };
    let (api, idp) = (Api::new().await, Idp::new().await);
    for org in ["acme", "other"] {
        let made = api.post("/api/v1/organizations", json!({ "id": org, "spec": {} })).await;
        made.expect(201);
    }
    let mut spec = idp.spec();
    let login = spec["login"].as_object_mut().unwrap();
    login.extend(change);
    api.post(&format!("{ACME}/issuers"), json!({ "id": "idp", "spec": spec })).await.expect(201);
    (api, idp)
}

impl Api {
    async fn oidc(&self, route: &str, body: Value) -> Answer {
        self.as_nobody(&format!("/api/v1/auth/oidc/{route}"), body).await
    }

    async fn leave(&self) -> Value {
        let start = json!({ "organization": "acme", "issuer": "idp", "redirect_uri": PAGE });
        self.oidc("start", start).await.expect(200)
    }

    /// Logs in at the issuer, whose ID token says this beside.
    async fn come_back(&self, idp: &Idp, claims: Value) -> Answer {
        let left = self.leave().await;
        let state = idp.visited(left["url"].as_str().unwrap(), &claims);
        let back = json!({ "state": state, "code": "the-code", "binding": left["binding"] });
        self.oidc("callback", back).await
    }

    async fn make_user(&self, spec: Value) {
        let body = json!({ "id": "ann", "spec": spec });
        self.post(&format!("{ACME}/users"), body).await.expect(201);
    }

    async fn last_note(&self, action: &str) -> Value {
        let log = self.get(&format!("{ACME}/audit?limit=20")).await.expect(200);
        let items = log["items"].as_array().unwrap().clone();
        let found = items.into_iter().find(|entry| entry["action"] == action);
        found.unwrap()
    }
}

fn ann(idp: &Idp, identified: bool) -> Value {
    let identities = json!([{ "issuer": idp.address, "subject": "u-1" }]);
    json!({
        "email": "ann@example.com",
        "grants": [{ "role": "viewer" }],
        "identities": if identified { identities } else { json!([]) },
    })
}

#[tokio::test]
async fn a_user_logs_in_by_their_identity() {
    let (api, idp) = world(json!({})).await;
    api.come_back(&idp, json!({})).await.problem(401, "unauthenticated");
    assert_eq!(api.last_note("log_in_refused").await["note"], "nobody here has this identity");
    api.make_user(ann(&idp, true)).await;
    let tokens = api.come_back(&idp, json!({})).await;
    let session = tokens.expect(200);
    assert_eq!(tokens.header("cache-control"), "no-store");
    let access = session["access_token"].as_str().unwrap();
    let me = api.as_holder(access, "GET", "/api/v1/auth/me", Value::Null).await.expect(200);
    assert_eq!(me["name"], "user:acme/ann");
    assert!(session["refresh_token"].is_string());
    let note = api.last_note("log_in").await;
    assert_eq!((&note["actor"]["name"], &note["id"]), (&json!("user:acme/ann"), &json!("ann")));
    let shown = api.get(&format!("{ACME}/issuers/idp")).await;
    assert_eq!(shown.expect(200)["spec"]["login"]["client_secret"], "••••••••");
}

#[tokio::test]
async fn id_tokens_that_are_not_of_this_login_are_refused() {
    let (api, idp) = world(json!({})).await;
    api.make_user(ann(&idp, true)).await;
    let hash = encode(&Sha256::digest("opaque")[..16]);
    for fine in [json!({}), json!({ "azp": "client" }), json!({ "at_hash": hash })] {
        api.come_back(&idp, fine).await.expect(200);
    }
    for bad in [
        json!({ "nonce": "other" }),
        json!({ "nonce": null }),
        json!({ "aud": "icp" }),
        json!({ "aud": ["client", "icp"] }),
        json!({ "azp": "icp" }),
        json!({ "at_hash": "AAAA" }),
        json!({ "iss": "https://issuer.example" }),
        json!({ "exp": 1 }),
        json!({ "sub": "u-2" }),
    ] {
        let refused = api.come_back(&idp, bad.clone()).await;
        assert_eq!(refused.status, 401, "{bad}");
        api.last_note("log_in_refused").await;
    }
}

#[tokio::test]
async fn a_state_is_good_once_and_for_who_began() {
    let (api, idp) = world(json!({})).await;
    api.make_user(ann(&idp, true)).await;
    let left = api.leave().await;
    let state = idp.visited(left["url"].as_str().unwrap(), &json!({}));
    let back = |state: &str, binding: &Value| json!({ "state": state, "code": "the-code", "binding": binding });
    let other = api.leave().await;
    let stolen = api.oidc("callback", back(&state, &other["binding"])).await;
    stolen.problem(401, "unauthenticated");
    let late = api.oidc("callback", back(&state, &left["binding"])).await;
    late.problem(401, "unauthenticated");
    let left = api.leave().await;
    let state = idp.visited(left["url"].as_str().unwrap(), &json!({}));
    let mut mixed = back(&state, &left["binding"]);
    mixed["iss"] = "https://other.example".into();
    api.oidc("callback", mixed).await.problem(401, "unauthenticated");
    let left = api.leave().await;
    let state = idp.visited(left["url"].as_str().unwrap(), &json!({}));
    let good = back(&state, &left["binding"]);
    api.oidc("callback", good.clone()).await.expect(200);
    api.oidc("callback", good).await.problem(401, "unauthenticated");
    api.oidc("callback", back("nothing", &json!("x"))).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_of_somebody_else() {
    let (api, _) = world(json!({})).await;
    for uri in [
        "https://console.example/back/",
        "https://console.example/back?x",
        "https://console.example.evil.example/back",
        "https://CONSOLE.example/back",
        "//console.example/back",
    ] {
        let start = json!({ "organization": "acme", "issuer": "idp", "redirect_uri": uri });
        let problem = api.oidc("start", start).await.problem(400, "resource_invalid");
        assert_eq!(problem["violations"][0]["pointer"], "/redirect_uri", "{uri}");
    }
    for (org, issuer) in [("acme", "none"), ("nobody", "idp"), ("other", "idp")] {
        let start = json!({ "organization": org, "issuer": issuer, "redirect_uri": PAGE });
        let problem = api.oidc("start", start).await.problem(400, "resource_invalid");
        assert_eq!(problem["violations"][0]["pointer"], "/issuer");
    }
}

#[tokio::test]
async fn an_address_counts_only_where_it_is_verified_and_meant_to() {
    let verified = json!({ "email": "ann@example.com", "email_verified": true });
    let (api, idp) = world(json!({})).await;
    api.make_user(ann(&idp, false)).await;
    api.come_back(&idp, verified.clone()).await.problem(401, "unauthenticated");

    let (api, idp) = world(json!({ "link_by_email": true })).await;
    api.make_user(ann(&idp, false)).await;
    for bad in [
        json!({ "email": "ann@example.com" }),
        json!({ "email": "ann@example.com", "email_verified": false }),
        json!({ "email": "ann@example.com", "email_verified": "true" }),
        json!({ "email": "eve@example.com", "email_verified": true }),
    ] {
        api.come_back(&idp, bad.clone()).await.problem(401, "unauthenticated");
    }
    api.come_back(&idp, verified).await.expect(200);
    assert_eq!(api.last_note("link_identity").await["actor"]["name"], "issuer:acme/idp");
    api.come_back(&idp, json!({})).await.expect(200);
    let bob = json!({ "sub": "u-2", "email": "bob@example.com", "email_verified": true });
    api.come_back(&idp, bob).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn somebody_unknown_becomes_a_user_where_that_is_meant() {
    let (api, idp) = world(json!({ "provision": [{ "role": "viewer" }] })).await;
    let eve = json!({ "sub": "u-9", "email": "eve@example.com" });
    api.come_back(&idp, eve.clone()).await.problem(401, "unauthenticated");
    let bob = json!({ "sub": "u-2", "email": "bob@example.com", "email_verified": true });
    for _ in 0..2 {
        let session = api.come_back(&idp, bob.clone()).await.expect(200);
        let access = session["access_token"].as_str().unwrap();
        let list = format!("{ACME}/integrations");
        api.as_holder(access, "GET", &list, Value::Null).await.expect(200);
    }
    let users = api.get(&format!("{ACME}/users")).await.expect(200);
    assert_eq!(users["items"].as_array().unwrap().len(), 1);
    assert_eq!(users["items"][0]["spec"]["identities"][0]["subject"], "u-2");
    // The address of somebody else's user is not taken over.
    let thief = json!({ "sub": "u-3", "email": "BOB@example.com", "email_verified": true });
    api.come_back(&idp, thief).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn who_sets_up_logins_could_come_in_as_anybody() {
    let (api, idp) = world(json!({})).await;
    let role = json!({ "id": "keeper", "spec": { "permissions": ["issuers:*", "users:*"] } });
    api.post(&format!("{ACME}/roles"), role).await.expect(201);
    for (role, is_refused) in [("keeper", true), ("org_admin", true), ("admin", false)] {
        let grants = json!({ "spec": { "grants": [{ "role": role }] } });
        let key = api.post(&format!("{ACME}/api-keys"), grants).await.expect(201);
        let mut spec = idp.spec();
        spec["audiences"] = json!([role]);
        let path = format!("{ACME}/issuers");
        let key = key["key"].as_str().unwrap();
        let made = api.as_holder(key, "POST", &path, json!({ "spec": spec })).await;
        if is_refused {
            let problem = made.problem(400, "resource_invalid");
            let found = &problem["violations"][0];
            assert_eq!(
                (&found["pointer"], &found["code"]),
                (&json!("/spec/login"), &json!("not_granted"))
            );
        } else {
            made.expect(201);
        }
    }
    let mut boss = ann(&idp, true);
    boss["grants"] = json!([{ "role": "super_admin" }]);
    api.make_user(boss).await;
    api.come_back(&idp, json!({})).await.problem(401, "unauthenticated");
    let why = api.last_note("log_in_refused").await;
    assert!(why["note"].as_str().unwrap().contains("may do more"));
}
