use serde_json::{Value, json};

use crate::harness::Api;

const LETTERS: &str = "/api/v1/organizations/acme/dead-letters";

/// An API with one dead letter, and its id.
async fn with_a_dead_letter() -> (Api, String) {
    let api = Api::with_orders().await;
    let id = api.attempted().await;
    (api, id)
}

#[tokio::test]
async fn letters_are_grouped_summed_up_noted_and_given_up() {
    let (api, id) = with_a_dead_letter().await;
    let one = format!("{LETTERS}/{id}");
    let letter = api.get(&one).await.expect(200);
    assert_eq!((&letter["state"], &letter["status"]), (&json!("dead"), &json!("pending")));
    assert_eq!(
        (&letter["class"], &letter["category"]),
        (&json!("connect_failed"), &json!("network"))
    );

    let groups = api.get(&format!("{LETTERS}/groups?integration=orders")).await.expect(200);
    assert_eq!(groups["groups"][0]["count"], 1);
    assert_eq!(groups["groups"][0]["sample"], id.as_str());
    assert_eq!(groups["more"], false);
    let summary = api.get(&format!("{LETTERS}/summary")).await.expect(200);
    assert_eq!(summary["integrations"][0]["integration"], "orders");
    assert_eq!(summary["integrations"][0]["categories"], json!({"network": 1}));

    let noted = api.post(&format!("{one}/notes"), json!({"text": "asked them"})).await.expect(201);
    assert_eq!(noted["notes"][0]["text"], "asked them");
    assert!(noted["notes"][0]["author"].as_str().unwrap().starts_with("key:"), "{noted}");
    api.post(&format!("{one}/notes"), json!({"text": ""})).await.problem(400, "note_invalid");
    let long = json!({"text": "x".repeat(2_001)});
    api.post(&format!("{one}/notes"), long).await.problem(400, "note_invalid");

    let given_up = api.post(&format!("{one}/abandon"), json!({"note": "they left"})).await;
    let given_up = given_up.expect(200);
    assert_eq!(given_up["status"], "abandoned");
    assert_eq!(given_up["abandonment"]["reason"]["message"], "they left");
    let listed = api.get(LETTERS).await.expect(200);
    assert_eq!(listed["items"][0], given_up);
}

#[tokio::test]
async fn many_letters_are_given_up_each_on_its_own() {
    let (api, id) = with_a_dead_letter().await;
    let (_, live) = api.paid().await;
    let missing = "dlv_00000000000000000000000000";
    let path = format!("{LETTERS}/abandon");
    let answer = api.post(&path, json!({"ids": [id, live, missing], "note": "old"})).await;
    let results = answer.expect(207)["results"].clone();
    assert_eq!(results[0]["letter"]["status"], "abandoned");
    assert_eq!(results[1]["problem"]["code"], "delivery_state_conflict");
    assert_eq!(results[2]["problem"]["code"], "delivery_not_found");
    let again = api.post(&path, json!({"ids": [id], "note": "again"})).await.expect(200);
    assert_eq!(again["results"][0]["letter"]["abandonment"]["reason"]["message"], "old");
    let many: Vec<Value> = (0..101).map(|_| json!(id)).collect();
    api.post(&path, json!({"ids": many, "note": "x"})).await.problem(413, "batch_too_large");
    let live = format!("{LETTERS}/{live}");
    api.get(&live).await.problem(409, "delivery_state_conflict");
    api.get(&format!("{LETTERS}/{missing}")).await.problem(404, "delivery_not_found");
}
