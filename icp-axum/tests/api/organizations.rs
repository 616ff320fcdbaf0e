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
