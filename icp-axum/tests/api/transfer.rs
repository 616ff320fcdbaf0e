#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::{Value, json};

use crate::harness::{Api, orders};

const ORG: &str = "/api/v1/organizations/acme";
const EXPORT: &str = "/api/v1/organizations/acme/export";
const IMPORT: &str = "/api/v1/organizations/acme/import";

/// `orders`, which uses the table `names`.
async fn with_names() -> Api {
    let api = Api::with_orders().await;
    let table = json!({"id": "names", "name": "Names", "spec": {"entries": [{"key": "a", "value": "A, b"}]}});
    api.post(&format!("{ORG}/lookups"), table).await.expect(201);
    let rule = json!({"target": "to", "from": "n", "lookup": {"table": "names"}});
    let transform = json!([{"map": {"base": "empty", "rules": [rule]}}]);
    let one = format!("{ORG}/integrations/orders");
    api.send("PATCH", &one, &[], json!({"spec": {"transform": transform}})).await.expect(200);
    api
}

fn outcomes(answer: &Value) -> Vec<&str> {
    answer["rows"].as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_exported_can_be_imported_elsewhere() {
    let api = with_names().await;
    for (accept, media, end) in [
        ("application/json", "application/json", "json"),
        ("application/yaml", "application/yaml", "yaml"),
        ("text/csv;q=0.9, image/png", "text/csv", "csv"),
    ] {
        let file = api.call("GET", EXPORT, &[("accept", accept)], "").await;
        assert_eq!(file.status, 200, "{}", file.text);
        assert_eq!(file.header("content-type"), media);
        assert!(file.header("content-disposition").ends_with(&format!("acme.{end}\"")));
        assert!(!file.text.contains("hush-hush"));
        let named = api.get(&format!("{EXPORT}?format={end}")).await;
        assert_eq!(named.text, file.text);

        // The table is new there, and the integration refers to it; its secret is not in the file.
        let other = Api::new().await;
        other.post("/api/v1/organizations", json!({"id": "acme", "spec": {}})).await.expect(201);
        let headers = [("content-type", media)];
        let masked = other.call("POST", IMPORT, &headers, &file.text).await;
        let problem = masked.problem(400, "import_refused");
        let found = &problem["violations"];
        assert_eq!(found[0]["pointer"], "/resources/1/spec/auth/token", "{found}");
        other.get(&format!("{ORG}/lookups/names")).await.problem(404, "resource_not_found");
        let whole = file.text.replace(icp_core::secret::MASK, "again");
        let done = other.call("POST", IMPORT, &headers, &whole).await.expect(200);
        assert_eq!(outcomes(&done), ["created", "created"]);
        let table = other.get(&format!("{ORG}/lookups/names")).await.expect(200);
        assert_eq!(
            (&table["name"], &table["spec"]["entries"][0]["value"]),
            (&json!("Names"), &json!("A, b"))
        );
    }
}

#[tokio::test]
async fn rows_may_come_before_what_they_refer_to() {
    let api = with_names().await;
    let file = api.get(EXPORT).await.expect(200);
    let mut rows = file["resources"].as_array().unwrap().clone();
    rows.reverse();
    assert_eq!(rows[0]["kind"], "integration");
    let other = Api::new().await;
    other.post("/api/v1/organizations", json!({"id": "acme", "spec": {}})).await.expect(201);
    rows[0]["spec"]["auth"]["token"] = "again".into();
    let done = other.post(IMPORT, json!({"resources": rows})).await.expect(200);
    assert_eq!(outcomes(&done), ["created", "created"]);
}

#[tokio::test]
async fn a_file_is_taken_whole_or_not_unless_asked_otherwise() {
    let api = with_names().await;
    let mut fresh = orders();
    (fresh["id"], fresh["kind"]) = ("fresh".into(), "integration".into());
    let mut known = orders();
    (known["kind"], known["name"]) = ("integration".into(), "Changed".into());
    known["spec"]["auth"]["token"] = icp_core::secret::MASK.into();
    let rows = json!([
        fresh, known, {"kind": "nothing", "spec": {}}, 7,
        {"kind": "lookup", "id": "t", "spec": {"entries": 1}},
    ]);
    let refused = api.post(IMPORT, json!({"resources": rows})).await;
    let problem = refused.problem(400, "import_refused");
    let places: Vec<_> = problem["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| format!("{} {}", v["pointer"].as_str().unwrap(), v["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            "/resources/1 resource_exists",
            "/resources/2 kind_unknown",
            "/resources/3 type",
            "/resources/4/spec/entries type",
        ]
    );
    api.get(&format!("{ORG}/integrations/fresh")).await.problem(404, "resource_not_found");

    let checked = format!("{IMPORT}?validate_only=true&on_existing=update");
    let told = api.post(&checked, json!({"resources": rows})).await.expect(200);
    assert_eq!(outcomes(&told), ["created", "updated", "refused", "refused", "refused"]);
    assert_eq!((&told["applied"], &told["refused"]), (&json!(false), &json!(3)));
    assert_eq!(told["rows"][4]["problem"]["violations"][0]["pointer"], "/spec/entries");
    api.get(&format!("{ORG}/integrations/fresh")).await.problem(404, "resource_not_found");

    let skipping = format!("{IMPORT}?on_existing=skip");
    let done = api.post(&skipping, json!({"resources": [fresh, known]})).await.expect(200);
    assert_eq!(outcomes(&done), ["created", "skipped"]);
    let each = format!("{IMPORT}?on_existing=update&continue_on_error=true");
    let done = api.post(&each, json!({"resources": rows})).await;
    assert!(!done.text.contains("hush-hush"));
    let done = done.expect(200);
    assert_eq!(outcomes(&done)[1..], ["updated", "refused", "refused", "refused"]);
    let one = api.get(&format!("{ORG}/integrations/orders")).await.expect(200);
    assert_eq!(one["name"], "Changed");
}

#[tokio::test]
async fn only_what_can_be_exported_is_named() {
    let api = with_names().await;
    let lookups = api.get(&format!("{EXPORT}?kind=lookup")).await.expect(200);
    assert_eq!(lookups["resources"].as_array().unwrap().len(), 1);
    assert_eq!(lookups["resources"][0]["id"], "names");
    for (query, pointer) in [("kind=organization", "/kind"), ("format=xml", "/format")] {
        let problem = api.get(&format!("{EXPORT}?{query}")).await.problem(400, "query_invalid");
        assert_eq!(problem["violations"][0]["pointer"], pointer);
    }
    let none = api.call("GET", EXPORT, &[("accept", "image/png")], "").await;
    none.problem(406, "not_acceptable");
    let many = vec![json!({"kind": "event_type", "spec": {}}); 1_001];
    let refused = api.post(IMPORT, json!({"resources": many})).await;
    assert_eq!(refused.problem(400, "resource_invalid")["violations"][0]["pointer"], "/resources");
    let text = api.call("POST", IMPORT, &[("content-type", "text/plain")], "x").await;
    text.problem(415, "media_type_unsupported");
    let own = json!({"resources": [{"kind": "organization", "spec": {}}]});
    api.post(IMPORT, own).await.problem(400, "import_refused");
    api.post(&format!("{IMPORT}?on_existing=merge"), json!({})).await.problem(400, "query_invalid");
}

#[tokio::test]
async fn a_long_file_is_written_page_by_page() {
    let api = Api::with_orders().await;
    for from in [0, 100] {
        let items: Vec<_> =
            (from..from + 100).map(|n| json!({"id": format!("t{n:03}"), "spec": {}})).collect();
        let bulk = json!({"action": "create", "items": items});
        api.post(&format!("{ORG}/bulk/event-types"), bulk).await.expect(200);
    }
    let file = api.get(&format!("{EXPORT}?kind=event_type")).await.expect(200);
    assert_eq!(file["resources"].as_array().unwrap().len(), 200);
    let csv = api.get(&format!("{EXPORT}?kind=event_type&format=csv")).await;
    assert_eq!(csv.text.lines().count(), 201);
}

const APPLY: &str = "/api/v1/organizations/acme/apply";

/// A step that replaces `orders` with a version of this name.
fn renamed(name: &str, revision: &Value) -> Value {
    let mut draft = orders();
    draft["name"] = name.into();
    draft["spec"]["auth"]["token"] = icp_core::secret::MASK.into();
    json!({"kind": "integration", "action": "replace", "document": draft, "revision": revision})
}

#[tokio::test]
async fn a_plan_of_several_kinds_is_one_write() {
    let api = with_names().await;
    let one = format!("{ORG}/integrations/orders");
    let revision = api.get(&one).await.expect(200)["revision"].clone();
    let table = json!({"id": "more", "spec": {"entries": [{"key": "a", "value": "b"}]}});
    // The table `names` is not used any more by what the second step makes of `orders`.
    let steps = json!([
        {"kind": "lookup", "action": "create", "document": table},
        renamed("Changed", &revision),
        {"kind": "lookup", "action": "delete", "id": "names"},
    ]);
    let checked = json!({"steps": steps, "validate_only": true});
    assert_eq!(api.post(APPLY, checked).await.expect(200)["applied"], false);
    assert_eq!(api.get(&one).await.expect(200)["revision"], revision);

    let done = api.post(APPLY, json!({"steps": steps})).await.expect(200);
    assert_eq!(done["applied"], true);
    assert_eq!(done["documents"][0]["id"], "more");
    assert_eq!(done["documents"][1]["name"], "Changed");
    assert_eq!(done["documents"][2], Value::Null);
    api.get(&format!("{ORG}/lookups/names")).await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn a_plan_is_refused_whole_where_one_step_is() {
    let api = with_names().await;
    let one = format!("{ORG}/integrations/orders");
    let before = api.get(&one).await.expect(200);
    let stale = json!(before["revision"].as_u64().unwrap() - 1);
    let entry = json!({"id": "more", "spec": {"entries": []}});
    let refused = json!({"steps": [
        {"kind": "lookup", "action": "create", "document": entry},
        renamed("Changed", &stale),
        {"kind": "lookup", "action": "delete", "id": "none", "revision": 1},
    ]});
    let problem = api.post(APPLY, refused).await.problem(400, "apply_refused");
    let found = problem["violations"].as_array().unwrap();
    let places: Vec<_> =
        found.iter().map(|v| (v["pointer"].as_str().unwrap(), &v["code"])).collect();
    let expected =
        [("/steps/1", &json!("revision_conflict")), ("/steps/2", &json!("resource_not_found"))];
    assert_eq!(places, expected);
    assert_eq!(api.get(&one).await.expect(200), before);
    api.get(&format!("{ORG}/lookups/more")).await.problem(404, "resource_not_found");

    for (body, pointer) in [
        (json!({"steps": []}), "/steps"),
        (json!({"steps": [{"kind": "lookup", "action": "delete"}]}), "/steps/0/id"),
        (
            json!({"steps": [{"kind": "lookup", "action": "create", "id": "a"}]}),
            "/steps/0/document",
        ),
        (json!({"steps": [{"kind": "lookup", "action": "explode"}]}), "/steps/0/action"),
    ] {
        let problem = api.post(APPLY, body).await.problem(400, "resource_invalid");
        assert_eq!(problem["violations"][0]["pointer"], pointer);
    }
}
