//! Traces and metrics, as collectors get them.
#![expect(clippy::panic, clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::{Folder, Receiver, Server, http};

const LOOPBACK: (&str, &str) = ("ICP_ALLOW_LOOPBACK", "true");

/// What no number of a span is like.
const CARD: &str = "card-of-acme";

/// The span that an event is published in.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector of traces, and where it is.
async fn collector() -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let (sender, arrivals) = mpsc::unbounded_channel();
    let take = move |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        sender.send(ExportTraceServiceRequest::decode(body).unwrap()).unwrap();
        StatusCode::OK
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(take));
    #[expect(clippy::disallowed_methods, reason = "the test is the host of its collector")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, arrivals)
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        other => panic!("{key} is {other:?}"),
    }
}

#[tokio::test]
async fn a_collector_is_sent_the_spans_of_a_delivery() {
    let (url, mut arrivals) = collector().await;
    let (folder, mut receiver) = (Folder::new(), Receiver::start().await);
    let server = Server::start(&folder, &[LOOPBACK, ("ICP_OTLP_ENDPOINT", &url)]).await;
    let key = server.key.clone().unwrap();
    server.set_up(&key, &receiver.url).await;
    let event = server.publish(&key, json!({"card": CARD})).await;
    receiver.next().await;
    let url = format!("{}/api/v1/organizations/acme/events", server.url);
    let joined = http().post(url).bearer_auth(&key).header("traceparent", PARENT);
    let joined = joined.json(&json!({"type": "order.paid", "data": {}})).send().await.unwrap();
    let joined: serde_json::Value = joined.error_for_status().unwrap().json().await.unwrap();
    receiver.next().await;
    // The stop sends what is left.
    server.stop().await;
    let mut spans: Vec<Span> = Vec::new();
    while let Ok(request) = arrivals.try_recv() {
        for resource in request.resource_spans {
            let about = resource.resource.unwrap();
            assert_eq!(text(&about.attributes, "service.name"), "icp-server");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let attempt_of = |event: &str| {
        let is_it = |span: &&Span| {
            span.name == "attempt" && text(&span.attributes, "icp.event.id") == event
        };
        spans.iter().find(is_it).unwrap()
    };
    let attempt = attempt_of(&event);
    assert!(attempt.parent_span_id.is_empty());
    let joined = attempt_of(joined["id"].as_str().unwrap());
    assert_eq!(hex(&joined.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&joined.parent_span_id), "b7ad6b7169203331");
    assert_eq!(text(&attempt.attributes, "icp.attempt.outcome"), "delivered");
    for attempt in [attempt, joined] {
        let egress = |span: &&Span| span.name == "egress" && span.parent_span_id == attempt.span_id;
        assert_eq!(spans.iter().find(egress).unwrap().trace_id, attempt.trace_id);
    }
    for name in ["ingest", "settle", "request"] {
        assert!(named(name).end_time_unix_nano > 0);
    }
    for secret in [CARD, "/hooks", key.as_str()] {
        assert!(!format!("{spans:?}").contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_of_and_holds_nothing_up() {
    let (folder, mut receiver) = (Folder::new(), Receiver::start().await);
    let log = std::fs::File::create(folder.path("log")).unwrap();
    let environment = [LOOPBACK, ("ICP_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let server = Server::start_logging(&folder, &environment, log).await;
    let key = server.key.clone().unwrap();
    server.set_up(&key, &receiver.url).await;
    server.publish(&key, json!(1)).await;
    receiver.next().await;
    server.stop().await;
    let logged = std::fs::read_to_string(folder.path("log")).unwrap();
    assert!(logged.contains("traces could not be sent"), "{logged}");
}

#[tokio::test]
async fn organizations_are_labels_where_the_settings_say_so() {
    for (most, shows) in [("0", None), ("1", Some("org=\"acme\""))] {
        let (folder, mut receiver) = (Folder::new(), Receiver::start().await);
        let environment = [LOOPBACK, ("ICP_ORGANIZATION_METRICS", most)];
        let server = Server::start(&folder, &environment).await;
        let key = server.key.clone().unwrap();
        server.set_up(&key, &receiver.url).await;
        server.publish(&key, json!(1)).await;
        receiver.next().await;
        let url = format!("{}/metrics", server.url);
        let answer = http().get(url).bearer_auth(&key).send().await.unwrap();
        let metrics = answer.error_for_status().unwrap().text().await.unwrap();
        assert!(metrics.contains("icp_events_published_total 1"), "{metrics}");
        match shows {
            None => assert!(!metrics.contains("org="), "{metrics}"),
            Some(label) => assert!(metrics.contains(label), "{metrics}"),
        }
        server.stop().await;
    }
}
