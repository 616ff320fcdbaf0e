use crate::harness::Api;

const JSON: &str = "application/json";
const ORGS: &str = "/api/v1/organizations";
const MANY: &str = "/api/v1/organizations/acme/integrations";
const ONE: &str = "/api/v1/organizations/acme/integrations/orders";
const EVENTS: &str = "/api/v1/organizations/acme/events";
const DELIVERIES: &str = "/api/v1/organizations/acme/deliveries";

/// Method, path, content type and body, and the status, code, pointer and words of the problem.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u16,
    &'static str,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("GET", "/api/v1/nothing", "", "", 404, "route_unknown", "", "openapi.json"),
    ("GET", "/api/v1/organizations/acme/integration", "", "", 404, "route_unknown", "", ""),
    ("DELETE", ORGS, "", "", 405, "method_not_allowed", "", "allow"),
    ("POST", "/health", "", "", 405, "method_not_allowed", "", ""),
    ("PUT", EVENTS, "", "", 405, "method_not_allowed", "", ""),
    ("POST", ORGS, "text/plain", "{}", 415, "media_type_unsupported", "", JSON),
    ("POST", EVENTS, "", "{}", 415, "media_type_unsupported", "", JSON),
    ("PATCH", ONE, "text/plain", "{}", 415, "media_type_unsupported", "", "merge-patch"),
    ("POST", ORGS, JSON, "{\"id\":\n oops}", 400, "body_malformed", "", "line 2 column 2"),
    ("POST", ORGS, JSON, "", 400, "body_malformed", "", "line 1 column 0"),
    ("PATCH", ONE, JSON, "{", 400, "body_malformed", "", "line 1 column 1"),
    ("POST", ORGS, JSON, "[]", 400, "resource_invalid", "", ""),
    ("POST", ORGS, JSON, "{}", 400, "resource_invalid", "/spec", "is missing"),
    ("POST", ORGS, JSON, r#"{"spec":{},"lables":{}}"#, 400, "resource_invalid", "/lables", "did you mean `labels`?"),
    ("POST", ORGS, JSON, r#"{"spec":{},"name":7}"#, 400, "resource_invalid", "/name", "invalid type"),
    ("POST", ORGS, JSON, r#"{"id":"a b","spec":{}}"#, 400, "resource_invalid", "/id", "A-Z"),
    ("POST", ORGS, JSON, r#"{"spec":{"wieght":2}}"#, 400, "resource_invalid", "/spec/wieght", "did you mean `weight`?"),
    ("POST", ORGS, JSON, r#"{"spec":{"weight":0}}"#, 400, "resource_invalid", "/spec/weight", "at least 1"),
    ("POST", ORGS, JSON, r#"{"id":"acme","spec":{}}"#, 409, "resource_exists", "", ""),
    ("POST", MANY, JSON, r#"{"spec":{"events":["a"],"target":{"kind":"http","url":"nonsense"}}}"#, 400, "resource_invalid", "/spec/target/url", ""),
    ("POST", MANY, JSON, r#"{"spec":{"events":["a"],"target":{"kind":"http","url":"http://10.0.0.1/"}}}"#, 400, "resource_invalid", "/spec/target/url", ""),
    ("POST", MANY, JSON, r#"{"spec":{"events":["a..b"],"target":{"kind":"http","url":"https://example.com/"}}}"#, 400, "resource_invalid", "/spec/events/0", ""),
    ("POST", "/api/v1/organizations/none/integrations", JSON, r#"{"spec":{}}"#, 404, "organization_unknown", "", "create it first"),
    ("PUT", ONE, JSON, r#"{"id":"x","spec":{"events":["a"],"target":{"kind":"http","url":"https://example.com/"}}}"#, 400, "resource_invalid", "/id", ""),
    ("PATCH", ONE, JSON, r#"{"nam":"x"}"#, 400, "resource_invalid", "/nam", "`name`"),
    ("GET", "/api/v1/organizations/a%20b", "", "", 400, "id_invalid", "", ""),
    ("GET", "/api/v1/organizations/%FF", "", "", 400, "id_invalid", "", "utf-8"),
    ("GET", "/api/v1/organizations/acme?fields=a", "", "", 400, "query_invalid", "/fields", "use one of: kind"),
    ("GET", "/api/v1/organizations?limt=2", "", "", 400, "query_invalid", "/limt", "did you mean `limit`?"),
    ("GET", "/api/v1/organizations?limit=0", "", "", 400, "query_invalid", "/limit", "1 to 1000"),
    ("GET", "/api/v1/organizations?limit=1&limit=2", "", "", 400, "query_invalid", "/limit", "once"),
    ("GET", "/api/v1/organizations?cursor=eA", "", "", 400, "cursor_invalid", "", "next"),
    ("GET", "/api/v1/organizations/acme/integrations?label=team", "", "", 400, "query_invalid", "/label", "key:value"),
    ("GET", "/api/v1/organizations/acme/audit?id=a%20b", "", "", 400, "query_invalid", "/id", ""),
    ("GET", "/api/v1/organizations/acme/lanes?limit=0", "", "", 400, "query_invalid", "/limit", ""),
    ("POST", EVENTS, JSON, r#"{"data":1}"#, 400, "event_invalid", "/type", "is missing"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b"}"#, 400, "event_invalid", "/data", "is missing"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","data":1,"ordring_key":"x"}"#, 400, "event_invalid", "/ordring_key", "did you mean `ordering_key`?"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","data":1,"due_at":"soon"}"#, 400, "event_invalid", "/due_at", "RFC 3339"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","data":1,"ttl_seconds":-1}"#, 400, "event_invalid", "/ttl_seconds", ""),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","data":1,"ttl_seconds":1,"expires_at":"2099-01-01T00:00:00Z"}"#, 400, "event_invalid", "/ttl_seconds", "one of them"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","data":1,"body_base64":""}"#, 400, "event_invalid", "/body_base64", "one of them"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","body_base64":"AA=="}"#, 400, "event_invalid", "/content_type", "is missing"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","body_base64":"?","content_type":"a/b"}"#, 400, "event_invalid", "/body_base64", "base64"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","data":1,"expires_at":"2001-01-01T00:00:00Z"}"#, 400, "event_invalid", "/expires_at", "past"),
    ("POST", EVENTS, JSON, r#"{"type":"a..b","data":1}"#, 400, "event_type_invalid", "", "segment 2"),
    ("POST", EVENTS, JSON, r#"{"type":"a.b","data":1,"unit":"none"}"#, 400, "unit_unknown", "/unit", "no unit"),
    ("POST", "/api/v1/organizations/none/events", JSON, r#"{"type":"a.b","data":1}"#, 404, "organization_unknown", "", ""),
    ("POST", "/api/v1/organizations/acme/events/batch", JSON, r#"{"events":{}}"#, 400, "event_invalid", "/events", ""),
    ("GET", "/api/v1/organizations/acme/events?type=a..b", "", "", 400, "query_invalid", "/type", "segment 2"),
    ("GET", "/api/v1/organizations/acme/events?since=now", "", "", 400, "query_invalid", "/since", "RFC 3339"),
    ("GET", "/api/v1/organizations/acme/events/evt_1", "", "", 400, "id_invalid", "", "evt_"),
    ("GET", "/api/v1/organizations/acme/deliveries?state=lost", "", "", 400, "query_invalid", "/state", "ready"),
    ("GET", "/api/v1/organizations/acme/deliveries?event=x", "", "", 400, "query_invalid", "/event", "evt_"),
    ("GET", "/api/v1/organizations/acme/dead-letters?state=dead", "", "", 400, "query_invalid", "/state", ""),
    ("POST", "/api/v1/organizations/acme/deliveries/x/replay", "", "", 400, "id_invalid", "", "dlv_"),
    ("POST", "/api/v1/organizations/acme/deliveries/x/cancel", "text/plain", "{}", 415, "media_type_unsupported", "", JSON),
    ("POST", "/api/v1/organizations/acme/deliveries/x/cancel", JSON, r#"{"raeson":"x"}"#, 400, "body_malformed", "/raeson", "did you mean `reason`?"),
    ("GET", "/metrics?x=1", "", "", 400, "query_invalid", "/x", ""),
];

#[tokio::test]
async fn bad_input_has_a_status_a_code_a_place_and_a_hint() {
    let api = Api::with_orders().await;
    let mut wrong = Vec::new();
    for (method, path, media, body, status, code, pointer, says) in CASES {
        let media = (!media.is_empty()).then_some(("content-type", *media));
        let answer = api.call(method, path, media.as_slice(), body).await;
        let problem: serde_json::Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let place = problem["violations"][0]["pointer"].as_str().unwrap_or_default();
        let found = (answer.status.as_u16(), problem["code"].as_str().unwrap_or_default(), place);
        if found != (*status, *code, *pointer) || !answer.text.contains(says) {
            wrong.push(format!("{method} {path} {body}: {}", answer.text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let api = Api::with_orders().await;
    let answer = api.call("PATCH", DELIVERIES, &[], "").await;
    answer.problem(405, "method_not_allowed");
    assert!(answer.header("allow").contains("GET"));
}

#[tokio::test]
async fn a_precondition_that_is_no_etag_is_refused() {
    let api = Api::with_orders().await;
    let answer = api.call("DELETE", ONE, &[("if-match", "17")], "").await;
    answer.problem(400, "header_invalid");
    api.get(ONE).await.expect(200);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let api = Api::with_orders().await;
    let limit = api.engine.event_limits().max_body;
    let body = |size| format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(size));
    let json = [("content-type", JSON)];
    api.call("POST", EVENTS, &json, &body(limit - 2)).await.expect(202);
    let event = api.call("POST", EVENTS, &json, &body(limit - 1)).await;
    assert!(event.problem(413, "body_too_large")["detail"].as_str().unwrap().contains("bytes"));
    let request = api.call("POST", EVENTS, &json, &body(8 << 20)).await;
    request.problem(413, "body_too_large");
}
