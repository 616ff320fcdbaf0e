use serde_json::{Value, json};

use crate::harness::{Api, orders};

const ONE: &str = "/api/v1/organizations/acme/integrations/orders";
const TEST: &str = "/api/v1/organizations/acme/integrations/orders/test";
const DRAFT: &str = "/api/v1/organizations/acme/test-deliveries";

#[tokio::test]
async fn a_test_shows_the_request_and_stores_nothing() {
    let api = Api::with_orders().await;
    let answer = api.call("POST", TEST, &[], "").await;
    let report = answer.expect(200);
    assert_eq!(report["event_type"], "icp.test");
    assert_eq!((&report["enabled"], &report["matching"]), (&json!(true), &Value::Null));
    assert_eq!(report["outcome"]["result"], "failed", "nobody listens there");
    assert_eq!(report["outcome"]["class"], "connect_failed");
    let request = &report["request"];
    assert_eq!(
        (&request["method"], &request["url"]),
        (&json!("POST"), &json!("http://127.0.0.1:1/hooks"))
    );
    assert_eq!(request["headers"]["icp-test"], "true");
    assert_eq!(request["headers"]["authorization"], "***");
    let body: Value =
        serde_json::from_str(request["body"].as_str().unwrap_or_default()).unwrap_or_default();
    assert_eq!((&body["test"], &body["org"]), (&json!(true), &json!("acme")));
    assert!(!answer.text.contains("hush-hush"));
    for records in ["events", "deliveries", "lanes"] {
        let path = format!("/api/v1/organizations/acme/{records}");
        assert_eq!(api.get(&path).await.expect(200)["items"], json!([]), "{records}");
    }
}

#[tokio::test]
async fn a_sample_is_judged_as_an_event_would_be() {
    let api = Api::with_orders().await;
    let sample = |event: &str| json!({"type": event, "data": {"n": 1}});
    let report = api.post(TEST, json!({"sample": sample("user.made")})).await.expect(200);
    assert_eq!(report["outcome"], json!({"result": "unmatched"}));
    assert_eq!(report["matching"], json!({"reason": "event_type"}));
    assert_eq!(report["request"], Value::Null);
    let anyway = json!({"sample": sample("user.made"), "even_unmatched": true});
    let report = api.post(TEST, anyway).await.expect(200);
    assert_eq!(report["request"]["body"], "{\"n\":1}");
    assert_eq!(report["matching"], json!({"reason": "event_type"}));
    let report = api.post(TEST, json!({"sample": sample("order.paid")})).await.expect(200);
    assert_eq!(report["matching"], json!({"reason": "matched"}));
    assert_eq!(report["request"]["headers"]["icp-event-type"], "order.paid");

    let binary = json!({"type": "order.paid", "body_base64": "/wA=", "content_type": "image/x"});
    let report = api.post(TEST, json!({"sample": binary})).await.expect(200);
    assert_eq!(
        (&report["request"]["body_base64"], report["request"].get("body")),
        (&json!("/wA="), None)
    );
    let neither = json!({"sample": {"type": "order.paid"}});
    let problem = api.post(TEST, neither).await.problem(400, "event_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/sample/data");
}

#[tokio::test]
async fn a_draft_is_tried_without_being_saved() {
    let api = Api::with_orders().await;
    let mut spec = orders()["spec"].clone();
    spec["enabled"] = json!(false);
    let report = api.post(DRAFT, json!({"spec": spec})).await.expect(200);
    assert_eq!(
        (&report["enabled"], &report["outcome"]["class"]),
        (&json!(false), &json!("connect_failed"))
    );
    let found = api.get("/api/v1/organizations/acme/integrations").await.expect(200);
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));

    spec["max_in_flight"] = json!(0);
    spec["auth"]["token"] = json!("••••••••");
    spec["target"]["url"] = json!("ftp://example.com");
    let problem = api.post(DRAFT, json!({"spec": spec})).await.problem(400, "resource_invalid");
    let pointers: Vec<_> = problem["violations"].as_array().into_iter().flatten().collect();
    let pointers: Vec<_> = pointers.iter().map(|violation| &violation["pointer"]).collect();
    assert_eq!(pointers.len(), 3, "{problem}");
    for pointer in ["/spec/max_in_flight", "/spec/target/url", "/spec/auth/token"] {
        assert!(pointers.contains(&&json!(pointer)), "{problem}");
    }
}

#[tokio::test]
async fn what_a_host_does_is_saved_shown_and_missed() {
    let api = Api::with_orders().await;
    let mut draft = orders();
    let auth = json!({"type": "host", "handler": "vault", "config": {"key": "k1"}});
    (draft["id"], draft["spec"]["auth"]) = (json!("signed"), auth.clone());
    let saved = "/api/v1/organizations/acme/integrations";
    assert_eq!(api.post(saved, draft.clone()).await.expect(201)["spec"]["auth"], auth);
    let one = format!("{saved}/signed");
    assert_eq!(api.get(&one).await.expect(200)["spec"]["auth"], auth);
    // Another program on the store may have the signer; this one does not, and sends nothing.
    let report = api.post(&format!("{one}/test"), json!({})).await.expect(200);
    assert_eq!(report["outcome"]["result"], "unsent");
    assert_eq!(report["outcome"]["class"], "signer_no_handler");

    draft["spec"]["auth"]["handler"] = json!("a b");
    draft["spec"]["transform"] = json!([{"host_filter": {"handler": "a b"}}]);
    let problem =
        api.post(DRAFT, json!({"spec": draft["spec"]})).await.problem(400, "resource_invalid");
    let found = problem["violations"].as_array().into_iter().flatten();
    let found: Vec<_> = found.map(|broken| (&broken["pointer"], &broken["code"])).collect();
    for pointer in ["/spec/auth/handler", "/spec/transform/0/host_filter/handler"] {
        assert!(found.contains(&(&json!(pointer), &json!("handler_name"))), "{problem}");
    }
    draft["spec"]["auth"] = auth;
    draft["spec"]["transform"] = json!([{"host_filter": {"handler": "wanted"}}]);
    let problem =
        api.post(DRAFT, json!({"spec": draft["spec"]})).await.problem(400, "resource_invalid");
    let broken = &problem["violations"][0];
    assert_eq!(
        (&broken["pointer"], &broken["code"]),
        (&json!("/spec/transform/0/host_filter"), &json!("transform_no_host"))
    );
}

#[tokio::test]
async fn an_organization_may_make_so_many_tests_in_a_minute() {
    let api = Api::with_orders().await;
    for _ in 0..20 {
        api.call("POST", TEST, &[], "").await.expect(200);
    }
    let refused = api.call("POST", TEST, &[], "").await;
    refused.problem(429, "tests_limited");
    assert_eq!(refused.header("retry-after"), "1");
    api.post(DRAFT, json!({"spec": orders()["spec"]})).await.problem(429, "tests_limited");
}

#[tokio::test]
async fn an_integration_is_shown_as_a_command() {
    let api = Api::with_orders().await;
    let path = format!("{ONE}/curl");
    let shown =
        api.post(&path, json!({"sample": {"type": "order.paid", "data": {"it's": 1}}})).await;
    let command = shown.expect(200)["command"].as_str().unwrap_or_default().to_owned();
    assert!(command.starts_with("curl --globoff --request POST"), "{command}");
    assert!(command.contains("--url http://127.0.0.1:1/hooks"), "{command}");
    assert!(command.contains("--header 'authorization: ***'"), "{command}");
    assert!(command.ends_with(r#"--data-raw '{"it'\''s":1}'"#), "{command}");
    assert!(!shown.text.contains("hush-hush"));
    assert_eq!(api.call("POST", &path, &[], "").await.status, 200);
}

#[tokio::test]
async fn a_draft_is_shown_as_a_command_and_not_sent() {
    let api = Api::with_orders().await;
    let path = format!("{DRAFT}/curl");
    let sample = json!({"type": "order.paid", "data": {"n": 1}});
    let mut spec = orders()["spec"].clone();
    spec["target"]["url"] = json!("http://127.0.0.1:1/other?key=hush-hush");
    let shown = api.post(&path, json!({"spec": spec, "sample": sample})).await;
    let answer = shown.expect(200);
    let command = answer["command"].as_str().unwrap_or_default();
    assert!(command.contains("--url 'http://127.0.0.1:1/other?key=***'"), "{command}");
    assert!(command.contains("--header 'authorization: ***'"), "{command}");
    assert!(command.ends_with(r#"--data-raw '{"n":1}'"#), "{command}");
    assert!(!shown.text.contains("hush-hush"));

    spec["events"] = json!(["user.*"]);
    let shown = api.post(&path, json!({"spec": spec, "sample": sample})).await.expect(200);
    assert!(shown["notes"].to_string().contains("does not take the event"), "{shown}");
    spec["max_in_flight"] = json!(0);
    api.post(&path, json!({"spec": spec})).await.problem(400, "resource_invalid");
    let other = "/api/v1/organizations/other/test-deliveries/curl";
    api.post(other, json!({"spec": orders()["spec"]})).await.problem(404, "organization_unknown");
}

#[tokio::test]
async fn an_attempt_is_shown_as_a_command() {
    let api = Api::with_orders().await;
    let id = api.attempted().await;
    let many = format!("/api/v1/organizations/acme/deliveries/{id}/attempts");
    let first = format!("{many}/1/curl");
    let shown = api.get(&first).await.expect(200);
    let command = shown["command"].as_str().unwrap_or_default();
    assert!(command.contains(&format!("--header 'icp-delivery: {id}'")), "{command}");
    assert!(command.ends_with(r#"--data-raw '{"n":1}'"#), "{command}");
    assert_eq!(shown["notes"].as_array().map(Vec::len), Some(1), "{shown}");

    assert_eq!(api.get(&many).await.expect(200)["items"][0]["epoch"], 1);
    assert_eq!(api.get(&format!("{first}?epoch=1")).await.expect(200), shown);
    api.get(&format!("{first}?epoch=2")).await.problem(404, "attempt_not_found");
    api.get(&format!("{first}?epoch=x")).await.problem(400, "query_invalid");
    api.get(&format!("{many}/2/curl")).await.problem(404, "attempt_not_found");
    api.get(&format!("{many}/x/curl")).await.problem(400, "id_invalid");

    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({"spec": {"target": {"url": "http://127.0.0.1:2/new"}}});
    api.call("PATCH", ONE, &merge, &patch.to_string()).await.expect(200);
    let shown = api.get(&first).await.expect(200);
    assert!(shown["command"].as_str().is_some_and(|c| c.contains("127.0.0.1:1/hooks")), "{shown}");
    assert!(shown["notes"].to_string().contains("changed after the attempt"), "{shown}");

    api.call("DELETE", ONE, &[], "").await.expect(204);
    let shown = api.get(&first).await.expect(200);
    assert!(shown["notes"].to_string().contains("the integration was deleted"), "{shown}");
    assert!(shown["command"].as_str().is_some_and(|c| !c.contains("--data")), "{shown}");
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused() {
    let api = Api::with_orders().await;
    let nobody = "/api/v1/organizations/acme/integrations/nobody";
    api.call("POST", &format!("{nobody}/test"), &[], "").await.problem(404, "resource_not_found");
    api.call("POST", &format!("{nobody}/curl"), &[], "").await.problem(404, "resource_not_found");
    let other = "/api/v1/organizations/other/test-deliveries";
    let spec = json!({"spec": orders()["spec"]});
    api.post(other, spec).await.problem(404, "organization_unknown");
    let suspend = json!({"spec": {"status": "suspended"}});
    let merge = [("content-type", "application/merge-patch+json")];
    let acme = "/api/v1/organizations/acme";
    api.call("PATCH", acme, &merge, &suspend.to_string()).await.expect(200);
    api.call("POST", TEST, &[], "").await.problem(403, "organization_suspended");
}
