#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::io::{Read, Write};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::harness::Api;

const ONE: &str = "/api/v1/organizations/acme/integrations/orders";
const DOCUMENT: &str = "/api/v1/openapi.json";

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(data).unwrap();
    packed.finish().unwrap()
}

fn request(api: &Api, method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("x-api-key", &api.key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn packed(api: &Api, path: &str, accept: &str) -> (Response<()>, Vec<u8>) {
    let request = request(api, "GET", path, &[("accept-encoding", accept)]);
    let (parts, body) = api.router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes().to_vec();
    (Response::from_parts(parts, ()), bytes)
}

#[tokio::test]
async fn what_is_known_already_is_not_sent_again() {
    let api = Api::with_orders().await;
    for path in [ONE, "/api/v1/organizations/acme", &format!("{ONE}/versions/1"), DOCUMENT] {
        let shown = api.get(path).await;
        let tag = shown.header("etag").to_owned();
        for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
            let same = api.call("GET", path, &[("if-none-match", &known)], "").await;
            assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""), "{path}");
            assert_eq!(same.header("etag"), tag);
            assert_eq!(same.header("cache-control"), "private, no-cache");
            assert!(!same.headers.contains_key("content-type"));
        }
        let other = api.call("GET", path, &[("if-none-match", "\"0\"")], "").await;
        assert_eq!(other.status, 200);
    }
    let tag = api.get(ONE).await.header("etag").to_owned();
    api.send("PATCH", ONE, &[], json!({"name": "x"})).await.expect(200);
    let changed = api.call("GET", ONE, &[("if-none-match", &tag)], "").await;
    assert_eq!(changed.expect(200)["name"], "x");
}

#[tokio::test]
async fn heads_and_options_tell_without_doing() {
    let api = Api::with_orders().await;
    let (get, head) = (api.get(ONE).await, api.call("HEAD", ONE, &[], "").await);
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    for name in ["etag", "content-type", "content-length"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let options = api.call("OPTIONS", ONE, &[], "").await;
    assert_eq!((options.status.as_u16(), options.text.as_str()), (204, ""));
    let mut allowed: Vec<_> = options.header("allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"]);
    api.call("OPTIONS", "/nothing", &[], "").await.problem(404, "route_unknown");
    api.call("TRACE", ONE, &[], "").await.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn what_is_not_wanted_is_not_sent() {
    let api = Api::with_orders().await;
    for accept in ["text/html", "application/json;q=0", "image/*"] {
        let answer = api.call("GET", ONE, &[("accept", accept)], "").await;
        answer.problem(406, "not_acceptable");
    }
    for accept in ["*/*", "application/json", "text/html, application/*;q=0.1"] {
        api.call("GET", ONE, &[("accept", accept)], "").await.expect(200);
    }
    // Of what was not found the problem is sent all the same.
    let none = api.call("GET", "/api/v1/organizations/none", &[("accept", "text/html")], "").await;
    none.problem(404, "resource_not_found");
    // What is done is told, whatever was asked for.
    let done = api.call("DELETE", ONE, &[("accept", "text/html")], "").await;
    assert_eq!(done.status, 204);
}

#[tokio::test]
async fn browsers_are_told_to_guess_keep_and_frame_nothing() {
    let api = Api::with_orders().await;
    let open = Request::builder().uri("/metrics").body(Body::empty()).unwrap();
    for (answer, kept) in [
        (api.get(ONE).await, "private, no-cache"),
        (api.get("/health").await, "private, no-cache"),
        (api.get("/nothing").await, "no-store"),
        (api.raw(open).await, "no-store"),
        (api.call("POST", &format!("{ONE}/duplicate"), &[], "").await, "no-store"),
    ] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("cache-control"), kept, "{}", answer.text);
        assert!(!answer.headers.contains_key("strict-transport-security"));
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn answers_are_packed_where_that_is_asked_for_and_tells_nothing() {
    let api = Api::with_orders().await;
    let plain = api.get(DOCUMENT).await;
    let (response, bytes) = packed(&api, DOCUMENT, "gzip").await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.headers()["vary"].to_str().unwrap().contains("accept-encoding"));
    assert!(bytes.len() * 4 < plain.text.len());
    let mut text = String::new();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text);
    let (response, _) = packed(&api, DOCUMENT, "br;q=1, gzip;q=0.5").await;
    assert_eq!(response.headers()["content-encoding"], "br");
    let (response, bytes) = packed(&api, DOCUMENT, "identity").await;
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(bytes, plain.text.as_bytes());
    let (response, _) = packed(&api, "/health", "gzip").await;
    assert!(!response.headers().contains_key("content-encoding"), "too short to be worth it");
    // A copy has long specs, and its secret.
    let long = json!({"spec": {"vars": {"x": "y".repeat(2_000)}}});
    api.send("PATCH", ONE, &[], long).await.expect(200);
    let copy = format!("{ONE}/duplicate");
    let request = request(&api, "POST", &copy, &[("accept-encoding", "gzip")]);
    let copied = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(copied.status(), 201);
    assert!(!copied.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn bodies_may_come_packed() {
    let api = Api::with_orders().await;
    let patch = gzip(br#"{"name": "packed"}"#);
    for (packing, status) in [
        ("gzip", 200),
        ("GZIP", 200),
        ("deflate", 415),
        ("gzip, gzip", 415),
        ("zstd", 415),
        ("br", 400),
        ("identity", 400),
    ] {
        let mut request = request(&api, "PATCH", ONE, &[("content-encoding", packing)]);
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        *request.body_mut() = Body::from(patch.clone());
        let answer = api.raw(request).await;
        let body: Value = answer.expect(status);
        match status {
            200 => assert_eq!(body["name"], "packed"),
            415 => assert_eq!(answer.header("accept-encoding"), "gzip, br"),
            _ => assert_eq!(body["code"], "body_malformed", "{body}"),
        }
    }
}

#[tokio::test]
async fn foreign_pages_may_call_where_the_host_says_so() {
    let api = Api::new().await;
    let build = |origin: &str| icp_axum::Api::new(api.engine.clone()).cors([origin]);
    assert!(build("*").build().is_err());
    let hsts = Duration::from_secs(600);
    let router = build("https://console.example").hsts(hsts).build().unwrap();
    let call = async |method: &str, origin: &str| {
        let mut request = request(&api, method, "/api/v1/organizations", &[("origin", origin)]);
        if method == "OPTIONS" {
            request.headers_mut().remove("x-api-key");
            let fields = request.headers_mut();
            fields.insert("access-control-request-method", "POST".parse().unwrap());
            fields.insert("access-control-request-headers", "x-api-key".parse().unwrap());
        }
        router.clone().oneshot(request).await.unwrap()
    };
    let asked = call("OPTIONS", "https://console.example").await;
    assert_eq!(asked.status(), 200, "without a key: browsers send none");
    assert_eq!(asked.headers()["access-control-allow-origin"], "https://console.example");
    assert!(
        asked.headers()["access-control-allow-headers"].to_str().unwrap().contains("x-api-key")
    );
    let done = call("GET", "https://console.example").await;
    assert_eq!(done.status(), 200);
    assert_eq!(done.headers()["access-control-allow-origin"], "https://console.example");
    assert!(done.headers()["access-control-expose-headers"].to_str().unwrap().contains("etag"));
    assert!(!done.headers().contains_key("access-control-allow-credentials"));
    assert_eq!(done.headers()["strict-transport-security"], "max-age=600; includeSubDomains");
    for method in ["OPTIONS", "GET"] {
        let foreign = call(method, "https://evil.example").await;
        assert!(!foreign.headers().contains_key("access-control-allow-origin"), "{method}");
    }
}
