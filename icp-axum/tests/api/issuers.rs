//! Tokens of outside issuers: who is let in by them, and who is not.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Answer, Api};
use crate::signer::{Signer, encode};

const ACME: &str = "/api/v1/organizations/acme";
const ISSUER: &str = "https://issuer.example";

async fn acme() -> Api {
    let api = Api::new().await;
    for org in ["acme", "other"] {
        let made = api.post("/api/v1/organizations", json!({ "id": org, "spec": {} })).await;
        made.expect(201);
    }
    api
}

fn idp(signer: &Signer) -> Value {
    json!({
        "issuer": ISSUER,
        "audiences": ["icp"],
        "jwks": signer.jwks(),
        "grants": [{ "role": "viewer" }],
    })
}

async fn make(api: &Api, org: &str, spec: Value) -> Answer {
    let path = format!("/api/v1/organizations/{org}/issuers");
    api.post(&path, json!({ "id": "idp", "spec": spec })).await
}

async fn patch(api: &Api, path: &str, spec: Value) {
    let merge = [("content-type", "application/merge-patch+json")];
    api.call("PATCH", path, &merge, &json!({ "spec": spec }).to_string()).await.expect(200);
}

fn claims(api: &Api) -> Value {
    let now = api.engine.now().as_secs();
    json!({ "iss": ISSUER, "aud": "icp", "sub": "ann", "exp": now + 600, "iat": now })
}

fn with(claims: Value, more: Value) -> Value {
    let (Value::Object(mut claims), Value::Object(more)) = (claims, more) else {
        unreachable!("both are objects");
    };
    claims.extend(more);
    claims.into()
}

async fn read(api: &Api, token: &str) -> Answer {
    api.as_holder(token, "GET", &format!("{ACME}/integrations"), Value::Null).await
}

#[tokio::test]
async fn a_token_is_good_in_the_organization_of_its_issuer() {
    let (api, signer) = (acme().await, Signer::new());
    make(&api, "acme", idp(&signer)).await.expect(201);
    let token = signer.token(&claims(&api));
    for _ in 0..2 {
        read(&api, &token).await.expect(200);
    }
    let me = api.as_holder(&token, "GET", "/api/v1/auth/me", Value::Null).await.expect(200);
    assert_eq!((&me["name"], &me["organization"]), (&json!("token:acme/idp/ann"), &json!("acme")));
    let other = "/api/v1/organizations/other/integrations";
    let foreign = api.as_holder(&token, "GET", other, Value::Null).await;
    foreign.problem(404, "organization_unknown");
    let write = json!({ "type": "order.paid", "data": {} });
    let refused = api.as_holder(&token, "POST", &format!("{ACME}/events"), write).await;
    refused.problem(403, "permission_denied");
}

#[tokio::test]
async fn roles_and_scopes_come_from_claims() {
    let (api, signer) = (acme().await, Signer::new());
    let map = json!({ "publishers": [{ "role": "api_key" }] });
    let spec = with(
        idp(&signer),
        json!({ "grants": [], "roles": { "claim": "/groups", "map": map }, "scope_claim": "/scope" }),
    );
    make(&api, "acme", spec).await.expect(201);
    let event = json!({ "type": "order.paid", "data": {} });
    let publish = async |more: Value| {
        let token = signer.token(&with(claims(&api), more));
        api.as_holder(&token, "POST", &format!("{ACME}/events"), event.clone())
            .await
            .status
            .as_u16()
    };
    let group = json!(["publishers", "others"]);
    assert_eq!(publish(json!({ "groups": group, "scope": "openid events:write" })).await, 202);
    assert_eq!(publish(json!({ "groups": group, "scope": "events:read" })).await, 403);
    assert_eq!(publish(json!({ "groups": group })).await, 403);
    assert_eq!(publish(json!({ "groups": ["others"], "scope": "*:*" })).await, 403);
}

#[tokio::test]
async fn a_change_of_the_issuer_counts_at_once() {
    let (api, signer) = (acme().await, Signer::new());
    make(&api, "acme", idp(&signer)).await.expect(201);
    let path = format!("{ACME}/issuers/idp");
    let token = signer.token(&claims(&api));
    read(&api, &token).await.expect(200);
    patch(&api, &path, json!({ "enabled": false })).await;
    read(&api, &token).await.problem(401, "unauthenticated");
    patch(&api, &path, json!({ "enabled": true, "grants": [] })).await;
    read(&api, &token).await.problem(403, "permission_denied");
    patch(&api, &path, json!({ "grants": [{ "role": "viewer" }], "audiences": ["other"] })).await;
    read(&api, &token).await.problem(401, "unauthenticated");
    patch(&api, &path, json!({ "audiences": ["icp"], "jwks": Signer::new().jwks() })).await;
    read(&api, &token).await.problem(401, "unauthenticated");
    patch(&api, &path, json!({ "jwks": signer.jwks() })).await;
    read(&api, &token).await.expect(200);
    patch(&api, ACME, json!({ "status": "suspended" })).await;
    read(&api, &token).await.expect(200);
    let event = json!({ "type": "order.paid", "data": {} });
    let refused = api.as_holder(&token, "POST", &format!("{ACME}/events"), event).await;
    assert_eq!(refused.status, 403);
    api.call("DELETE", &path, &[], "").await.expect(204);
    read(&api, &token).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_operators_issuer_serves_many_organizations() {
    let (api, signer) = (acme().await, Signer::new());
    let rule = json!({ "claim": "/tenant", "map": { "t1": "acme" } });
    let spec = with(idp(&signer), json!({ "organization": rule }));
    make(&api, "_operators", spec).await.expect(201);
    let tenant = async |tenant: &str| {
        let token = signer.token(&with(claims(&api), json!({ "tenant": tenant })));
        read(&api, &token).await.status.as_u16()
    };
    assert_eq!((tenant("t1").await, tenant("acme").await, tenant("t2").await), (200, 401, 401));
    let path = "/api/v1/organizations/_operators/issuers/idp";
    patch(&api, path, json!({ "organization": { "by_id": true } })).await;
    assert_eq!((tenant("acme").await, tenant("other").await), (200, 404));
    assert_eq!((tenant("_operators").await, tenant("nobody").await), (401, 401));
}

#[tokio::test]
async fn who_writes_an_issuer_has_what_it_gives() {
    let (api, signer) = (acme().await, Signer::new());
    let role = json!({ "id": "keeper", "spec": { "permissions": ["issuers:*", "logs:read"] } });
    api.post(&format!("{ACME}/roles"), role).await.expect(201);
    let grants = json!({ "spec": { "grants": [{ "role": "keeper" }] } });
    let key = api.post(&format!("{ACME}/api-keys"), grants).await.expect(201);
    let key = key["key"].as_str().unwrap();
    let body = |spec: Value| json!({ "id": "idp", "spec": spec });
    let path = format!("{ACME}/issuers");
    let map =
        json!({ "claim": "/r", "map": { "a/b": [{ "role": "keeper" }, { "role": "admin" }] } });
    for (spec, pointer) in [
        (idp(&signer), "/spec/grants/0/role"),
        (with(idp(&signer), json!({ "grants": [], "roles": map })), "/spec/roles/map/a~1b/1/role"),
    ] {
        let refused = api.as_holder(key, "POST", &path, body(spec)).await;
        let problem = refused.problem(400, "resource_invalid");
        let found = (&problem["violations"][0]["pointer"], &problem["violations"][0]["code"]);
        assert_eq!(found, (&json!(pointer), &json!("not_granted")));
    }
    let own = with(idp(&signer), json!({ "grants": [{ "role": "keeper" }] }));
    api.as_holder(key, "POST", &path, body(own)).await.expect(201);
    // The same tokens cannot be of two issuers.
    let twin = with(idp(&signer), json!({ "audiences": ["more", "icp"] }));
    make(&api, "other", twin).await.problem(409, "handle_taken");
    let other = with(idp(&signer), json!({ "audiences": ["more"] }));
    make(&api, "other", other).await.expect(201);
    let both = signer.token(&with(claims(&api), json!({ "aud": ["icp", "more"] })));
    read(&api, &both).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn what_is_wrong_with_an_issuer_is_told_with_its_place() {
    let (api, signer) = (acme().await, Signer::new());
    for (change, pointer, code) in [
        (json!({ "audiences": [] }), "/audiences", "min_items"),
        (json!({ "audiences": ["a", "a"] }), "/audiences/1", "duplicate"),
        (json!({ "algorithms": [] }), "/algorithms", "length"),
        (json!({ "types": [] }), "/types", "length"),
        (json!({ "leeway_seconds": 61 }), "/leeway_seconds", ""),
        (json!({ "max_age_seconds": 0 }), "/max_age_seconds", ""),
        (json!({ "jwks_uri": "https://a.example/jwks" }), "/jwks", "conflict"),
        (json!({ "jwks": { "keys": [] } }), "/jwks", "jwks"),
        (json!({ "jwks": { "keys": [{ "kty": "oct", "k": "AA" }] } }), "/jwks", "jwks"),
        (json!({ "jwks": [] }), "/jwks", "jwks"),
        (json!({ "scope_claim": "scope" }), "/scope_claim", "pointer"),
        (json!({ "organization": { "claim": "/t", "by_id": true } }), "/organization", "foreign"),
        (json!({ "grants": [{ "role": "nobody" }] }), "/grants/0/role", "unknown"),
    ] {
        let answer = make(&api, "acme", with(idp(&signer), change.clone())).await;
        let problem = answer.problem(400, "resource_invalid");
        // What the schema refuses has a code of the schema's.
        let fits = |found: &Value| code.is_empty() || found == code;
        let found = |v: &Value| v["pointer"] == format!("/spec{pointer}") && fits(&v["code"]);
        assert!(problem["violations"].as_array().unwrap().iter().any(found), "{change}: {problem}");
    }
    for (name, value) in [("algorithms", json!(["HS256"])), ("algorithms", json!(["none"]))] {
        let answer = make(&api, "acme", with(idp(&signer), json!({ name: value }))).await;
        let problem = answer.problem(400, "resource_invalid");
        assert_eq!(problem["violations"][0]["pointer"], "/spec/algorithms/0");
    }
    let mut found = idp(&signer);
    found.as_object_mut().unwrap().remove("jwks");
    let local = with(found.clone(), json!({ "issuer": "http://issuer.example" }));
    let problem = make(&api, "acme", local).await.problem(400, "resource_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/spec/issuer");
    let plain = with(found, json!({ "jwks_uri": "http://issuer.example/jwks" }));
    let problem = make(&api, "acme", plain).await.problem(400, "resource_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/spec/jwks_uri");
}

/// An issuer that publishes what it is told to, and counts who asks.
struct Published {
    address: String,
    asked: Arc<AtomicUsize>,
    keys: Arc<std::sync::Mutex<Value>>,
}

impl Published {
    async fn new(signer: &Signer, named: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let keys = Arc::new(std::sync::Mutex::new(signer.jwks()));
        let document =
            json!({ "issuer": named.unwrap_or(&address), "jwks_uri": format!("{address}/keys") });
        let (count, published) = (Arc::clone(&asked), Arc::clone(&keys));
        let answer = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let keys = published.lock().unwrap().clone();
            async move { Json(keys) }
        };
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(async || Json(document)))
            .route("/keys", get(answer));
        #[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { address, asked, keys }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn discovered(address: &str) -> Value {
    json!({ "issuer": address, "audiences": ["icp"], "grants": [{ "role": "viewer" }] })
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_asked_for_once() {
    let (api, signer) = (acme().await, Signer::new());
    let idp = Published::new(&signer, None).await;
    make(&api, "acme", discovered(&idp.address)).await.expect(201);
    let claims = with(claims(&api), json!({ "iss": idp.address }));
    let token = signer.token(&claims);
    let together = (0..8).map(|_| read(&api, &token));
    for answer in futures_util::future::join_all(together).await {
        answer.expect(200);
    }
    assert_eq!(idp.asked(), 1);
    // A key that the issuer does not have is looked for once, and not again for a while.
    *idp.keys.lock().unwrap() = Signer::new().jwks();
    for number in 0..5 {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": format!("k{number}") });
        let unknown = signer.token_headed(&header.to_string(), &claims.to_string());
        read(&api, &unknown).await.problem(401, "unauthenticated");
    }
    assert_eq!(idp.asked(), 1, "it was asked less than half a minute ago");
}

#[tokio::test]
async fn an_issuer_that_is_not_who_it_says_is_of_no_use() {
    let (api, signer) = (acme().await, Signer::new());
    let liar = Published::new(&signer, Some("https://somebody.example")).await;
    make(&api, "acme", discovered(&liar.address)).await.expect(201);
    let token = signer.token(&with(claims(&api), json!({ "iss": liar.address })));
    read(&api, &token).await.problem(503, "issuer_unavailable");
    assert_eq!(liar.asked(), 0);
}

#[tokio::test]
async fn hostile_tokens_are_answered_alike_and_lead_nowhere() {
    let (api, signer, other) = (acme().await, Signer::new(), Signer::new());
    let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lure = format!("http://{}/jwks.json", canary.local_addr().unwrap());
    make(&api, "acme", idp(&signer)).await.expect(201);
    let good = claims(&api);
    let body = good.to_string();
    let headed = |by: &Signer, more: Value| {
        let header = with(json!({ "alg": "ES256", "typ": "JWT", "kid": "k" }), more);
        by.token_headed(&header.to_string(), &body)
    };
    let claimed = |more: Value| signer.token(&with(good.clone(), more));
    let honest = signer.token(&good);
    let none = format!("{}.{}.", encode(br#"{"alg":"none","typ":"JWT"}"#), encode(body.as_bytes()));
    let hostile = [
        none,
        headed(&other, json!({ "jku": lure })),
        headed(&other, json!({ "x5u": lure })),
        headed(&other, json!({ "jwk": other.jwks()["keys"][0] })),
        headed(&signer, json!({ "kid": lure })),
        headed(&signer, json!({ "kid": "../../etc/passwd" })),
        headed(&signer, json!({ "crit": ["exp"] })),
        headed(&signer, json!({ "b64": false })),
        headed(&signer, json!({ "typ": "logout+jwt" })),
        claimed(json!({ "iss": format!("{ISSUER}/") })),
        claimed(json!({ "iss": lure })),
        claimed(json!({ "aud": ["ICP", "icp "] })),
        claimed(json!({ "exp": "9999999999" })),
        claimed(json!({ "exp": 1 })),
        claimed(json!({ "nbf": 9_999_999_999_u64 })),
        claimed(json!({ "sub": 7 })),
        format!("{honest}."),
        format!("{honest}=="),
        format!("{honest}.AA.AA"),
        other.token(&good),
        format!("{}.{}", honest.rsplit_once('.').unwrap().0, encode(&[0; 64])),
        "x".repeat(6_000) + "." + &"y".repeat(6_000),
        "..".into(),
    ];
    let told = |answer: &Answer| answer.problem(401, "unauthenticated").to_string();
    let plain = told(&read(&api, "nonsense").await);
    for token in &hostile {
        read(&api, &honest).await.expect(200);
        assert_eq!(told(&read(&api, token).await), plain, "{token:.80}");
    }
    let called = tokio::time::timeout(std::time::Duration::from_millis(50), canary.accept()).await;
    assert!(called.is_err(), "somebody followed a token to where it leads");
}
