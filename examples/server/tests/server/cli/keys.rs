use serde_json::json;

use super::{Stage, run};

#[tokio::test]
async fn a_key_is_made_used_listed_and_revoked() {
    let stage = Stage::set().await;
    stage.server.post(&stage.key, "/organizations", json!({"id": "acme", "spec": {}})).await;
    let create = ["keys", "create", "For the shop", "--org", "acme", "--role", "viewer"];
    let said = stage.run(&create).await;
    let id = said.err.split(['\u{20}', ';']).nth(1).unwrap_or_default().to_owned();
    let key = said.well().trim().to_owned();
    let as_it = [("ICP_URL", stage.server.url.as_str()), ("ICP_API_KEY", key.as_str())];
    let get = ["get", "integrations", "--org", "acme"];
    run(&stage.folder, &get, &as_it, "").await.well();
    // A viewer looks only.
    let text = "kind: event_type\norg: acme\nid: a\n";
    let refused = run(&stage.folder, &["apply", "-f", "-"], &as_it, text).await.ill(4);
    assert!(refused.contains("[forbidden]") || refused.contains("[permission"), "{refused}");
    let list = stage.run(&["keys", "list", "--org", "acme"]).await.well();
    assert!(list.contains(&id) && list.contains("For the shop  viewer  true"), "{list}");
    assert!(!list.contains(&key));
    stage.run(&["keys", "revoke", &id, "--org", "acme"]).await.well();
    let gone = run(&stage.folder, &get, &as_it, "").await.ill(4);
    assert!(gone.contains("[unauthenticated]"), "{gone}");
    stage.run(&["keys", "revoke", &id, "--org", "acme"]).await.ill(5);
    stage.server.stop().await;
}

#[tokio::test]
async fn a_key_of_no_role_is_refused() {
    let stage = Stage::set().await;
    stage.server.post(&stage.key, "/organizations", json!({"id": "acme", "spec": {}})).await;
    let create = ["keys", "create", "x", "--org", "acme"];
    stage.run(&create).await.ill(2);
    let wrong = stage.run(&[&create[..], &["--role", "rooot"]].concat()).await.ill(1);
    assert!(wrong.contains("/spec/grants/0"), "{wrong}");
    let late = [&create[..], &["--role", "viewer", "--expires", "soon"]].concat();
    stage.run(&late).await.ill(2);
    stage.server.stop().await;
}
