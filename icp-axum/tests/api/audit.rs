use icp_core::resource::{Actor, Expect};
use serde_json::{Value, json};

use crate::harness::Api;

const AUDIT: &str = "/api/v1/organizations/acme/audit";
const ONE: &str = "/api/v1/organizations/acme/integrations/orders";

#[tokio::test]
async fn a_row_shows_the_documents_before_and_after() {
    let api = Api::with_orders().await;
    let made = api.get(&format!("{AUDIT}?kind=integration")).await.expect(200);
    let made = made["items"][0]["revision"].as_u64().unwrap();
    let changed =
        json!({"name": "Orders", "spec": {"auth": {"type": "bearer", "token": "new-one"}}});
    let changed = api.send("PATCH", ONE, &[], changed).await.expect(200);
    let (changed, gone) = (changed["revision"].as_u64().unwrap(), {
        api.call("DELETE", ONE, &[], "").await.expect(204);
        api.get(AUDIT).await.expect(200)["items"][0]["revision"].as_u64().unwrap()
    });
    let shown = async |revision: u64| api.get(&format!("{AUDIT}/{revision}")).await;
    let creation = shown(made).await.expect(200);
    assert_eq!((&creation["before"], &creation["changes"]), (&Value::Null, &Value::Null));
    assert_eq!(creation["after"]["id"], "orders");
    let update = shown(changed).await;
    assert!(!update.text.contains("hush-hush") && !update.text.contains("new-one"));
    let update = update.expect(200);
    assert_eq!((&update["before"]["version"], &update["after"]["version"]), (&json!(1), &json!(2)));
    let operations = &update["changes"]["operations"];
    assert_eq!(operations, &json!([{"op": "replace", "path": "/name", "value": "Orders"}]));
    let deletion = shown(gone).await.expect(200);
    assert_eq!((&deletion["after"], &deletion["before"]["version"]), (&Value::Null, &json!(2)));
    assert_eq!(deletion["entry"]["action"], "delete");
    shown(gone + 1).await.problem(404, "audit_entry_not_found");
    shown(0).await.problem(400, "id_invalid");
    api.post("/api/v1/organizations", json!({"id": "beta", "spec": {}})).await.expect(201);
    let foreign = format!("/api/v1/organizations/beta/audit/{made}");
    api.get(&foreign).await.problem(404, "audit_entry_not_found");
}

#[tokio::test]
async fn rows_are_listed_by_who_what_and_when() {
    let api = Api::with_orders().await;
    let host = Actor { acting_as: Some("user:bob".into()), ..Actor::host() };
    let org = "acme".parse().unwrap();
    let orders = "orders".parse().unwrap();
    let patch = json!({"name": "Orders"});
    let resources = api.engine.resources();
    let patched = resources.merge_patch(&org, "integration", &orders, &patch, Expect::Any, &host);
    patched.await.unwrap();
    let list = async |filter: &str| {
        let listed = api.get(&format!("{AUDIT}?{filter}")).await.expect(200);
        listed["items"].as_array().unwrap().clone()
    };
    let by_host = list("actor=host").await;
    assert_eq!(by_host.len(), 1);
    assert_eq!(by_host[0]["actor"]["acting_as"], "user:bob");
    assert_eq!(list("action=create").await.len(), 2);
    // The operator of this API is at home elsewhere, which is told too.
    assert_eq!(list("action=cross").await.len(), 1);
    assert_eq!(list("since=2000-01-01T00:00:00Z").await.len(), 4);
    assert_eq!(list("until=2000-01-01T00:00:00Z").await.len(), 0);
    api.get(&format!("{AUDIT}?since=yesterday")).await.problem(400, "query_invalid");
    api.get(&format!("{AUDIT}/export?limit=3")).await.problem(400, "query_invalid");
}

#[tokio::test]
async fn the_chain_is_checked() {
    let api = Api::with_orders().await;
    let found = api.get(&format!("{AUDIT}/verification")).await.expect(200);
    let newest = &api.get(AUDIT).await.expect(200)["items"][0];
    assert_eq!((&found["entries"], &found["broken"]), (&json!(3), &Value::Null));
    assert_eq!(found["newest"]["chain"], newest["chain"]);
    assert_eq!(found["newest"]["number"], 3);
}

#[tokio::test]
async fn the_log_is_a_file_of_lines_or_cells() {
    let api = Api::with_orders().await;
    for n in 0..600 {
        let org = "acme".parse().unwrap();
        let actor = Actor { name: "=cmd".into(), ..Actor::host() };
        let (orders, patch) = ("orders".parse().unwrap(), json!({"labels": {"n": n.to_string()}}));
        let resources = api.engine.resources();
        resources
            .merge_patch(&org, "integration", &orders, &patch, Expect::Any, &actor)
            .await
            .unwrap();
    }
    let lines = api.get(&format!("{AUDIT}/export")).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    assert_eq!(lines.header("content-disposition"), "attachment; filename=\"audit-acme.ndjson\"");
    let numbers = lines.text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["number"].as_u64().unwrap()
    });
    assert_eq!(numbers.collect::<Vec<_>>(), (1..=603).rev().collect::<Vec<_>>());
    let csv = [("accept", "text/csv")];
    let cells = api.call("GET", &format!("{AUDIT}/export?kind=integration"), &csv, "").await;
    assert_eq!(cells.header("content-type"), "text/csv; charset=utf-8");
    let mut rows = cells.text.split("\r\n");
    assert!(rows.next().unwrap().starts_with("number,revision,at,actor,"));
    assert!(rows.next().unwrap().contains(",'=cmd,"));
    assert_eq!(cells.text.split("\r\n").filter(|row| row.contains("integration")).count(), 601);
    let none = api.call("GET", &format!("{AUDIT}/export?action=none"), &csv, "").await;
    assert_eq!(none.text.split("\r\n").count(), 2);
}
