//! Tokens that only their issuer can tell about, and what we tell about our own.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::harness::Api;
use crate::idp::Idp;
use crate::signer::Signer;

const ACME: &str = "/api/v1/organizations/acme";

async fn asking(api: &Api, org: &str, idp: &Idp) {
    let spec = json!({
        "issuer": idp.address,
        "audiences": ["icp"],
        "grants": [{ "role": "viewer" }],
        "introspection": { "client_id": "client", "client_secret": "s/cret" },
    });
    let path = format!("/api/v1/organizations/{org}/issuers");
    api.post(&path, json!({ "id": "opaque", "spec": spec })).await.expect(201);
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_once_and_ours_never() {
    let (api, idp) = (Api::new().await, Idp::new().await);
    for org in ["acme", "other"] {
        let made = api.post("/api/v1/organizations", json!({ "id": org, "spec": {} })).await;
        made.expect(201);
    }
    asking(&api, "acme", &idp).await;
    let list = format!("{ACME}/integrations");
    let read =
        async |token: &str| api.as_holder(token, "GET", &list, Value::Null).await.status.as_u16();
    let good = "opaque-token-of-ann";
    let says = |token: &str, claims: Value| {
        idp.opaque.lock().unwrap().insert(token.to_owned(), claims);
    };
    says(good, json!({ "active": true, "sub": "ann", "aud": "icp" }));
    says("issued-to-us-itself", json!({ "active": true, "client_id": "icp" }));
    says("of-another-audience", json!({ "active": true, "sub": "ann", "aud": "other" }));
    says("of-another-client", json!({ "active": true, "sub": "ann", "client_id": "other" }));
    says("of-another-issuer", json!({ "active": true, "sub": "a", "aud": "icp", "iss": "x" }));
    says("that-is-over-since-1970", json!({ "active": true, "sub": "a", "aud": "icp", "exp": 1 }));
    says("that-says-so-in-words", json!({ "active": "true", "sub": "a", "aud": "icp" }));
    for _ in 0..3 {
        assert_eq!(read(good).await, 200);
        assert_eq!(read("nobody-knows-this-one").await, 401);
    }
    assert_eq!(idp.asked(), [good, "nobody-knows-this-one"]);
    assert_eq!(read("issued-to-us-itself").await, 200);
    for bad in [
        "of-another-audience",
        "of-another-client",
        "of-another-issuer",
        "that-is-over-since-1970",
        "that-says-so-in-words",
    ] {
        assert_eq!(read(bad).await, 401, "{bad}");
    }
    let before = idp.asked().len();
    let jwt = Signer::new().token(&json!({ "iss": idp.address, "aud": "icp" }));
    let wrong_key = format!("{}x", api.key);
    for own in [
        api.key.as_str(),
        &wrong_key,
        &jwt,
        "ics_0123456789abcdef",
        "icr_0123456789abcdef",
        "short",
    ] {
        read(own).await;
    }
    let foreign = "/api/v1/organizations/other/integrations";
    let elsewhere = api.as_holder(good, "GET", foreign, Value::Null).await;
    elsewhere.problem(401, "unauthenticated");
    assert_eq!(idp.asked().len(), before, "nobody was shown what is not theirs");
    let two = json!({ "id": "two", "spec": { "issuer": "https://b.example", "audiences": ["b"],
        "introspection": { "client_id": "c", "client_secret": "s" } } });
    let problem = api.post(&format!("{ACME}/issuers"), two).await.problem(400, "resource_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/spec/introspection");
}

#[tokio::test]
async fn the_tokens_of_operators_are_not_shown_to_others() {
    let (api, own, theirs) = (Api::new().await, Idp::new().await, Idp::new().await);
    api.post("/api/v1/organizations", json!({ "id": "acme", "spec": {} })).await.expect(201);
    asking(&api, "_operators", &own).await;
    asking(&api, "acme", &theirs).await;
    let known = json!({ "active": true, "sub": "op", "aud": "another-service" });
    own.opaque.lock().unwrap().insert("token-of-an-operator".into(), known);
    let list = format!("{ACME}/integrations");
    api.as_holder("token-of-an-operator", "GET", &list, Value::Null)
        .await
        .problem(401, "unauthenticated");
    assert_eq!((own.asked().len(), theirs.asked().len()), (1, 0));
    let member = json!({ "active": true, "sub": "ann", "aud": "icp" });
    theirs.opaque.lock().unwrap().insert("token-of-a-member".into(), member);
    api.as_holder("token-of-a-member", "GET", &list, Value::Null).await.expect(200);
    assert_eq!((own.asked().len(), theirs.asked().len()), (2, 1));
}

#[tokio::test]
async fn our_own_tokens_are_told_about_to_who_may_know() {
    let api = Api::new().await;
    for org in ["acme", "other"] {
        let made = api.post("/api/v1/organizations", json!({ "id": org, "spec": {} })).await;
        made.expect(201);
    }
    let key = async |org: &str, role: &str| {
        let spec = json!({ "spec": { "grants": [{ "role": role }] } });
        let path = format!("/api/v1/organizations/{org}/api-keys");
        let made = api.post(&path, spec).await.expect(201);
        made["key"].as_str().unwrap().to_owned()
    };
    let (viewer, admin) = (key("acme", "viewer").await, key("acme", "admin").await);
    let foreign = key("other", "admin").await;
    let ask = async |by: &str, media: &str, body: String| {
        let request = Request::post("/api/v1/oauth/introspect")
            .header("authorization", by)
            .header("content-type", media)
            .body(Body::from(body));
        api.raw(request.unwrap()).await
    };
    let (form, text) = ("application/x-www-form-urlencoded", "application/json");
    let bearer = format!("Bearer {admin}");
    let basic = {
        use base64::Engine as _;
        let pair = format!("anything:{admin}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let as_form = format!("token={viewer}&token_type_hint=access_token&resource=x");
    for (by, media, body) in [
        (&bearer, form, as_form.clone()),
        (&basic, form, as_form.clone()),
        (&bearer, text, json!({ "token": viewer }).to_string()),
    ] {
        let told = ask(by, media, body).await;
        assert_eq!(told.header("cache-control"), "no-store");
        let told = told.expect(200);
        assert_eq!((&told["active"], &told["organization"]), (&json!(true), &json!("acme")));
        assert!(told["sub"].as_str().unwrap().starts_with("key:key_"));
        let scope = told["scope"].as_str().unwrap();
        assert!(scope.split(' ').any(|one| one == "logs:read") && !scope.contains("users"));
    }
    let nothing = json!({ "active": false });
    for (by, token) in [
        (format!("Bearer {foreign}"), viewer.clone()),
        (format!("Bearer {viewer}"), admin.clone()),
        (bearer.clone(), "nonsense".into()),
        (bearer.clone(), "a.b.c".into()),
        (bearer.clone(), format!("{viewer}x")),
    ] {
        assert_eq!(ask(&by, form, format!("token={token}")).await.expect(200), nothing);
    }
    ask(&bearer, form, "token=a&token=b".into()).await.problem(400, "resource_invalid");
    ask(&bearer, form, String::new()).await.problem(400, "resource_invalid");
    ask(&bearer, "text/plain", String::new()).await.problem(415, "media_type_unsupported");
    ask("Basic eDp5", form, as_form).await.problem(401, "unauthenticated");
    let elsewhere = Request::get(format!("{ACME}/integrations"))
        .header("authorization", basic)
        .body(Body::empty());
    api.raw(elsewhere.unwrap()).await.problem(401, "unauthenticated");
}
