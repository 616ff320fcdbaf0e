//! Organizations as a kind like every other: found, ordered, and many at once.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::{Value, json};

use crate::harness::Api;

const ALL: &str = "/api/v1/organizations";
const BULK: &str = "/api/v1/bulk/organizations";

fn ids(listing: &Value) -> Vec<&str> {
    let items = listing["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

async fn three() -> Api {
    let api = Api::new().await;
    for (id, weight, region) in [("a", 3, "eu"), ("b", 1, "us"), ("c", 2, "eu")] {
        let made = json!({
            "id": id, "name": format!("n{weight}"), "labels": { "region": region },
            "spec": { "weight": weight },
        });
        api.post(ALL, made).await.expect(201);
    }
    api
}

#[tokio::test]
async fn organizations_are_filtered_ordered_and_shown_in_part() {
    let api = three().await;
    let list = async |query: &str| api.get(&format!("{ALL}?{query}")).await.expect(200);
    assert_eq!(ids(&list("label=region:eu").await), ["a", "c"]);
    assert_eq!(ids(&list("filter=spec.weight:gte:2").await), ["a", "c"]);
    assert_eq!(ids(&list("filter=spec.weight:gte:2&label=region:us").await), [""; 0]);
    assert_eq!(ids(&list("filter=name:prefix:n&sort=-name").await), ["a", "c", "b"]);
    let narrow = list("filter=id:eq:b&fields=spec.weight").await;
    assert_eq!(narrow["items"], json!([{ "id": "b", "spec": { "weight": 1 } }]));
    for query in ["label=region:eu", "sort=-created_at&filter=spec.weight:gte:2", "sort=id"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = list(&format!("limit=1&{query}{cursor}")).await;
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let whole = list(query).await;
        assert_eq!(seen, ids(&whole), "{query}");
    }
    api.get(&format!("{ALL}?filter=spec.nothing:eq:1")).await.problem(400, "query_invalid");
}

#[tokio::test]
async fn many_organizations_are_written_each_by_itself() {
    let api = three().await;
    let send = async |body: Value| api.post(BULK, body).await;
    let together = send(json!({ "action": "delete", "ids": ["a"] })).await;
    let problem = together.problem(400, "resource_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/continue_on_error");
    let items = json!([{ "id": "d", "spec": {} }, { "id": "a", "spec": {} }, { "spec": {} },
        { "id": "e", "spec": { "weight": 0 } }]);
    let body = json!({ "action": "create", "items": items, "continue_on_error": true });
    let made = send(body).await.expect(200);
    let statuses = |answer: &Value| {
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|one| one["status"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&made), [201, 409, 400, 400]);
    assert_eq!(made["results"][2]["problem"]["violations"][0]["pointer"], "/id");
    assert_eq!(made["results"][3]["problem"]["violations"][0]["pointer"], "/spec/weight");
    let items = json!([{ "id": "d", "spec": { "weight": 7 } }, { "id": "zz", "spec": {} }]);
    let body = json!({ "action": "replace", "items": items, "continue_on_error": true });
    assert_eq!(statuses(&send(body).await.expect(200)), [200, 404]);
    assert_eq!(api.get(&format!("{ALL}/d")).await.expect(200)["spec"]["weight"], 7);
    let note = json!({ "id": "x", "spec": {} });
    api.post(&format!("{ALL}/b/lookups"), note).await.expect(201);
    let body = json!({ "action": "delete", "ids": ["d", "b"], "continue_on_error": true });
    let gone = send(body).await.expect(200);
    assert_eq!(statuses(&gone), [204, 409]);
    assert_eq!(gone["results"][1]["problem"]["code"], "organization_not_empty");
    let body = json!({ "action": "disable", "ids": ["a"], "continue_on_error": true });
    let refused = send(body).await.expect(200);
    assert_eq!(refused["results"][0]["problem"]["violations"][0]["code"], "not_switchable");
    assert_eq!(ids(&api.get(ALL).await.expect(200)), ["_operators", "a", "b", "c"]);
}

const EXPORT: &str = "/api/v1/export/organizations";
const IMPORT: &str = "/api/v1/import/organizations";

fn outcomes(answer: &Value) -> Vec<&str> {
    answer["rows"].as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn organizations_that_are_exported_can_be_imported_elsewhere() {
    let api = three().await;
    let shown = |one: &Value| (one["name"].clone(), one["labels"].clone(), one["spec"].clone());
    for (format, media) in
        [("json", "application/json"), ("yaml", "application/yaml"), ("csv", "text/csv")]
    {
        let file = api.get(&format!("{EXPORT}?format={format}")).await;
        assert_eq!((file.status.as_u16(), file.header("content-type")), (200, media));
        assert!(file.header("content-disposition").ends_with(&format!("organizations.{format}\"")));
        let accepted = api.call("GET", EXPORT, &[("accept", media)], "").await;
        assert_eq!(accepted.text, file.text);

        let other = Api::new().await;
        let path = format!("{IMPORT}?continue_on_error=true");
        let sent = async |query: &str| {
            let headers = [("content-type", media)];
            other.call("POST", &format!("{path}&{query}"), &headers, &file.text).await.expect(200)
        };
        let checked = sent("validate_only=true").await;
        assert_eq!((&checked["applied"], &checked["created"]), (&json!(false), &json!(3)));
        assert_eq!(ids(&other.get(ALL).await.expect(200)), ["_operators"]);
        assert_eq!(outcomes(&sent("").await), ["created"; 3]);
        for id in ["a", "b", "c"] {
            let one = format!("{ALL}/{id}");
            let (made, original) = (other.get(&one).await, api.get(&one).await);
            assert_eq!(shown(&made.expect(200)), shown(&original.expect(200)));
        }
        assert_eq!(outcomes(&sent("").await), ["refused"; 3]);
        assert_eq!(outcomes(&sent("on_existing=skip").await), ["skipped"; 3]);
        assert_eq!(outcomes(&sent("on_existing=update").await), ["updated"; 3]);
        assert_eq!(other.get(&format!("{ALL}/a")).await.expect(200)["version"], 2);
    }
    api.get(&format!("{EXPORT}?kind=lookup")).await.problem(400, "query_invalid");
}

#[tokio::test]
async fn rows_of_organizations_are_refused_one_by_one_and_the_others_are_made() {
    let api = three().await;
    let row = |id: &str, weight: i32| json!({ "kind": "organization", "id": id, "spec": { "weight": weight } });
    let rows = json!([row("d", 1), row("e", 0), { "kind": "lookup", "id": "x", "spec": {} }, 7,
        { "kind": "organization", "spec": {} }, row("d", 2), row("a", 9)]);
    let send = async |query: &str| {
        api.post(&format!("{IMPORT}?{query}"), json!({ "resources": rows })).await
    };
    let all = send("").await.problem(400, "query_invalid");
    assert_eq!(all["violations"][0]["pointer"], "/continue_on_error");
    let checked = send("validate_only=true").await.expect(200);
    assert_eq!(outcomes(&checked)[..2], ["created", "refused"]);
    assert_eq!(outcomes(&checked)[2..], ["refused"; 5]);
    let pointer = |number: usize| &checked["rows"][number]["problem"]["violations"][0]["pointer"];
    assert_eq!([pointer(1), pointer(2), pointer(4)], ["/spec/weight", "/kind", "/id"]);
    assert_eq!(checked["rows"][5]["problem"]["violations"][0]["code"], "twice");
    api.get(&format!("{ALL}/d")).await.problem(404, "resource_not_found");

    let done = send("continue_on_error=true&on_existing=update").await.expect(200);
    assert_eq!(outcomes(&done)[5..], ["updated", "updated"]);
    assert_eq!((&done["created"], &done["refused"]), (&json!(1), &json!(4)));
    assert_eq!(api.get(&format!("{ALL}/d")).await.expect(200)["spec"]["weight"], 2);
    let log = api.get(&format!("{ALL}/d/audit")).await.expect(200);
    let told: Vec<_> =
        log["items"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
    assert!(told.contains(&json!("create")) && told.contains(&json!("update")), "{told:?}");
}

#[tokio::test]
async fn organizations_go_to_files_for_operators_only_and_are_told_of_it() {
    let api = three().await;
    let body = json!({ "spec": { "grants": [{ "role": "admin" }] } });
    let made = api.post(&format!("{ALL}/a/api-keys"), body).await.expect(201);
    let file = api.get(EXPORT).await.expect(200);
    assert_eq!(file["resources"].as_array().unwrap().len(), 3, "not the operators themselves");
    let log = api.get(&format!("{ALL}/b/audit?action=cross")).await.expect(200);
    assert_eq!(log["items"].as_array().unwrap().len(), 1, "{log}");

    let api = Api { key: made["key"].as_str().unwrap().to_owned(), ..api };
    api.get(EXPORT).await.problem(403, "permission_denied");
    let path = format!("{IMPORT}?continue_on_error=true");
    api.post(&path, file).await.problem(403, "permission_denied");
}
