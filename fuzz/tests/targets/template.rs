//! Templates of requests: no value of an event leaves its place.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, StatusCode};
use icp_core::egress::{
    AddressPolicy, EgressError, EgressRequest, EgressResponse, Timings, Transport,
};
use icp_core::event::TraceContext;
use icp_core::id::DeliveryId;
use icp_core::integration::auth::Auth;
use icp_core::integration::connector::{Binding, Connector, Judgement, Outgoing};
use icp_core::integration::http::HttpConnector;
use icp_fuzz::Draw;
use serde_json::{Value, json};
use url::Url;

use crate::world::{block_on, event};

const STARTS: &[&str] = &[
    "https://example.com/",
    "https://example.com/a/",
    "https://example.com:8443/a?q=",
    "http://example.com/a;b/",
    "https://example.com",
    "https://example.com\\",
    "https://",
    "https:/",
];

type Seen = Arc<Mutex<Vec<EgressRequest>>>;

#[test]
fn templates() {
    bolero::check!().with_iterations(5_000).with_max_len(512).for_each(run);
}

fn run(bytes: &[u8]) {
    let mut draw = Draw::of(bytes);
    let url = format!("{}{}", draw.one(STARTS), draw.template());
    let target = json!({
        "kind": "http",
        "url": url,
        "headers": { "x-one": draw.template(), "x-two": draw.template() },
        "body": body(&mut draw, 2),
    });
    let payload = draw.value(3);
    let (transport, seen) = receiver();
    let connector = HttpConnector::new(transport);
    let policy = Arc::new(AddressPolicy::strict());
    if !connector.validate(&target, "/target", &policy).is_empty() {
        return;
    }
    let bound = Binding { target: &target, auth: Auth::default(), signer: None, policy };
    let integration = connector.bind(bound).unwrap();
    let event = event(&payload);
    let outgoing = Outgoing {
        event: &event,
        delivery: DeliveryId::from_bytes([2; 16]),
        epoch: 1,
        number: 1,
        round: 0,
        body: event.body.clone(),
        now: event.received_at,
        trace: TraceContext::of_event(event.id),
        test: false,
    };
    for _ in 0..2 {
        let sent = block_on(integration.send(outgoing.clone()));
        if let Judgement::Failed(failure) = &sent.judgement {
            assert_eq!(failure.class, "template_unfilled", "{target}");
        }
        assert_eq!(sent.judgement == Judgement::Delivered, integration.preview(&outgoing).is_ok());
    }
    let seen = seen.lock().unwrap();
    let [one, two] = seen.as_slice() else {
        assert!(seen.is_empty(), "the same template was filled once of two times: {target}");
        return;
    };
    assert_eq!((&one.url, &one.headers, &one.body), (&two.url, &two.headers, &two.body));
    judge(&url, one);
}

/// What is sent goes where the template says, and has the form it says.
fn judge(template: &str, request: &EgressRequest) {
    let written = Url::parse(&without_places(template)).unwrap();
    let parts = |url: &Url| {
        let segments = url.path_segments().map(Iterator::count);
        (url.origin(), url.username().to_owned(), segments, url.query_pairs().count())
    };
    assert_eq!(parts(&request.url), parts(&written), "{template}: {}", request.url);
    for value in request.headers.values() {
        // A tab is allowed, and stands there where the template has it.
        let breaks = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        assert!(!value.as_bytes().iter().any(breaks), "{value:?}");
    }
    serde_json::from_slice::<Value>(&request.body).unwrap();
}

/// The address with `x` in every place.
fn without_places(template: &str) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, place)) = rest.split_once("{{") {
        text.push_str(before);
        text.push('x');
        // A quoted key may hold braces, none that are drawn does.
        rest = place.split_once("}}").map_or("", |(_, rest)| rest);
    }
    text + rest
}

fn body(draw: &mut Draw<'_>, levels: usize) -> Value {
    match draw.below(if levels == 0 { 2 } else { 4 }) {
        0 => draw.template().into(),
        1 => draw.value(1),
        2 => (0..draw.below(4)).map(|_| body(draw, levels - 1)).collect(),
        _ => json!({ draw.text(): body(draw, levels - 1), "b": body(draw, levels - 1) }),
    }
}

/// Takes everything, and keeps it.
fn receiver() -> (Transport, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let transport = Transport::new(tower::service_fn(move |request: EgressRequest| {
        log.lock().unwrap().push(request);
        let response = EgressResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            truncated: false,
            timings: Timings::default(),
            remote: None,
        };
        async { Ok::<_, EgressError>(response) }
    }));
    (transport, seen)
}
