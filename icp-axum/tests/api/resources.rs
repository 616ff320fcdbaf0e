use serde_json::json;

use crate::harness::{Api, orders};

const ORGS: &str = "/api/v1/organizations";
const MANY: &str = "/api/v1/organizations/acme/integrations";
const ONE: &str = "/api/v1/organizations/acme/integrations/orders";

#[tokio::test]
async fn a_resource_is_made_shown_changed_and_deleted() {
    let api = Api::new().await;
    let made = api.post(ORGS, json!({"id": "acme", "name": "Acme", "spec": {}})).await;
    assert_eq!(made.expect(201)["name"], "Acme");
    assert_eq!(made.header("location"), "/api/v1/organizations/acme");
    assert_eq!(api.get("/api/v1/organizations/acme").await.expect(200)["id"], "acme");

    let made = api.post(MANY, orders()).await;
    assert_eq!(made.header("location"), ONE);
    let shown = api.get(ONE).await;
    let document = shown.expect(200);
    assert_eq!(shown.header("etag"), format!("\"{}\"", document["revision"]));
    assert_eq!(shown.header("etag"), made.header("etag"));
    assert!(!shown.text.contains("hush-hush") && !made.text.contains("hush-hush"));

    let etag = shown.header("etag").to_owned();
    let mut draft = orders();
    draft["name"] = "Orders".into();
    let guard = [("if-match", etag.as_str())];
    let replaced = api.send("PUT", ONE, &guard, draft.clone()).await;
    assert_eq!(replaced.expect(200)["version"], 2);
    api.send("PUT", ONE, &guard, draft).await.problem(412, "revision_conflict");

    let patch = json!({"spec": {"max_in_flight": 3}, "labels": {"team": null}});
    api.send("PATCH", ONE, &guard, patch.clone()).await.problem(412, "revision_conflict");
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = api.call("PATCH", ONE, &merge, &patch.to_string()).await.expect(200);
    assert_eq!(
        (&patched["spec"]["max_in_flight"], &patched["name"]),
        (&json!(3), &json!("Orders"))
    );
    assert_eq!(patched["labels"], json!({}));

    let history = api.get(&format!("{ONE}/history")).await.expect(200);
    let versions: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|v| &v["version"]).collect();
    assert_eq!(versions, [&json!(3), &json!(2), &json!(1)]);
    let first = api.get(&format!("{ONE}/history?limit=2")).await.expect(200);
    let next = first["next"].as_str().unwrap();
    let rest = api.get(&format!("{ONE}/history?cursor={next}")).await.expect(200);
    assert_eq!(rest["items"][0]["version"], 1);

    api.call("DELETE", "/api/v1/organizations/acme", &[], "")
        .await
        .problem(409, "organization_not_empty");
    api.call("DELETE", ONE, &guard, "").await.problem(412, "revision_conflict");
    api.call("DELETE", ONE, &[("if-match", "*")], "").await.expect(204);
    api.get(ONE).await.problem(404, "resource_not_found");
    api.call("DELETE", ONE, &[], "").await.problem(404, "resource_not_found");
    api.call("DELETE", "/api/v1/organizations/acme", &[], "").await.expect(204);
}

#[tokio::test]
async fn lists_go_page_by_page_and_by_label() {
    let api = Api::with_orders().await;
    for id in ["a", "b", "c"] {
        let mut draft = orders();
        (draft["id"], draft["labels"]) = (id.into(), json!({"team": "b"}));
        api.post(MANY, draft).await.expect(201);
        api.post(ORGS, json!({"id": id, "spec": {}})).await.expect(201);
    }
    for (path, wanted) in [
        (MANY.to_owned(), vec!["a", "b", "c", "orders"]),
        (format!("{MANY}?label=team:b"), vec!["a", "b", "c"]),
        (ORGS.to_owned(), vec!["_operators", "a", "acme", "b", "c"]),
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("{path}{joint}limit=2{cursor}")).await.expect(200);
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, wanted, "{path}");
    }
}

#[tokio::test]
async fn the_audit_log_names_the_key_and_the_request() {
    let api = Api::with_orders().await;
    let patch = json!({"name": "x"});
    api.send("PATCH", ONE, &[("x-request-id", "req-17")], patch).await.expect(200);
    let path = "/api/v1/organizations/acme/audit?kind=integration&id=orders";
    let log = api.get(path).await.expect(200);
    let entry = &log["items"][0];
    assert_eq!(
        (&entry["action"], &entry["actor"]["request_id"]),
        (&json!("update"), &json!("req-17"))
    );
    assert!(entry["actor"]["name"].as_str().unwrap().starts_with("key:key_"));
    assert_eq!(log["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_generated_id_is_answered() {
    let api = Api::new().await;
    let made = api.post(ORGS, json!({"spec": {}})).await;
    let id = made.expect(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("{ORGS}/{id}"));
}
