//! API keys: shown once, narrowed, rotated, limited.

use serde_json::{Value, json};

use super::{ACME, acme};

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
