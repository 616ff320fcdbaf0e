use serde_json::json;

use crate::harness::Api;

const MANY: &str = "/api/v1/organizations/acme/lookups";
const ONE: &str = "/api/v1/organizations/acme/lookups/countries";
const CSV: [(&str, &str); 1] = [("content-type", "text/csv; charset=utf-8")];

async fn with_countries() -> Api {
    let api = Api::with_orders().await;
    let spec = json!({"entries": [
        {"key": "DE", "value": "Germany"},
        {"key": "FR", "value": {"dial": 33}, "active": false},
    ]});
    api.post(MANY, json!({"id": "countries", "spec": spec})).await.expect(201);
    api
}

#[tokio::test]
async fn entries_are_shown_as_json_and_as_csv() {
    let api = with_countries().await;
    let all = api.get(&format!("{ONE}/entries")).await;
    assert_eq!(all.header("content-type"), "application/json");
    assert_eq!(all.expect(200)[1]["value"]["dial"], 33);
    let active = api.get(&format!("{ONE}/entries?format=csv&active=true")).await;
    assert_eq!(active.header("content-type"), "text/csv");
    assert_eq!(active.text, "key,value,json,unit,category,active\nDE,Germany,,,,true\n");
    api.get(&format!("{ONE}/entries?format=xlsx")).await.problem(400, "query_invalid");
    api.get(&format!("{MANY}/none/entries")).await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn a_file_is_applied_whole_or_not_at_all() {
    let api = with_countries().await;
    let etag = api.get(ONE).await.header("etag").to_owned();
    let import = |query: &str| format!("{ONE}/import{query}");

    let bad = "key,value,active\nIT,Italy,\nIT,Italia,\n,None,\nES,Spain,perhaps\n";
    let problem = api.call("POST", &import(""), &CSV, bad).await;
    let problem = problem.problem(400, "lookup_import_invalid");
    let places: Vec<_> =
        problem["violations"].as_array().unwrap().iter().map(|v| &v["pointer"]).collect();
    assert_eq!(places, ["/lines/3/key", "/lines/4/key", "/lines/5/active"]);
    let report = api.call("POST", &import("?validate_only=true"), &CSV, bad).await.expect(200);
    assert_eq!((&report["applied"], &report["problems"][1]["line"]), (&json!(false), &json!(4)));
    assert_eq!(api.get(ONE).await.header("etag"), etag);

    let good = "key,value\nIT,Italy\nDE,Deutschland\n";
    let report = api.call("POST", &import("?validate_only=true"), &CSV, good).await.expect(200);
    assert_eq!((&report["added"], &report["changed"]), (&json!(1), &json!(1)));
    assert_eq!(api.get(ONE).await.header("etag"), etag);
    let report = api.call("POST", &import("?mode=merge"), &CSV, good).await.expect(200);
    assert_eq!((&report["applied"], &report["removed"]), (&json!(true), &json!(0)));
    let entries = api.get(&format!("{ONE}/entries")).await.expect(200);
    let keys: Vec<_> = entries.as_array().unwrap().iter().map(|entry| &entry["key"]).collect();
    assert_eq!(keys, ["DE", "FR", "IT"]);

    let etag_now = api.get(ONE).await.header("etag").to_owned();
    let again = api.call("POST", &import("?mode=merge"), &CSV, good).await.expect(200);
    assert_eq!((&again["applied"], &again["unchanged"]), (&json!(true), &json!(2)));
    assert_eq!(api.get(ONE).await.header("etag"), etag_now);

    let one = json!([{"key": "PT", "value": "Portugal"}]);
    let stale = [("if-match", etag.as_str())];
    let refused = api.send("POST", &import("?mode=replace"), &stale, one.clone()).await;
    refused.problem(412, "revision_conflict");
    let report = api.send("POST", &import("?mode=replace"), &[], one.clone()).await.expect(200);
    assert_eq!((&report["added"], &report["removed"]), (&json!(1), &json!(3)));
    assert_eq!(api.get(&format!("{ONE}/entries")).await.expect(200), one);
}

#[tokio::test]
async fn files_of_another_kind_or_size_are_refused() {
    let api = with_countries().await;
    let import = format!("{ONE}/import");
    let xml = [("content-type", "text/xml")];
    api.call("POST", &import, &xml, "<a/>").await.problem(415, "media_type_unsupported");
    let huge = format!("key,value\nA,{}\n", "x".repeat(4 << 20));
    api.call("POST", &import, &CSV, &huge).await.problem(413, "body_too_large");
    let large = format!("key,value\nA,{}\n", "x".repeat(2 << 20));
    let problem = api.call("POST", &import, &CSV, &large).await;
    let problem = problem.problem(400, "lookup_import_invalid");
    assert_eq!(problem["violations"][0]["code"], "too_large");
    api.call("POST", &format!("{import}?mode=add"), &CSV, "key,value\n")
        .await
        .problem(400, "query_invalid");
}

#[tokio::test]
async fn values_are_looked_up_one_and_many() {
    let api = with_countries().await;
    let resolve = format!("{ONE}/resolve");
    let answer = api.post(&resolve, json!({"values": ["DE", "FR"]})).await.expect(200);
    let expected = json!({"results": [
        {
            "asked": "DE", "found": {"key": "DE", "value": "Germany"},
            "written": "Germany", "fails": false,
        },
        {"asked": "FR", "found": null, "written": null, "fails": true},
    ]});
    assert_eq!(answer, expected);
    for (body, code, pointer) in [
        (json!({}), "resolve_invalid", "/values"),
        (json!({"values": []}), "resolve_invalid", "/values"),
        (json!({"values": "DE"}), "resolve_invalid", "/values"),
        (json!({"values": ["DE"], "key": 1}), "resolve_invalid", "/key"),
        (json!({"values": ["DE"], "reverse": "dial"}), "resolve_invalid", "/reverse"),
        (json!({"values": ["DE"], "unit": "eu"}), "unit_unknown", "/unit"),
    ] {
        let problem = api.post(&resolve, body.clone()).await.problem(400, code);
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{body}");
    }
    let asked = json!({"values": ["DE"]});
    let unknown = format!("{MANY}/none/resolve");
    api.post(&unknown, asked.clone()).await.problem(404, "resource_not_found");
    api.post("/api/v1/organizations", json!({"id": "other", "spec": {}})).await.expect(201);
    let of_other = resolve.replace("acme", "other");
    api.post(&of_other, asked).await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn a_table_is_counted() {
    let api = with_countries().await;
    let stats = api.get(&format!("{ONE}/stats")).await.expect(200);
    assert_eq!((&stats["entries"], &stats["active"]), (&json!(2), &json!(1)));
    assert_eq!(stats["categories"], json!({}));
    api.get(&format!("{MANY}/none/stats")).await.problem(404, "resource_not_found");
    let of_other = format!("{ONE}/stats").replace("acme", "other");
    api.get(&of_other).await.problem(404, "resource_not_found");
}
