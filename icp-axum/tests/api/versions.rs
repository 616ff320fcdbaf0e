use serde_json::json;

use crate::harness::Api;

const ORG: &str = "/api/v1/organizations/acme";
const ONE: &str = "/api/v1/organizations/acme/integrations/orders";

#[tokio::test]
async fn versions_are_shown_compared_and_brought_back_with_their_secrets() {
    let api = Api::with_orders().await;
    let patch = json!({
        "name": "Orders", "labels": {"team": "b"},
        "spec": {"max_in_flight": 7, "auth": {"token": "another-one"}},
    });
    api.send("PATCH", ONE, &[], patch).await.expect(200);

    let first = api.get(&format!("{ONE}/versions/1")).await;
    let document = first.expect(200);
    assert_eq!((&document["version"], &document["name"]), (&json!(1), &json!(null)));
    assert_eq!(first.header("etag"), format!("\"{}\"", document["revision"]));
    assert!(!first.text.contains("hush-hush"));

    let compared = api.get(&format!("{ONE}/versions/compare?from=1&to=2")).await;
    let changes = &compared.expect(200)["changes"];
    assert_eq!(changes["complete"], true);
    let paths: Vec<_> = changes["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["/name", "/labels/team", "/spec/max_in_flight"]);
    assert!(!compared.text.contains("another-one"));

    let guard = [("if-match", first.header("etag"))];
    let rollback = format!("{ONE}/rollback");
    let late = api.send("POST", &rollback, &guard, json!({"version": 1})).await;
    late.problem(412, "revision_conflict");
    let back = api.post(&rollback, json!({"version": 1})).await;
    let document = back.expect(200);
    assert_eq!((&document["version"], &document["labels"]["team"]), (&json!(3), &json!("a")));
    assert!(back.headers.contains_key("etag"));
    let same = api.get(&format!("{ONE}/versions/compare?from=1&to=3")).await.expect(200);
    assert_eq!(same["changes"]["operations"], json!([]));
    let log = api.get(&format!("{ORG}/audit?id=orders")).await.expect(200);
    assert_eq!(log["items"][0]["action"], "rollback");

    // The copy opens the secret of the first version.
    api.call("POST", &format!("{ONE}/duplicate"), &[], "").await.expect(201);
}

#[tokio::test]
async fn versions_that_are_not_there_are_refused() {
    let api = Api::with_orders().await;
    api.get(&format!("{ONE}/versions/2")).await.problem(404, "version_not_found");
    api.get(&format!("{ONE}/versions/0")).await.problem(400, "id_invalid");
    api.get(&format!("{ONE}/versions/x")).await.problem(400, "id_invalid");
    api.get(&format!("{ORG}/integrations/none/versions/1")).await.problem(404, "version_not_found");
    for query in ["", "?from=1", "?from=1&to=x", "?from=0&to=1"] {
        let path = format!("{ONE}/versions/compare{query}");
        api.get(&path).await.problem(400, "query_invalid");
    }
    let path = format!("{ONE}/versions/compare?from=1&to=9");
    api.get(&path).await.problem(404, "version_not_found");
    let rollback = format!("{ONE}/rollback");
    api.post(&rollback, json!({"version": 9})).await.problem(404, "version_not_found");
    api.post(&rollback, json!({})).await.problem(400, "resource_invalid");
    let none = format!("{ORG}/integrations/none/rollback");
    api.post(&none, json!({"version": 1})).await.problem(404, "resource_not_found");
    api.get("/api/v1/organizations/acme/versions/1").await.expect(200);
}

#[tokio::test]
async fn a_version_that_breaks_a_rule_of_today_does_not_come_back() {
    let api = Api::with_orders().await;
    let table = json!({"id": "names", "spec": {"entries": [{"key": "a", "value": "A"}]}});
    api.post(&format!("{ORG}/lookups"), table).await.expect(201);
    let mapping = |steps| json!({"spec": {"transform": {"steps": steps}}});
    let uses = json!([{"kind": "mapping", "fields": [
        {"to": "name", "from": "n", "transform": {"kind": "lookup", "table": "names"}},
    ]}]);
    let with = api.send("PATCH", ONE, &[], mapping(uses)).await;
    if with.status != 200 {
        panic!("{}", with.text);
    }
    api.send("PATCH", ONE, &[], json!({"spec": {"transform": null}})).await.expect(200);
    api.call("DELETE", &format!("{ORG}/lookups/names"), &[], "").await.expect(204);
    let back = api.post(&format!("{ONE}/rollback"), json!({"version": 2})).await;
    let problem = back.problem(400, "resource_invalid");
    assert!(problem["violations"][0]["pointer"].as_str().unwrap().starts_with("/spec/transform"));
    assert_eq!(api.get(ONE).await.expect(200)["version"], 3);
}

#[tokio::test]
async fn any_kind_can_be_copied() {
    let api = Api::with_orders().await;
    let table = json!({"id": "names", "name": "Names", "labels": {"a": "b"},
        "spec": {"entries": [{"key": "a", "value": "A"}]}});
    let lookups = format!("{ORG}/lookups");
    api.post(&lookups, table).await.expect(201);
    let copy = format!("{lookups}/names/duplicate");
    let made = api.call("POST", &copy, &[], "").await;
    let document = made.expect(201);
    assert_eq!(document["name"], "Names (Copy)");
    assert_eq!(made.header("location"), format!("{lookups}/{}", document["id"].as_str().unwrap()));
    assert!(made.headers.contains_key("etag"));
    let named = api.post(&copy, json!({"id": "more", "name": "More"})).await.expect(201);
    assert_eq!((&named["id"], &named["name"]), (&json!("more"), &json!("More")));
    assert_eq!(named["spec"]["entries"][0]["value"], "A");
    assert_eq!(named["labels"]["a"], "b");
    api.post(&copy, json!({"id": "more"})).await.problem(409, "resource_exists");
    api.post(&copy, json!({"nam": "x"})).await.problem(400, "resource_invalid");
    let none = format!("{lookups}/none/duplicate");
    api.call("POST", &none, &[], "").await.problem(404, "resource_not_found");
}
