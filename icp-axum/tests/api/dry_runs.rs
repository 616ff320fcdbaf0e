use serde_json::{Value, json};

use crate::harness::{Api, orders};

const TRANSFORM: &str = "/api/v1/organizations/acme/transforms/dry-run";
const FILTER: &str = "/api/v1/organizations/acme/filters/dry-run";

fn steps() -> Value {
    json!([{"map": {"rules": [{"target": "whole", "from": "n", "cast": "integer"}]}}])
}

fn sample() -> Value {
    json!({"type": "order.paid", "data": {"n": 1.5}})
}

#[tokio::test]
async fn a_transformation_shows_what_it_makes_of_a_sample() {
    let api = Api::with_orders().await;
    let report = api.post(TRANSFORM, json!({"transform": steps(), "sample": sample()})).await;
    let report = report.expect(200);
    assert_eq!(report["outcome"], json!({"result": "value"}));
    assert_eq!(report["input"]["data"], json!({"n": 1.5}));
    assert_eq!(report["output"]["data"]["n"], json!(1.5));
    assert_eq!(report["diff"]["complete"], true);
    assert!(report["took_micros"].is_u64() && report["cpu_micros"].is_u64());
    assert_eq!(report["event_type"], "order.paid");
    for records in ["events", "deliveries", "lanes"] {
        let path = format!("/api/v1/organizations/acme/{records}");
        assert_eq!(api.get(&path).await.expect(200)["items"], json!([]), "{records}");
    }
    let text = json!({"type": "a", "body_base64": "/wA=", "content_type": "image/x"});
    let report = api.post(TRANSFORM, json!({"transform": [], "sample": text})).await.expect(200);
    assert_eq!(report["output"], json!({"body_base64": "/wA="}));
    assert_eq!(report["diff"], Value::Null);
    let program = json!([{"javascript": {"source": "x"}}]);
    let report = api.post(TRANSFORM, json!({"transform": program, "sample": sample()})).await;
    let report = report.expect(200);
    assert_eq!(report["outcome"]["class"], "transform_no_sandbox");
    assert_eq!(report["outcome"]["pointer"], "/transform/0/javascript/source");
    assert_eq!((&report["output"], &report["cpu_micros"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn what_is_saved_is_run_on_what_is_stored_and_on_samples_of_types() {
    let api = Api::with_orders().await;
    let (event, _) = api.paid().await;
    let mut spec = orders();
    spec["id"] = json!("mapped");
    spec["spec"]["transform"] = steps();
    spec["spec"]["filter"] = json!({"data.n": {"$gt": 1}});
    api.post("/api/v1/organizations/acme/integrations", spec).await.expect(201);
    let asked = json!({"integration": "mapped", "event": event});
    let report = api.post(TRANSFORM, asked.clone()).await.expect(200);
    assert_eq!((&report["event"], &report["output"]["data"]["whole"]), (&json!(event), &json!(1)));
    let report = api.post(FILTER, asked).await.expect(200);
    assert_eq!(
        (&report["matches"], &report["why"]),
        (&json!(false), &json!("`data.n` fails `$gt`"))
    );
    assert_eq!(report["document"]["data"], json!({"n": 1}));
    assert_eq!(report.get("value"), None);

    let made = json!({"id": "order.made", "spec": {"sample": {"n": 7}}});
    api.post("/api/v1/organizations/acme/event-types", made).await.expect(201);
    let asked = json!({"integration": "mapped", "sample_of": "order.made"});
    assert_eq!(api.post(FILTER, asked).await.expect(200)["matches"], true);
    let asked = json!({"transform": [], "sample_of": "order.none"});
    api.post(TRANSFORM, asked).await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn an_expression_shows_its_value_or_where_it_failed() {
    let api = Api::with_orders().await;
    let ask = |text: &str| json!({"filter": {"jmespath": text}, "sample": sample()});
    let report = api.post(FILTER, ask("data.gone")).await.expect(200);
    assert_eq!((&report["matches"], report.get("value")), (&json!(false), Some(&Value::Null)));
    let report =
        api.post(FILTER, ask("type == 'order.paid' &&\n length(data.n)")).await.expect(200);
    assert_eq!((report.get("value"), &report["fault"]["at"]["line"]), (None, &json!(2)));
    let problem = api.post(FILTER, ask("data.")).await.problem(400, "dry_run_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/filter/jmespath");
    assert_eq!(problem["violations"][0]["code"], "filter_invalid");
}

#[tokio::test]
async fn a_fault_is_answered_with_its_field() {
    let api = Api::with_orders().await;
    let made = json!({"id": "other", "spec": {}});
    api.post("/api/v1/organizations", made).await.expect(201);
    let (event, _) = api.paid().await;
    for (asked, pointer, code) in [
        (json!({"sample": sample()}), "", "required"),
        (json!({"transform": [], "integration": "a", "event": event}), "/integration", "ambiguous"),
        (json!({"transform": []}), "", "required"),
        (json!({"transform": [], "event": event, "sample_of": "a"}), "/event", "ambiguous"),
        (json!({"transform": [], "sample": sample(), "sample_of": "a"}), "/sample_of", "ambiguous"),
        (json!({"transform": [], "event": "x"}), "/event", "malformed"),
        (json!({"transform": [], "sample_of": "a b"}), "/sample_of", "malformed"),
        (json!({"transform": [{"script": {}}], "event": event}), "/transform/0", "malformed"),
        (json!({"transform": {}, "event": event}), "/transform", "malformed"),
        (json!({"steps": [], "event": event}), "/steps", "unknown_field"),
        (
            json!({"transform": [{"map": {"rules": [{"target": "a"}]}}], "event": event}),
            "/transform/0/map/rules/0",
            "mapping_source",
        ),
    ] {
        let problem = api.post(TRANSFORM, asked.clone()).await.problem(400, "dry_run_invalid");
        let first = &problem["violations"][0];
        assert_eq!((&first["pointer"], &first["code"]), (&json!(pointer), &json!(code)), "{asked}");
    }
    let asked = json!({"transform": [], "sample": {"type": "order.paid"}});
    let problem = api.post(TRANSFORM, asked).await.problem(400, "event_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/sample/data");
    let of_other = TRANSFORM.replace("acme", "other");
    let asked = json!({"transform": [], "event": event});
    api.post(&of_other, asked.clone()).await.problem(404, "event_not_found");
    let asked = json!({"integration": "orders", "sample": sample()});
    api.post(&of_other, asked).await.problem(404, "resource_not_found");
}

#[tokio::test]
async fn each_organization_may_make_so_many_in_a_minute() {
    let api = Api::with_orders().await;
    let filter = json!({"filter": {}, "sample": sample()});
    let transform = json!({"transform": [], "sample": sample()});
    // Both are of one allowance, which grows back while it is used up: two in a second.
    let mut taken = 0;
    let refused = loop {
        let (path, asked) =
            if taken % 2 == 0 { (FILTER, &filter) } else { (TRANSFORM, &transform) };
        let answer = api.post(path, asked.clone()).await;
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 240, "each has an allowance of its own, or none");
    };
    refused.problem(429, "tests_limited");
    assert!(taken >= 120, "{taken}");
}
