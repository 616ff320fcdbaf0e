use serde_json::json;

use super::*;
use crate::event::{EventLimits, NewEvent, TraceContext};
use crate::id::{DeliveryId, EventId};
use crate::resource::Revision;

const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);

fn capture() -> (Transport, Arc<std::sync::Mutex<Vec<EgressRequest>>>) {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let transport = Transport::new(tower::service_fn(move |request: EgressRequest| {
        log.lock().unwrap().push(request);
        async {
            Ok(EgressResponse {
                status: StatusCode::TOO_MANY_REQUESTS,
                headers: HeaderMap::from_iter([
                    (RETRY_AFTER, HeaderValue::from_static("7")),
                    (http::header::SET_COOKIE, HeaderValue::from_static("session=canary")),
                ]),
                body: "busy".into(),
                truncated: false,
                timings: Timings::default(),
                remote: None,
            })
        }
    }));
    (transport, seen)
}

fn bind(transport: Transport, target: &serde_json::Value) -> Arc<dyn Integration> {
    let binding = Binding {
        target,
        auth: Auth::default(),
        signer: None,
        policy: Arc::new(AddressPolicy::strict()),
    };
    HttpConnector::new(transport).bind(binding).unwrap()
}

#[tokio::test]
async fn a_request_carries_what_receivers_need() {
    let (transport, seen) = capture();
    let target = json!({ "kind": "http", "url": "https://u:p@example.com/hook?token=canary", "headers": { "x-shop": "7" } });
    let integration = bind(transport, &target);
    let event = NewEvent::raw("acme", "order.paid", "text/plain", "hello")
        .accept(EventId::from_bytes([1; 16]), NOW, Revision::ZERO, &EventLimits::default())
        .unwrap();
    let sent = integration
        .send(Outgoing {
            event: &event,
            delivery: DeliveryId::from_bytes([2; 16]),
            epoch: 3,
            number: 2,
            round: 1,
            body: event.body.clone(),
            now: NOW,
            trace: TraceContext::of_event(event.id),
            test: false,
        })
        .await;
    let seen = seen.lock().unwrap();
    let headers = &seen[0].headers;
    assert_eq!(headers["webhook-id"], event.id.to_string().as_str());
    assert_eq!(headers["webhook-timestamp"], "1795232700");
    assert_eq!(headers["icp-epoch"], "3");
    assert_eq!(headers["icp-dead-letter-retry"], "true");
    assert_eq!(headers["icp-attempt"], "2");
    assert_eq!(headers["content-type"], "text/plain");
    assert_eq!(headers["x-shop"], "7");
    assert!(headers.contains_key("traceparent"));
    assert_eq!(&seen[0].body[..], b"hello");
    assert_eq!(sent.status, Some(429));
    let Judgement::Failed(failure) = &sent.judgement else { panic!("{sent:?}") };
    assert_eq!(failure.hint, Hint::Wait(Some(Duration::from_secs(7))));
    let shown = format!("{:?}", sent.exchange);
    assert!(!shown.contains("canary") && !shown.contains("u:p"), "{shown}");
}

#[test]
fn a_repeated_credential_is_masked_before_it_is_cut() {
    use crate::secret::{LocalKeys, Opener, Owner, Sealer, SystemEntropy};
    let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
    let sealer = Sealer::new(Arc::new(keys));
    let owner = Owner { org: "acme", kind: "integration", id: "hook" };
    let spec = json!({ "type": "bearer", "token": "hush-hush-hush" });
    let spec: crate::integration::auth::AuthSpec = serde_json::from_value(spec).unwrap();
    let auth = spec.open(&Opener::new(&sealer, owner)).unwrap();
    for before in [0, KEPT_VALUE - 10, KEPT_VALUE - 3] {
        let value = format!("{}hush-hush-hush", "x".repeat(before));
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-debug"),
            HeaderValue::try_from(value).unwrap(),
        )]);
        let [(_, shown)] = <[_; 1]>::try_from(kept(&headers, &auth)).unwrap();
        assert_eq!(shown, format!("{}***", "x".repeat(before)));
    }
}

#[test]
fn statuses_are_judged_by_table() {
    for (status, expected) in [
        (200, None),
        (204, None),
        (301, Some(Hint::Refused)),
        (308, Some(Hint::Refused)),
        (400, Some(Hint::Refused)),
        (404, Some(Hint::Refused)),
        (408, Some(Hint::Retry)),
        (410, Some(Hint::Gone)),
        (425, Some(Hint::Retry)),
        (429, Some(Hint::Wait(None))),
        (500, Some(Hint::Retry)),
        (503, Some(Hint::Wait(None))),
        (599, Some(Hint::Retry)),
    ] {
        let hint = match judge(StatusCode::from_u16(status).unwrap(), None, NOW) {
            Judgement::Delivered => None,
            Judgement::Failed(failure) => Some(failure.hint),
        };
        assert_eq!(hint, expected, "{status}");
    }
}

#[test]
fn every_timeout_is_bounded() {
    let connector = HttpConnector::new(capture().0);
    let judge = |timeouts: serde_json::Value| {
        let target = json!({ "kind": "http", "url": "https://example.com/", "timeouts": timeouts });
        let violations = connector.validate(&target, "", &AddressPolicy::strict());
        violations.into_iter().map(|found| found.pointer).collect::<Vec<_>>()
    };
    for field in ["connect_ms", "headers_ms", "body_ms", "total_ms"] {
        for bad in [0, 120_001, u64::MAX] {
            assert_eq!(judge(json!({ field: bad })), [format!("/timeouts/{field}")], "{bad}");
        }
        for fine in [1, 120_000] {
            assert!(judge(json!({ field: fine })).is_empty(), "{field} {fine}");
        }
    }
    let both = judge(json!({ "connect_ms": 0, "body_ms": 0 }));
    assert_eq!(both, ["/timeouts/connect_ms", "/timeouts/body_ms"]);
}

#[test]
fn bad_targets_are_refused_with_pointers() {
    let connector = HttpConnector::new(capture().0);
    for (target, pointer, code) in [
        (json!({ "kind": "http", "url": "no" }), "/target/url", "url_invalid"),
        (json!({ "kind": "http", "url": "ftp://example.com/" }), "/target/url", "url_invalid"),
        (json!({ "kind": "http", "url": "http://127.0.0.1/" }), "/target/url", "address_denied"),
        (json!({ "kind": "http", "url": "http://[::1]/" }), "/target/url", "address_denied"),
        (json!({ "kind": "http", "url": "http://localhost/" }), "/target/url", "address_denied"),
        (
            json!({ "kind": "http", "url": "https://example.com/", "headers": { "Host": "x" } }),
            "/target/headers/Host",
            "header_invalid",
        ),
        (
            json!({ "kind": "http", "url": "https://example.com/", "headers": { "x": "a\nb" } }),
            "/target/headers/x",
            "header_invalid",
        ),
        (
            json!({ "kind": "http", "url": "https://example.com/", "timeouts": { "total_ms": 0 } }),
            "/target/timeouts/total_ms",
            "out_of_range",
        ),
        (
            json!({ "kind": "http", "url": "https://example.com/", "retries": 3 }),
            "/target",
            "malformed",
        ),
    ] {
        let violations = connector.validate(&target, "/target", &AddressPolicy::strict());
        assert_eq!(violations.len(), 1, "{target}: {violations:?}");
        assert_eq!((violations[0].pointer.as_str(), violations[0].code.as_str()), (pointer, code));
    }
    let fine = json!({ "kind": "http", "url": "https://example.com/hook" });
    assert!(connector.validate(&fine, "/target", &AddressPolicy::strict()).is_empty());
}

async fn sends(target: &serde_json::Value, body: &serde_json::Value) -> (Sent, Vec<EgressRequest>) {
    let (transport, seen) = capture();
    let event = NewEvent::json("acme", "order.paid", body)
        .unwrap()
        .accept(EventId::from_bytes([1; 16]), NOW, Revision::ZERO, &EventLimits::default())
        .unwrap();
    let outgoing = Outgoing {
        event: &event,
        delivery: DeliveryId::from_bytes([2; 16]),
        epoch: 1,
        number: 1,
        round: 0,
        body: event.body.clone(),
        now: NOW,
        trace: TraceContext::of_event(event.id),
        test: false,
    };
    let sent = bind(transport, target).send(outgoing).await;
    (sent, std::mem::take(&mut *seen.lock().unwrap()))
}

#[tokio::test]
async fn address_header_and_body_are_made_of_the_event() {
    let target = json!({
        "kind": "http",
        "url": "https://example.com/orders/{{data.id}}?of={{org}}",
        "headers": { "x-shop": "{{data.shop}}", "x-none": "{{data.none}}", "x-fixed": "1" },
        "body": { "text": "Order {{data.id}} is paid", "lines": "{{data.lines}}" },
    });
    let body = json!({ "id": "a/1", "shop": "Zoë\r\nx: y", "lines": [1, 2] });
    let (sent, requests) = sends(&target, &body).await;
    assert_eq!(requests[0].url.as_str(), "https://example.com/orders/a%2F1?of=acme");
    assert_eq!(requests[0].headers["x-shop"], "Zo%C3%AB%0D%0Ax: y");
    assert_eq!(requests[0].headers["x-fixed"], "1");
    assert!(!requests[0].headers.contains_key("x-none"));
    assert_eq!(requests[0].headers[CONTENT_TYPE], "application/json");
    assert_eq!(requests[0].body, r#"{"text":"Order a/1 is paid","lines":[1,2]}"#);
    assert_eq!(sent.exchange.unwrap().url, "https://example.com/orders/a%2F1?of=***");
}

#[tokio::test]
async fn a_template_without_its_value_sends_nothing() {
    let target = json!({ "kind": "http", "url": "https://example.com/orders/{{data.id}}" });
    for body in [json!({}), json!({ "id": ".." }), json!("secret")] {
        let (sent, requests) = sends(&target, &body).await;
        assert!(requests.is_empty());
        let Judgement::Failed(failure) = sent.judgement else { panic!("{body}") };
        assert_eq!((failure.class.as_str(), failure.hint), ("template_unfilled", Hint::Impossible));
        assert!(!failure.message.contains("secret"));
    }
}

#[test]
fn templates_are_checked_when_they_are_saved() {
    let (transport, _) = capture();
    let target = json!({
        "kind": "http",
        "url": "https://10.0.0.1/{{data.id}}",
        "headers": { "x-a": "{{data..x}}", "icp-delivery": "{{id}}" },
        "body": ["{{"],
    });
    let policy = AddressPolicy::strict();
    let found = HttpConnector::new(transport.clone()).validate(&target, "/target", &policy);
    let found: Vec<_> = found.iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect();
    assert_eq!(
        found,
        [
            ("/target/url", "address_denied"),
            ("/target/headers/icp-delivery", "header_invalid"),
            ("/target/headers/x-a", "header_invalid"),
            ("/target/body/0", "template_malformed"),
        ]
    );
    let target = json!({ "kind": "http", "url": "https://{{data.host}}/" });
    let found = HttpConnector::new(transport).validate(&target, "/target", &policy);
    assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), ("/target/url", "url_invalid"));
}
