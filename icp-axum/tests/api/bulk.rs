#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::{Value, json};

use crate::harness::{Answer, Api, orders};

const ORG: &str = "/api/v1/organizations/acme";

fn named(id: &str) -> Value {
    let mut draft = orders();
    draft["id"] = id.into();
    draft
}

async fn bulk(api: &Api, plural: &str, body: Value) -> Answer {
    api.post(&format!("{ORG}/bulk/{plural}"), body).await
}

fn statuses(answer: &Value) -> Vec<u64> {
    answer["results"].as_array().unwrap().iter().map(|r| r["status"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn all_are_done_in_one_write_or_none() {
    let api = Api::with_orders().await;
    let made = json!({"action": "create", "items": [named("a"), named("b")]});
    let made = bulk(&api, "integrations", made).await;
    assert_eq!(statuses(&made.expect(200)), [201, 201]);
    assert!(!made.text.contains("hush-hush"));

    let mut wrong = named("d");
    wrong["spec"]["max_in_flight"] = 0.into();
    let items = json!([named("c"), wrong, named("a"), named("c"), {"nam": 1}]);
    let refused = bulk(&api, "integrations", json!({"action": "create", "items": items})).await;
    let problem = refused.problem(400, "bulk_refused");
    let places: Vec<_> = problem["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| format!("{} {}", v["pointer"].as_str().unwrap(), v["code"].as_str().unwrap()))
        .collect();
    assert!(places[0].starts_with("/items/1/spec/max_in_flight "), "{places:?}");
    assert_eq!(places[1], "/items/2 resource_exists");
    assert_eq!(places[2], "/items/3/id twice");
    assert!(places[3].starts_with("/items/4"), "{places:?}");
    api.get(&format!("{ORG}/integrations/c")).await.problem(404, "resource_not_found");

    let refused = json!({"action": "delete", "ids": ["a", "none"]});
    let problem = bulk(&api, "integrations", refused).await.problem(400, "bulk_refused");
    assert_eq!(problem["violations"][0]["pointer"], "/ids/1");
    api.get(&format!("{ORG}/integrations/a")).await.expect(200);
    let done = bulk(&api, "integrations", json!({"action": "delete", "ids": ["a", "b"]})).await;
    assert_eq!(statuses(&done.expect(200)), [204, 204]);
    let log = api.get(&format!("{ORG}/audit?kind=integration")).await.expect(200);
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|e| &e["action"]).collect();
    assert_eq!(actions, ["delete", "delete", "create", "create", "create"]);
}

#[tokio::test]
async fn who_goes_on_is_told_item_by_item() {
    let api = Api::with_orders().await;
    let items = json!([named("a"), {"id": "b", "spec": {}}, named("orders")]);
    let body = json!({"action": "create", "items": items, "continue_on_error": true});
    let answer = bulk(&api, "integrations", body).await.expect(200);
    assert_eq!(statuses(&answer), [201, 400, 409]);
    assert_eq!((&answer["done"], &answer["refused"]), (&json!(1), &json!(2)));
    let problem = &answer["results"][1]["problem"];
    assert!(problem["violations"][0]["pointer"].as_str().unwrap().starts_with("/spec/"));
    assert_eq!(
        (&answer["results"][2]["index"], &answer["results"][2]["id"]),
        (&json!(2), &json!("orders"))
    );

    let mut changed = named("a");
    changed["name"] = "A".into();
    changed["spec"]["auth"]["token"] = icp_core::secret::MASK.into();
    let body =
        json!({"action": "replace", "items": [changed, named("none")], "continue_on_error": true});
    let answer = bulk(&api, "integrations", body).await.expect(200);
    assert_eq!(statuses(&answer), [200, 404]);
    assert_eq!(answer["results"][0]["document"]["name"], "A");
}

#[tokio::test]
async fn every_kind_takes_what_it_can() {
    let api = Api::with_orders().await;
    let table = |id: &str| json!({"id": id, "spec": {"entries": []}});
    let made = json!({"action": "create", "items": [table("a"), table("b")]});
    bulk(&api, "lookups", made).await.expect(200);
    let off = bulk(&api, "lookups", json!({"action": "disable", "ids": ["a"]})).await;
    assert_eq!(off.problem(400, "bulk_refused")["violations"][0]["code"], "not_switchable");
    for (body, pointer) in [
        (json!({"action": "delete", "ids": []}), "/ids"),
        (json!({"action": "delete", "items": [table("a")], "ids": ["a"]}), "/items"),
        (json!({"action": "create", "ids": ["a"]}), "/items"),
        (json!({"action": "create", "items": vec![table("x"); 101]}), "/items"),
        (json!({"action": "replace", "items": [{"spec": {"entries": []}}]}), "/items/0/id"),
        (json!({"action": "vanish", "ids": ["a"]}), "/action"),
        (json!({"actoin": "delete", "ids": ["a"]}), "/actoin"),
    ] {
        let refused = bulk(&api, "lookups", body.clone()).await;
        let problem = refused.expect(400);
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{body}: {problem}");
    }
    api.post("/api/v1/organizations/none/bulk/lookups", json!({"action": "delete", "ids": ["a"]}))
        .await
        .problem(400, "bulk_refused");
}

#[tokio::test]
async fn what_is_made_together_is_counted_together() {
    let api = Api::with_orders().await;
    let table = |n: usize| json!({"id": format!("t{n}"), "spec": {"entries": []}});
    for from in [0, 100] {
        let items: Vec<_> = (from..from + 99).map(table).collect();
        bulk(&api, "lookups", json!({"action": "create", "items": items})).await.expect(200);
    }
    let three = json!({"action": "create", "items": [table(300), table(301), table(302)]});
    let refused = bulk(&api, "lookups", three).await.problem(400, "bulk_refused");
    assert_eq!(refused["violations"][0]["pointer"], "/items/2/spec", "200 is the limit");
    let two = json!({"action": "create", "items": [table(300), table(301)]});
    bulk(&api, "lookups", two).await.expect(200);
}
