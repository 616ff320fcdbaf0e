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
