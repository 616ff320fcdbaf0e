use serde_json::json;

use crate::harness::Api;

const MANY: &str = "/api/v1/organizations/acme/event-types";
const EVENTS: &str = "/api/v1/organizations/acme/events";

#[tokio::test]
async fn an_event_that_does_not_fit_its_type_is_a_problem_with_places() {
    let api = Api::with_orders().await;
    let schema = json!({"properties": {"n": {"type": "integer"}}});
    let spec = json!({"schema": schema, "policy": "reject"});
    let made = api.post(MANY, json!({"id": "order.paid", "spec": spec})).await;
    assert_eq!(made.header("location"), format!("{MANY}/order.paid"));
    made.expect(201);

    api.post(EVENTS, json!({"type": "order.paid", "data": {"n": 1}})).await.expect(202);
    let refused = api.post(EVENTS, json!({"type": "order.paid", "data": {"n": "one"}})).await;
    let problem = refused.problem(400, "event_schema_mismatch");
    assert_eq!(problem["violations"][0]["pointer"], "/body/n");

    let events = json!({"events": [
        {"type": "order.paid", "data": {"n": "one"}}, {"type": "order.paid", "data": {"n": 2}},
    ]});
    let answer = api.post(&format!("{EVENTS}/batch"), events).await;
    assert_eq!(answer.status, 207, "{}", answer.text);
    api.post(EVENTS, json!({"type": "order.made", "data": "anything"})).await.expect(202);
}

#[tokio::test]
async fn a_type_lends_its_sample_and_judges_bodies() {
    let api = Api::with_orders().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let spec = json!({"schema": schema, "policy": "off"});
    api.post(MANY, json!({"id": "order.paid", "spec": spec})).await.expect(201);
    api.post(MANY, json!({"id": "order.made", "spec": {"sample": [1]}})).await.expect(201);
    api.post(MANY, json!({"id": "order.bare", "spec": {}})).await.expect(201);
    let sample = |id: &str| format!("{MANY}/{id}/sample");
    let made = api.get(&sample("order.paid")).await.expect(200);
    assert_eq!(made, json!({"body": {"n": 1}, "made": true}));
    let given = api.get(&sample("order.made")).await.expect(200);
    assert_eq!(given, json!({"body": [1], "made": false}));
    api.get(&sample("order.bare")).await.problem(404, "sample_not_found");
    api.get(&sample("order.none")).await.problem(404, "resource_not_found");
    let of_other = sample("order.made").replace("acme", "other");
    api.get(&of_other).await.problem(404, "resource_not_found");

    let validate = format!("{MANY}/order.paid/validate");
    let fit = api.post(&validate, json!({"data": {"n": 1}})).await.expect(200);
    assert_eq!((&fit["fits"], &fit["policy"]), (&json!(true), &json!("off")));
    let fit = api.post(&validate, json!({"data": {"n": "one"}})).await.expect(200);
    assert_eq!((&fit["fits"], &fit["violations"][0]["pointer"]), (&json!(false), &json!("/n")));
    let fit = api.post(&validate, json!({"data": null})).await.expect(200);
    assert_eq!(fit["violations"][0]["code"], "type");
    for (body, pointer) in [(json!({}), "/data"), (json!({"data": 1, "type": 2}), "/type")] {
        let problem = api.post(&validate, body).await.problem(400, "event_invalid");
        assert_eq!(problem["violations"][0]["pointer"], pointer);
    }
    let of_none = validate.replace("order.paid", "order.none");
    api.post(&of_none, json!({"data": 1})).await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn a_schema_is_made_of_stored_events() {
    let api = Api::with_orders().await;
    for n in 0..3 {
        api.post(EVENTS, json!({"type": "order.paid", "data": {"n": n}})).await.expect(202);
    }
    let infer = format!("{MANY}/order.paid/inferred-schema");
    let found = api.get(&infer).await.expect(200);
    assert_eq!((&found["events"], &found["passed_over"]), (&json!(3), &json!(0)));
    assert_eq!(found["schema"]["properties"], json!({"n": {"type": "integer"}}));
    assert_eq!(api.get(&format!("{infer}?events=2")).await.expect(200)["events"], 2);
    for bad in ["0", "501", "x"] {
        let problem = api.get(&format!("{infer}?events={bad}")).await;
        let problem = problem.problem(400, "query_invalid");
        assert_eq!(problem["violations"][0]["pointer"], "/events");
    }
    let of_other = infer.replace("acme", "other");
    api.get(&of_other).await.problem(404, "organization_unknown");
    let malformed = infer.replace("order.paid", "a%20b");
    api.get(&malformed).await.problem(400, "event_type_invalid");
}
