use serde_json::{Value, json};

use super::Stage;

const FILES: &str = "\
kind: integration
org: acme
id: orders
name: Orders
labels: {by: git}
spec:
  events: [order.*]
  target: {kind: http, url: 'http://127.0.0.1:9/hooks'}
  signing: {keys: [{secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}
---
kind: organization
id: acme
spec: {}
---
kind: event_type
org: acme
id: order.paid
spec: {}
";

const MASK: &str = "••••••••";

#[tokio::test]
async fn files_are_applied_once_and_then_as_they_should_be() {
    let stage = Stage::set().await;
    stage.write("all.yaml", FILES);
    let dry = stage.run(&["apply", "-f", "all.yaml", "--dry-run"]).await.well();
    assert!(dry.starts_with("create organization acme\n"), "{dry}");
    assert!(dry.contains("the secret that is given") && !dry.contains("whsec_"), "{dry}");
    let absent = stage.run(&["get", "organization", "acme"]).await.ill(5);
    assert!(absent.contains('['), "{absent}");

    let done = stage.run(&["apply", "-f", "all.yaml"]).await.well();
    assert!(done.ends_with("done: 3 created, 0 changed, 0 deleted, 0 kept\n"), "{done}");
    let masked = FILES.replace("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", MASK);
    let again = stage.run_with(&["apply", "-f", "-"], &masked).await.well();
    assert!(again.ends_with("done: 0 created, 0 changed, 0 deleted, 3 kept\n"), "{again}");
    let versions = stage.server.get(&stage.key, "/organizations/acme/integrations/orders").await;
    assert_eq!(versions["version"], 1);
    stage.server.stop().await;
}

#[tokio::test]
async fn a_change_is_shown_and_written_and_a_secret_that_is_masked_stays() {
    let stage = Stage::set().await;
    stage.run_with(&["apply", "-f", "-"], FILES).await.well();
    let exported = stage.run(&["export", "--org", "acme"]).await.well();
    assert!(exported.contains(MASK) && !exported.contains("whsec_"), "{exported}");
    let changed = exported.replace("name: Orders", "name: Orders of all");
    let done = stage.run_with(&["apply", "-f", "-"], &changed).await.well();
    assert!(done.contains("~ /name: \"Orders\" -> \"Orders of all\""), "{done}");
    assert!(done.ends_with("0 created, 1 changed, 0 deleted, 2 kept\n"), "{done}");
    let document = stage.server.get(&stage.key, "/organizations/acme/integrations/orders").await;
    assert_eq!((&document["name"], &document["version"]), (&json!("Orders of all"), &json!(2)));
    let test = "/organizations/acme/integrations/orders/curl";
    let curl = stage.server.post(&stage.key, test, json!({})).await.to_string();
    assert!(curl.contains("webhook-signature"), "{curl}");
    stage.server.stop().await;
}

#[tokio::test]
async fn an_export_makes_the_same_organization_elsewhere_and_nothing_anew_here() {
    let stage = Stage::set().await;
    stage.run_with(&["apply", "-f", "-"], FILES).await.well();
    let lookup = json!({"id": "codes", "labels": {"a": "no"}, "spec": {
        "entries": [{"key": "0123", "value": "no"}, {"key": "1e3", "value": "~"}]}});
    stage.server.post(&stage.key, "/organizations/acme/lookups", lookup).await;
    stage.run(&["export", "--org", "acme", "-f", "acme.yaml"]).await.well();
    let again = stage.run(&["apply", "-f", "acme.yaml", "--prune"]).await.well();
    assert!(again.ends_with("done: 0 created, 0 changed, 0 deleted, 4 kept\n"), "{again}");

    let other = Stage::set().await;
    let text = std::fs::read_to_string(stage.folder.path("acme.yaml")).unwrap();
    let refused = other.run_with(&["apply", "-f", "-"], &text).await.ill(1);
    assert!(refused.contains("secret_masked") && refused.contains("/spec/signing"), "{refused}");
    // All or nothing: what went before is gone again.
    other.run(&["get", "organization", "acme"]).await.ill(5);
    let plain = text.replace(MASK, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    other.run_with(&["apply", "-f", "-"], &plain).await.well();
    let second = other.run(&["export", "--org", "acme"]).await.well();
    assert_eq!(second, text);
    stage.server.stop().await;
    other.server.stop().await;
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind_unless_the_rest_is_wanted() {
    let stage = Stage::set().await;
    stage.run_with(&["apply", "-f", "-"], FILES).await.well();
    let text = FILES.replace("name: Orders", "name: Changed")
        + "---\nkind: integration\norg: acme\nid: wrong\nspec: {events: ['*'], target: {kind: http, url: 'ftp://x'}}\n";
    let refused = stage.run_with(&["apply", "-f", "-"], &text).await;
    let said = refused.ill(1);
    assert!(said.contains("  integration acme/wrong /spec/target/url: "), "{said}");
    assert!(said.contains("[apply_refused]"), "{said}");
    let document = stage.server.get(&stage.key, "/organizations/acme/integrations/orders").await;
    assert_eq!(document["name"], "Orders");

    let rest = stage.run_with(&["apply", "-f", "-", "--continue-on-error"], &text).await;
    assert!(rest.out.contains("3 of 4 are as asked for"), "{rest:?}");
    let said = rest.ill(6);
    assert!(said.contains("integration acme/wrong: "), "{said}");
    let document = stage.server.get(&stage.key, "/organizations/acme/integrations/orders").await;
    assert_eq!(document["name"], "Changed");
    stage.server.stop().await;
}

#[tokio::test]
async fn prune_deletes_what_the_files_do_not_name() {
    let stage = Stage::set().await;
    let second = FILES.replace("id: orders", "id: carts").replace("{by: git}", "{by: hand}");
    stage.run_with(&["apply", "-f", "-"], FILES).await.well();
    stage.run_with(&["apply", "-f", "-"], &second).await.well();
    let third = FILES.replace("id: orders", "id: third");
    let kept =
        stage.run_with(&["apply", "-f", "-", "--prune", "-l", "by:none"], &third).await.well();
    assert!(kept.ends_with("1 created, 0 changed, 0 deleted, 2 kept\n"), "{kept}");
    let dry = ["apply", "-f", "-", "--prune", "-l", "by:git", "--dry-run"];
    let shown = stage.run_with(&dry, &second).await.well();
    assert!(shown.contains("delete integration acme/orders"), "{shown}");
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let page = stage.server.get(&stage.key, "/organizations/acme/integrations").await;
    assert_eq!(names(&page), ["carts", "orders", "third"]);
    stage.run_with(&["apply", "-f", "-", "--prune", "-l", "by:git"], &second).await.well();
    let page = stage.server.get(&stage.key, "/organizations/acme/integrations").await;
    assert_eq!(names(&page), ["carts"]);
    stage.server.stop().await;
}
