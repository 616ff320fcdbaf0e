#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::{Value, json};

use crate::harness::{Answer, Api, orders};

const ONE: &str = "/api/v1/organizations/acme/integrations/orders";
const FIRST: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// An API whose integration `orders` signs, also with `hmac-body` as `plain`.
async fn signing() -> Api {
    let api = Api::new().await;
    api.post("/api/v1/organizations", json!({"id": "acme", "spec": {}})).await.expect(201);
    let mut draft = orders();
    draft["spec"]["signing"] = json!({
        "keys": [{"secret": FIRST}],
        "also": [{
            "id": "plain",
            "profile": "hmac-body",
            "settings": {"header": "x-signature"},
            "keys": [{"secret": "a secret text"}],
        }],
    });
    api.post("/api/v1/organizations/acme/integrations", draft).await.expect(201);
    api
}

async fn rotate(api: &Api, body: Value) -> Answer {
    api.post(&format!("{ONE}/signing/rotate"), body).await
}

fn keys(integration: &Value, at: &str) -> Vec<(String, bool)> {
    let keys = integration.pointer(&format!("/spec/signing{at}/keys")).unwrap();
    let key = |key: &Value| (key["id"].as_str().unwrap().to_owned(), key["expires_at"].is_string());
    keys.as_array().unwrap().iter().map(key).collect()
}

#[tokio::test]
async fn a_new_secret_is_shown_once_and_nowhere_afterwards() {
    let api = signing().await;
    let etag = api.get(ONE).await.header("etag").to_owned();
    let guard = [("if-match", etag.as_str())];
    let path = format!("{ONE}/signing/rotate");
    let answer = api.call("POST", &path, &guard, "").await;
    let rotated = answer.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let secret = rotated["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret != FIRST);
    assert_eq!(answer.text.matches(secret).count(), 1);
    assert!(!answer.text.contains(FIRST) && rotated.get("public_key").is_none());
    let key = rotated["key"].as_str().unwrap().to_owned();
    let expected = [(key, false), ("default".to_owned(), true)];
    assert_eq!(keys(&rotated["integration"], ""), expected);

    api.call("POST", &path, &guard, "").await.problem(412, "revision_conflict");
    let shown = api.get(ONE).await;
    assert_eq!(shown.header("etag"), answer.header("etag"));
    assert_eq!(shown.expect(200), rotated["integration"]);
    let audit = api.get("/api/v1/organizations/acme/audit").await;
    assert_eq!(audit.expect(200)["items"][0]["action"], "rotate_secret");
    let history = api.get(&format!("{ONE}/history")).await;
    for answer in [shown, audit, history] {
        assert!(!answer.text.contains(secret), "{}", answer.text);
    }
}

#[tokio::test]
async fn each_signature_is_rotated_alone_and_at_most_three_keys_are_kept() {
    let api = signing().await;
    let body = || json!({"signature": "plain", "overlap_seconds": 60});
    let mut dropped = Vec::new();
    for _ in 0..3 {
        let rotated = rotate(&api, body()).await.expect(200);
        assert_eq!(rotated["secret"].as_str().unwrap().len(), 64);
        dropped.extend(rotated["dropped"].as_array().unwrap().clone());
    }
    assert_eq!(dropped, [json!("default")]);
    let shown = api.get(ONE).await.expect(200);
    assert_eq!(keys(&shown, "/also/0").len(), 3);
    assert_eq!(keys(&shown, ""), [("default".to_owned(), false)]);
    let now = rotate(&api, json!({"overlap_seconds": 0})).await.expect(200);
    assert_eq!(keys(&now["integration"], "").len(), 1);
    assert_eq!(now["dropped"], json!(["default"]));
}

#[tokio::test]
async fn the_preferred_and_the_last_secret_stay() {
    let api = signing().await;
    let remove = format!("{ONE}/signing/remove");
    api.post(&remove, json!({"key": "default"})).await.problem(409, "signing_key_last");
    let key = rotate(&api, json!({})).await.expect(200)["key"].clone();
    api.post(&remove, json!({"key": key})).await.problem(409, "signing_key_primary");
    api.post(&remove, json!({"key": "nobody"})).await.problem(404, "signing_key_unknown");
    let stale = [("if-match", "\"1\"")];
    api.send("POST", &remove, &stale, json!({"key": "default"}))
        .await
        .problem(412, "revision_conflict");
    let removed = api.post(&remove, json!({"key": "default"})).await;
    assert_eq!(keys(&removed.expect(200), ""), [(key.as_str().unwrap().to_owned(), false)]);
    assert_eq!(removed.header("etag"), api.get(ONE).await.header("etag"));
    let audit = api.get("/api/v1/organizations/acme/audit").await.expect(200);
    assert_eq!(audit["items"][0]["action"], "remove_secret");
}

#[tokio::test]
async fn an_ed25519_key_is_replaced_by_one_whose_public_half_is_shown() {
    let api = signing().await;
    let secret = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let patch = json!({"spec": {"signing": {"keys": [{"id": "pair", "secret": secret}]}}});
    let merge = [("content-type", "application/merge-patch+json")];
    api.call("PATCH", ONE, &merge, &patch.to_string()).await.expect(200);
    let rotated = rotate(&api, json!({})).await;
    assert!(rotated.expect(200)["public_key"].as_str().unwrap().starts_with("whpk_"));
    assert!(!rotated.text.contains("whsk_"));
}

#[tokio::test]
async fn what_cannot_be_rotated_is_refused() {
    let api = Api::with_orders().await;
    rotate(&api, json!({})).await.problem(404, "signature_unknown");
    let api = signing().await;
    rotate(&api, json!({"signature": "other"})).await.problem(404, "signature_unknown");
    rotate(&api, json!({"overlap": 1})).await.problem(400, "body_malformed");
    let problem = rotate(&api, json!({"overlap_seconds": 2_592_001})).await;
    let problem = problem.problem(400, "resource_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/overlap_seconds");
    let nobody = "/api/v1/organizations/acme/integrations/nobody/signing/rotate";
    api.call("POST", nobody, &[], "").await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn a_rotation_switches_no_signing_on() {
    let api = Api::with_orders().await;
    let problem = rotate(&api, json!({})).await.problem(404, "signature_unknown");
    assert!(problem["detail"].to_string().contains("add `signing` to its spec"), "{problem}");
    assert_eq!(api.get(ONE).await.expect(200)["spec"].get("signing"), None);
}
