//! The ABI through its exported functions: every rule of the header, as a host meets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "the tests call the C ABI")]

mod support;

use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use icp_ffi::abi::*;
use icp_ffi::op::Op;
use icp_ffi::reference::ABI_VERSION;
use icp_testkit::receiver::Receiver;
use serde_json::{Value, json};
use support::{Embedded, completions, new_engine, told};

/// A receiver on a runtime of its own: the host waits on this thread.
fn receiver() -> (tokio::runtime::Runtime, Receiver) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let receiver = runtime.block_on(Receiver::start());
    (runtime, receiver)
}

#[test]
fn an_event_goes_from_submit_to_the_receiver() {
    let (_runtime, receiver) = receiver();
    let mut host = Embedded::started();
    let target = json!({ "kind": "http", "url": receiver.url("/hook") });
    host.integration("crm", &json!({ "events": ["order.*"], "target": target }));
    let published = host.publish(&json!({ "order": 17 }));
    assert_eq!(published["deliveries"], 1);
    let deliveries = host.ended(&published);
    assert_eq!(deliveries[0]["state"], "delivered");
    assert_eq!(receiver.requests("/hook").len(), 1);
    let id = &deliveries[0]["id"];
    let one = host.ask(Op::DeliveryGet, &json!({ "org": "acme", "id": id })).unwrap();
    assert_eq!(one["id"], *id);
    let tries = host.ask(Op::DeliveryAttempts, &json!({ "org": "acme", "id": id })).unwrap();
    assert_eq!(tries["items"][0]["status"], 200);
    let again = host.ask(Op::DeliveryRetry, &json!({ "org": "acme", "id": id })).unwrap();
    assert_eq!(again["replay_of"], *id);
    let wait = json!({ "org": "acme", "delivery": again["id"] });
    let ended = host.ask(Op::DeliveryWait, &wait).unwrap();
    assert_eq!(ended["items"][0]["state"], "delivered");
    assert_eq!(receiver.requests("/hook").len(), 2);
    let event = json!({ "org": "acme", "id": published["id"] });
    let event = host.ask(Op::EventGet, &event).unwrap();
    assert_eq!(event["data"], json!({ "order": 17 }));
    let drained = host.ask(Op::Shutdown, &json!({ "drain_ms": 5_000 })).unwrap();
    assert_eq!(drained["unsettled"], 0);
    let late = host.ask(Op::Publish, &json!({})).unwrap_err();
    assert_eq!((late.0, &late.1["name"]), (4, &json!("CLOSED")));
}

#[test]
fn resources_are_made_changed_listed_and_deleted() {
    let mut host = Embedded::started();
    let spec = |url: &str| json!({ "events": ["a.b"], "target": { "kind": "http", "url": url } });
    host.integration("one", &spec("http://127.0.0.1:1/a"));
    host.integration("one", &spec("http://127.0.0.1:1/b"));
    let one = json!({ "kind": "integration", "org": "acme", "id": "one" });
    let shown = host.ask(Op::ResourceGet, &one).unwrap();
    assert_eq!(
        (&shown["version"], &shown["spec"]["target"]["url"]),
        (&json!(2), &json!("http://127.0.0.1:1/b"))
    );
    let mut stale = one.clone();
    stale["revision"] = json!(1);
    stale["document"] = json!({ "spec": spec("http://127.0.0.1:1/c") });
    let refused = host.ask(Op::ResourcePut, &stale).unwrap_err();
    assert_eq!((refused.0, &refused.1["cause"]), (3, &json!("revision_conflict")));
    let mut bad = one.clone();
    bad["document"] = json!({ "spec": spec("nonsense") });
    let refused = host.ask(Op::ResourcePut, &bad).unwrap_err();
    assert_eq!((refused.0, &refused.1["path"]), (1, &json!("/spec/target/url")), "{refused:?}");
    let many = json!({ "kind": "integration", "org": "acme", "query": { "limit": 10 } });
    let list = host.ask(Op::ResourceList, &many).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    host.ask(Op::ResourceDelete, &one).unwrap();
    assert_eq!(host.ask(Op::ResourceGet, &one).unwrap_err().0, 2);
    let unknown = json!({ "kind": "nonsense", "org": "acme", "id": "x" });
    assert_eq!(host.ask(Op::ResourceGet, &unknown).unwrap_err().1["cause"], "kind_unknown");
    let any = json!({ "method": "GET", "path": "/api/v1/organizations/acme/audit" });
    let audit = host.ask(Op::Api, &any).unwrap();
    assert_eq!(audit["items"][0]["actor"]["name"], "host", "{audit}");
}

#[test]
fn several_events_are_answered_one_by_one() {
    let mut host = Embedded::started();
    let events = json!([
        { "org": "acme", "type": "a.b", "data": null },
        { "org": "acme", "type": "a b", "data": 1 },
        { "org": "acme", "type": "a.b" },
        { "org": "nobody", "type": "a.b", "data": 1 },
        { "type": "a.b", "data": 1 },
        { "org": "acme", "type": "a.b", "data": 2 },
    ]);
    let tag = host.submit(Op::PublishMany.number(), events.to_string().as_bytes()).unwrap();
    let answers = host.completion(tag).unwrap();
    assert!(answers[0]["id"].is_string() && answers[5]["id"].is_string(), "{answers}");
    let causes: Vec<_> = (1..5).map(|index| answers[index]["error"].clone()).collect();
    assert_eq!(causes[0]["cause"], "event_type_invalid");
    assert_eq!(causes[1]["path"], "/data");
    assert_eq!(causes[2]["cause"], "organization_unknown");
    assert_eq!(causes[3]["path"], "/org");
    for not_a_list in ["{}", "[", ""] {
        let tag = host.submit(Op::PublishMany.number(), not_a_list.as_bytes()).unwrap();
        assert_eq!(host.completion(tag).unwrap_err().0, 1, "{not_a_list}");
    }
}

#[test]
fn what_is_not_acceptable_is_refused_with_a_reason() {
    let mut host = Embedded::started();
    assert_eq!(host.submit(9_999, b"").unwrap_err().0, 10);
    for op in Op::ALL.iter().filter(|op| !matches!(op, Op::Health | Op::Metrics | Op::Shutdown)) {
        for bad in [&b"\xff\xfe"[..], b"[1", b"{\"nonsense\":1}", b"7"] {
            let tag = host.submit(op.number(), bad).unwrap();
            let (status, error) = host.completion(tag).unwrap_err();
            let expected = if *op == Op::Start && bad.is_empty() { 3 } else { 1 };
            assert_eq!(status, expected, "{} {error}", op.name());
            assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }
    assert_eq!(host.ask(Op::Start, &json!({})).unwrap_err().0, 3, "it runs");
    let health = host.ask(Op::Health, &json!({})).unwrap();
    assert_eq!(health["ready"], true);
    let metrics = host.ask(Op::Metrics, &json!({})).unwrap();
    assert!(metrics.as_str().unwrap().contains("icp_"));
}

#[test]
fn null_pointers_and_other_versions_are_refused() {
    unsafe {
        let mut error = ptr::null_mut();
        let none = ptr::null_mut();
        assert_eq!(icp_engine_new(ABI_VERSION, ptr::null(), 5, none, &mut error), 1);
        assert_eq!(told(error).0, 1);
        let mut engine = ptr::null_mut();
        for other in [2 << 16, ABI_VERSION + 1, 0] {
            assert_eq!(icp_engine_new(other, ptr::null(), 0, &mut engine, &mut error), 11);
            assert!(told(error).1["message"].as_str().unwrap().contains("abi"));
        }
        assert!(engine.is_null());
        let null = ptr::null_mut();
        assert_eq!(icp_submit(null, null.cast(), 1, 1, ptr::null(), 0, ptr::null_mut()), 1);
        assert_eq!(icp_cancel(null, null.cast(), 1), 1);
        assert_eq!(icp_respond(null, 1, 0, ptr::null(), 0), 1);
        assert_eq!(icp_queue_fd(ptr::null()), -1);
        assert_eq!(icp_queue_drain(ptr::null_mut(), ptr::null_mut(), 0, 0, ptr::null_mut()), -1);
        assert_eq!(icp_error_code(ptr::null()), 0);
        assert!(icp_error_message(ptr::null()).is_null());
        icp_engine_free(null);
        icp_queue_free(ptr::null_mut());
        icp_queue_wake(ptr::null_mut());
        icp_error_free(ptr::null_mut());
        icp_buf_free(ptr::null_mut(), 0);
    }
    let (status, error) = new_engine(r#"{"store":"memory:","threads":"x"}"#).unwrap_err();
    assert_eq!((status, &error["path"]), (1, &json!("/threads")));
}

#[test]
fn a_panic_is_a_completion_and_the_engine_goes_on() {
    let mut host = Embedded::fresh(&json!({ "store": "memory:" }));
    let tag = host.submit(Op::Start.number(), br#"{"fault":"panic"}"#).unwrap();
    assert_eq!(host.completion(tag).unwrap_err().0, 98);
    host.ask(Op::Start, &json!({})).unwrap();
}

#[test]
fn beyond_what_may_be_under_way_it_is_busy_until_something_is_drained() {
    let mut host = Embedded::started_with(&json!({ "store": "memory:", "max_in_flight": 4 }));
    let tags: Vec<_> = (0..4).map(|_| host.submit(Op::Health.number(), b"").unwrap()).collect();
    let (status, error) = host.submit(Op::Health.number(), b"").unwrap_err();
    assert_eq!((status, &error["retryable"]), (7, &json!(true)));
    tags.into_iter().for_each(|tag| drop(host.completion(tag).unwrap()));
    assert!(host.submit(Op::Health.number(), b"").is_ok());
}

#[test]
fn a_wait_is_called_off_and_nothing_else() {
    let (_runtime, receiver) = receiver();
    receiver.behave("/hang", icp_testkit::receiver::Reaction::Hang);
    let mut host = Embedded::started();
    let target = json!({ "kind": "http", "url": receiver.url("/hang") });
    host.integration("crm", &json!({ "events": ["order.*"], "target": target }));
    let published = host.publish(&json!(1));
    let wait = json!({ "org": "acme", "event": published["id"] }).to_string();
    let tag = host.submit(Op::DeliveryWait.number(), wait.as_bytes()).unwrap();
    assert_eq!(unsafe { icp_cancel(host.engine, host.queue, tag) }, 0);
    assert_eq!(host.completion(tag).unwrap_err().0, 5);
    assert_eq!(unsafe { icp_cancel(host.engine, host.queue, tag) }, 14);
    let short = json!({ "org": "acme", "event": published["id"], "timeout_ms": 1 });
    assert_eq!(host.ask(Op::DeliveryWait, &short).unwrap_err().0, 6);
}

#[test]
fn a_thread_may_wait_for_an_operation() {
    let host = Embedded::started();
    let call = |op: Op, body: &str, timeout: i64| unsafe {
        let (mut out, mut len, mut error) = (ptr::null_mut(), 0, ptr::null_mut());
        let (data, size) = (body.as_ptr(), body.len());
        let number = op.number();
        let status =
            icp_call(host.engine, number, data, size, timeout, &mut out, &mut len, &mut error);
        if status != 0 {
            assert!(out.is_null() && len == 0);
            return Err(told(error).0);
        }
        let answer: Value = serde_json::from_slice(std::slice::from_raw_parts(out, len)).unwrap();
        icp_buf_free(out, len);
        Ok(answer)
    };
    let event = json!({ "org": "acme", "type": "a.b", "data": 1 }).to_string();
    let published = call(Op::Publish, &event, -1).unwrap();
    assert!(published["id"].is_string());
    let subscribe = r#"{"org":"acme","stream":"changes"}"#;
    assert_eq!(call(Op::Subscribe, subscribe, -1), Err(1), "its items need a queue");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(async { call(Op::Health, "", -1) }), Err(15));
}

#[test]
fn what_is_followed_comes_in_order_until_it_is_ended() {
    let mut host = Embedded::started();
    let follow = json!({ "org": "acme", "stream": "changes" }).to_string();
    let tag = host.submit(Op::Subscribe.number(), follow.as_bytes()).unwrap();
    host.completion(tag).unwrap();
    let target = json!({ "kind": "http", "url": "http://127.0.0.1:1/" });
    for id in ["one", "two"] {
        host.integration(id, &json!({ "events": ["a.b"], "target": target }));
    }
    let mut item = || host.wait(|record| record.kind == 4 && record.tag == tag).body;
    let (first, second) = (item(), item());
    assert_eq!((&first["item"]["id"], &second["item"]["id"]), (&json!("one"), &json!("two")));
    host.ask(Op::Unsubscribe, &json!({ "subscription": tag })).unwrap();
    let again = host.ask(Op::Unsubscribe, &json!({ "subscription": 4_711 })).unwrap_err();
    assert_eq!(again.0, 2);
    let resumed = json!({ "org": "acme", "stream": "changes", "after": first["cursor"] });
    let tag = host.submit(Op::Subscribe.number(), resumed.to_string().as_bytes()).unwrap();
    let item = host.wait(|record| record.kind == 4 && record.tag == tag).body;
    assert_eq!(item["item"]["id"], "two");
}

#[test]
fn a_transformation_and_a_target_of_the_host_are_asked() {
    let mut host = Embedded::started();
    for (name, kind) in [("enrich", "transformer"), ("crm", "target")] {
        let handler = json!({ "name": name, "kind": kind, "timeout_ms": 10_000 });
        host.ask(Op::HandlerRegister, &handler).unwrap();
    }
    host.integration(
        "crm",
        &json!({
            "events": ["order.*"],
            "transform": [{ "host": { "handler": "enrich", "config": { "vat": 19 } } }],
            "target": { "kind": "host", "handler": "crm", "config": { "list": "orders" } },
        }),
    );
    let published = host.publish(&json!({ "order": 17 }));
    let asked = host.wait(|record| record.kind == 2);
    assert_eq!(asked.body["handler"], "enrich");
    assert_eq!(asked.body["payload"], json!({ "order": 17 }));
    assert_eq!(asked.body["config"], json!({ "vat": 19 }));
    let respond = |id: u64, status: i32, body: &str| unsafe {
        icp_respond(host.engine, id, status, body.as_ptr(), body.len())
    };
    assert_eq!(respond(asked.tag, 0, r#"{"payload":{"order":17,"vat":19}}"#), 0);
    assert_eq!(respond(asked.tag, 0, "{}"), 13, "a second answer is harmless");
    assert_eq!(respond(4_711, 0, "{}"), 13);
    let asked = host.wait(|record| record.kind == 2);
    assert_eq!(asked.body["handler"], "crm");
    assert_eq!(asked.body["payload"], json!({ "order": 17, "vat": 19 }));
    assert_eq!(asked.body["config"], json!({ "list": "orders" }));
    let respond = |id: u64, status: i32, body: &str| unsafe {
        icp_respond(host.engine, id, status, body.as_ptr(), body.len())
    };
    assert_eq!(respond(asked.tag, 0, r#"{"status":201}"#), 0);
    let deliveries = host.ended(&published);
    assert_eq!(deliveries[0]["state"], "delivered");
    let id = json!({ "org": "acme", "id": deliveries[0]["id"] });
    let tries = host.ask(Op::DeliveryAttempts, &id).unwrap();
    assert_eq!(tries["items"][0]["status"], 201);
}

/// The state of the one delivery of an event once it has ended, and its last attempt.
fn last_attempt(host: &mut Embedded, published: &Value) -> (Value, Value) {
    let deliveries = host.ended(published);
    assert_eq!(deliveries.len(), 1);
    let id = json!({ "org": "acme", "id": deliveries[0]["id"] });
    let mut tries = host.ask(Op::DeliveryAttempts, &id).unwrap();
    let tries = tries["items"].as_array_mut().unwrap();
    (deliveries[0]["state"].clone(), tries.pop().unwrap_or_default())
}

#[test]
fn a_filter_of_the_host_lets_pass_drops_or_fails() {
    let (_runtime, receiver) = receiver();
    let mut host = Embedded::started();
    host.ask(Op::HandlerRegister, &json!({ "name": "large", "kind": "filter" })).unwrap();
    let step = json!({ "host_filter": { "handler": "large", "config": { "least": 5 } } });
    host.integration(
        "crm",
        &json!({
            "events": ["order.*"],
            "transform": [step],
            "target": { "kind": "http", "url": receiver.url("/hook") },
            "retry": { "max_attempts": 1 },
        }),
    );
    let failed = |class: &str| json!({ "failed": class });
    let unsaid = "the filter `large` does not let it pass";
    for (status, answer, state, outcome, message) in [
        (0, r#"{"pass":true}"#, "delivered", json!("delivered"), ""),
        (0, r#"{"pass":false,"reason":"too small"}"#, "skipped", json!("skipped"), "too small"),
        (0, r#"{"pass":false}"#, "skipped", json!("skipped"), unsaid),
        (0, r#"{"payload":{}}"#, "dead", failed("transform_output_invalid"), r#"{"pass": true}"#),
        (0, "true", "dead", failed("transform_output_invalid"), r#"{"pass": true}"#),
        (9, r#"{"message":"no disk"}"#, "dead", failed("transform_handler"), "no disk"),
    ] {
        let published = host.publish(&json!({ "order": 17 }));
        let asked = host.wait(|record| record.kind == 2);
        let told = (&asked.body["kind"], &asked.body["payload"], &asked.body["config"]);
        assert_eq!(told, (&json!("filter"), &json!({ "order": 17 }), &json!({ "least": 5 })));
        host.respond(asked.tag, status, answer);
        let (found, attempt) = last_attempt(&mut host, &published);
        assert_eq!((&found, &attempt["outcome"]), (&json!(state), &outcome), "{answer}");
        let shown = attempt["message"].as_str().unwrap_or_default();
        assert!(shown.contains(message), "{answer}: {shown}");
    }
    let received = receiver.requests("/hook");
    assert_eq!(received.len(), 1, "nothing but what passed is sent");
    assert_eq!(&received[0].body[..], br#"{"order":17}"#);
}

#[test]
fn a_signer_of_the_host_adds_header_fields_or_nothing_is_sent() {
    let (_runtime, receiver) = receiver();
    let mut host = Embedded::started();
    let signer = json!({ "name": "vault", "kind": "signer", "timeout_ms": 20_000 });
    host.ask(Op::HandlerRegister, &signer).unwrap();
    let integration = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": receiver.url("/hook"), "headers": { "x-shop": "7" } },
        "auth": { "type": "host", "handler": "vault", "config": { "key": "k1" } },
        "retry": { "max_attempts": 1 },
    });
    host.integration("crm", &integration);
    for (status, answer, class, message) in [
        (9, r#"{"message":"sealed"}"#, "signer_handler", "sealed"),
        (0, r#"{"headers":{"host":"a"}}"#, "signer_fields_invalid", "`host`"),
        (0, r#"{"headers":{"x-shop":"8"}}"#, "signer_fields_invalid", "`x-shop`"),
        (0, r#"{"headers":{"x-a":"1","X-A":"2"}}"#, "signer_fields_invalid", "twice"),
        (0, r#"{"headers":{}}"#, "signer_fields_invalid", "0 header fields"),
        (0, r#"{"headers":{"x-a":"1\r\nx-b: 2"}}"#, "signer_answer_invalid", r#"{"headers": "#),
        (0, r#"{"headers":{"x-a":1}}"#, "signer_answer_invalid", r#"{"headers": "#),
        (0, "{}", "signer_answer_invalid", r#"{"headers": "#),
    ] {
        let published = host.publish(&json!(1));
        let asked = host.wait(|record| record.kind == 2);
        host.respond(asked.tag, status, answer);
        let (state, attempt) = last_attempt(&mut host, &published);
        assert_eq!((&state, &attempt["outcome"]["failed"]), (&json!("dead"), &json!(class)));
        let shown = attempt["message"].as_str().unwrap_or_default();
        assert!(shown.contains(message), "{answer}: {shown}");
    }
    assert!(receiver.requests("/hook").is_empty());

    let published = host.publish(&json!({ "order": 17 }));
    let asked = host.wait(|record| record.kind == 2);
    let request = &asked.body["request"];
    assert_eq!(
        (&asked.body["kind"], &asked.body["config"], &asked.body["event"], &asked.body["payload"]),
        (&json!("signer"), &json!({ "key": "k1" }), &published["id"], &Value::Null)
    );
    assert_eq!(
        (&request["method"], &request["url"]),
        (&json!("POST"), &json!(receiver.url("/hook")))
    );
    assert_eq!(request["headers"]["x-shop"], "7");
    assert_eq!(request["headers"]["webhook-id"], published["id"]);
    assert_eq!(request["body_base64"], "eyJvcmRlciI6MTd9");
    host.respond(asked.tag, 0, r#"{"headers":{"Authorization":"Custom abc"}}"#);
    assert_eq!(last_attempt(&mut host, &published).0, "delivered");
    let received = receiver.requests("/hook");
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].headers["authorization"], "Custom abc");

    host.ask(Op::HandlerRemove, &json!({ "name": "vault", "kind": "signer" })).unwrap();
    let published = host.publish(&json!(1));
    let (state, attempt) = last_attempt(&mut host, &published);
    assert_eq!(
        (state, &attempt["outcome"]["failed"]),
        (json!("dead"), &json!("signer_no_handler"))
    );
}

#[test]
fn a_signer_that_does_not_answer_in_time_has_nothing_sent() {
    let (_runtime, receiver) = receiver();
    let mut host = Embedded::started();
    let signer = json!({ "name": "slow", "kind": "signer", "timeout_ms": 50 });
    host.ask(Op::HandlerRegister, &signer).unwrap();
    host.integration(
        "crm",
        &json!({
            "events": ["order.*"],
            "target": { "kind": "http", "url": receiver.url("/hook") },
            "auth": { "type": "host", "handler": "slow" },
            "retry": { "max_attempts": 1 },
        }),
    );
    let published = host.publish(&json!(1));
    let asked = host.wait(|record| record.kind == 2);
    let (state, attempt) = last_attempt(&mut host, &published);
    assert_eq!((state, &attempt["outcome"]["failed"]), (json!("dead"), &json!("signer_timeout")));
    host.wait(|record| record.kind == 3 && record.tag == asked.tag);
    let late = r#"{"headers":{"x-late":"1"}}"#;
    let (data, size) = (late.as_ptr(), late.len());
    let status = unsafe { icp_respond(host.engine, asked.tag, 0, data, size) };
    assert_eq!((status, receiver.requests("/hook").len()), (13, 0), "a late answer is harmless");
}

#[test]
fn an_event_source_of_the_host_is_polled_from_where_it_was() {
    let mut host = Embedded::started();
    let source = |document: Value| json!({ "org": "acme", "kind": "event_source", "id": "orders", "document": document });
    let spec = json!({
        "type": "orders", "config": { "table": "paid" }, "poll_seconds": 1, "batch": 2,
    });
    host.ask(Op::ResourcePut, &source(json!({ "spec": spec }))).unwrap();
    let handler = json!({ "name": "orders", "kind": "event_source" });
    host.ask(Op::HandlerRegister, &handler).unwrap();
    let first = host.wait(|record| record.kind == 2);
    let asked = first.body.clone();
    assert_eq!(
        (&asked["kind"], &asked["org"], &asked["source"], &asked["config"], &asked["checkpoint"]),
        (
            &json!("event_source"),
            &json!("acme"),
            &json!("orders"),
            &json!({ "table": "paid" }),
            &Value::Null
        )
    );
    assert_eq!((&asked["limit"], &asked["timeout_ms"]), (&json!(2), &json!(30_000)));
    // What is not taken is told, and asked for again.
    let bad =
        r#"{"events":[{"id":"1","type":"order.paid","data":1,"org":"globex"}],"checkpoint":1}"#;
    host.respond(first.tag, 0, bad);
    let again = host.wait(|record| record.kind == 2);
    assert_eq!(again.body["checkpoint"], Value::Null);
    let path = "/api/v1/organizations/acme/event-sources/orders/progress";
    let progress = json!({ "method": "GET", "path": path });
    let failing = host.ask(Op::Api, &progress).unwrap()["failing"].clone();
    assert_eq!(failing["code"], "answer_invalid");
    assert!(failing["message"].as_str().unwrap().contains("/events/0/org"), "{failing}");

    let two = r#"{"events":[{"id":"1","type":"order.paid","data":{"order":1}},
        {"id":"2","type":"order.paid","data":{"order":2}}],"checkpoint":2,"more":true}"#;
    host.respond(again.tag, 0, two);
    let third = host.wait(|record| record.kind == 2);
    assert_eq!(third.body["checkpoint"], 2);
    host.respond(third.tag, 0, "");
    let found = host.ask(Op::EventList, &json!({ "org": "acme" })).unwrap();
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
    let progress = host.ask(Op::Api, &progress).unwrap();
    assert_eq!((&progress["checkpoint"], &progress["events"]), (&json!(2), &json!(2)));
    assert_eq!(progress["failing"], Value::Null);
    host.ask(Op::HandlerRemove, &handler).unwrap();
}

#[test]
fn a_handler_that_refuses_makes_a_dead_letter_that_can_be_replayed() {
    let mut host = Embedded::started();
    host.ask(Op::HandlerRegister, &json!({ "name": "crm", "kind": "target" })).unwrap();
    let target = json!({ "kind": "host", "handler": "crm" });
    host.integration("crm", &json!({ "events": ["order.*"], "target": target }));
    let published = host.publish(&json!(1));
    let asked = host.wait(|record| record.kind == 2);
    let refusal = r#"{"failed":{"class":"quota","message":"none left","again":"impossible"}}"#;
    let (data, size) = (refusal.as_ptr(), refusal.len());
    assert_eq!(unsafe { icp_respond(host.engine, asked.tag, 0, data, size) }, 0);
    assert_eq!(host.ended(&published)[0]["state"], "dead");
    let letters = host.ask(Op::DeadLetterList, &json!({ "org": "acme" })).unwrap();
    let id = letters["items"][0]["id"].clone();
    assert!(id.is_string(), "{letters}");
    let replay = json!({ "org": "acme", "document": { "ids": [id] } });
    let replayed = host.ask(Op::DeadLetterReplay, &replay).unwrap();
    assert!(replayed["results"][0]["delivery"]["id"].is_string(), "{replayed}");
    let asked = host.wait(|record| record.kind == 2);
    assert_eq!(unsafe { icp_respond(host.engine, asked.tag, 0, ptr::null(), 0) }, 0);
    let wait = json!({ "org": "acme", "delivery": replayed["results"][0]["delivery"]["id"] });
    let ended = host.ask(Op::DeliveryWait, &wait).unwrap();
    assert_eq!(ended["items"][0]["state"], "delivered");
}

#[test]
fn dry_runs_and_tests_are_what_the_api_does() {
    let (_runtime, receiver) = receiver();
    let mut host = Embedded::started();
    let transform = json!([{ "map": { "remove": ["secret"] } }]);
    let sample = json!({ "type": "a.b", "data": { "secret": 1, "kept": 2 } });
    let document = json!({ "transform": transform, "sample": sample });
    let run = json!({ "org": "acme", "document": document });
    let made = host.ask(Op::DryRunTransform, &run).unwrap();
    assert!(made.to_string().contains("kept"), "{made}");
    let target = json!({ "kind": "http", "url": receiver.url("/test") });
    host.integration("crm", &json!({ "events": ["order.*"], "target": target }));
    let test = json!({ "org": "acme", "id": "crm", "document": {} });
    host.ask(Op::IntegrationTest, &test).unwrap();
    assert_eq!(receiver.requests("/test").len(), 1);
}

#[test]
fn every_accepted_submit_completes_once_while_the_engine_is_shut_down() {
    const EACH: u64 = 2_500;
    let mut host = Embedded::started_with(&json!({ "store": "memory:", "max_in_flight": 100_000 }));
    let event = json!({ "org": "acme", "type": "a.b", "data": 1 }).to_string();
    let stop = AtomicBool::new(false);
    let accepted: Vec<u64> = thread::scope(|scope| {
        let (host, event, stop) = (&host, &event, &stop);
        let producers: Vec<_> = (0..4)
            .map(|of| {
                scope.spawn(move || {
                    let tags = (0..EACH).map(|number| 1_000_000 * (of + 1) + number);
                    let submit = |tag: &u64| unsafe {
                        let (data, size, op) = (event.as_ptr(), event.len(), Op::Publish.number());
                        let none = ptr::null_mut();
                        icp_submit(host.engine, host.queue, op, *tag, data, size, none) == 0
                    };
                    let half = EACH as usize / 2;
                    tags.enumerate()
                        .inspect(|(index, _)| {
                            if *index == half {
                                stop.store(true, Ordering::Release);
                            }
                        })
                        .map(|(_, tag)| tag)
                        .filter(submit)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        while !stop.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let down = br#"{"drain_ms":0}"#;
        let (op, none) = (Op::Shutdown.number(), ptr::null_mut());
        let status =
            unsafe { icp_submit(host.engine, host.queue, op, 7, down.as_ptr(), down.len(), none) };
        assert_eq!(status, 0);
        producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
    });
    unsafe { icp_engine_free(host.engine) };
    host.engine = ptr::null_mut();
    while host.drain(-1) > 0 {}
    assert_eq!(host.drain(0), -4, "the queue says that nothing more comes");
    let mut expected: HashMap<u64, usize> = accepted.into_iter().map(|tag| (tag, 1)).collect();
    expected.insert(7, 1);
    assert_eq!(completions(&host.seen), expected);
}

#[test]
fn an_engine_that_is_freed_at_once_cancels_what_is_under_way() {
    let (_runtime, receiver) = receiver();
    receiver.behave("/hang", icp_testkit::receiver::Reaction::Hang);
    let mut host = Embedded::started();
    let target = json!({ "kind": "http", "url": receiver.url("/hang") });
    host.integration("crm", &json!({ "events": ["order.*"], "target": target }));
    let published = host.publish(&json!(1));
    let wait = json!({ "org": "acme", "event": published["id"] }).to_string();
    let tags: Vec<_> =
        (0..50).map(|_| host.submit(Op::DeliveryWait.number(), wait.as_bytes()).unwrap()).collect();
    unsafe { icp_engine_free(host.engine) };
    host.engine = ptr::null_mut();
    for tag in tags {
        assert_eq!(host.completion(tag).unwrap_err().0, 5);
    }
    assert_eq!(host.drain(-1), -4);
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "store": format!("sqlite:{}", folder.path().join("icp.db").display()),
        "key_file": folder.path().join("icp.key"),
    });
    let mut host = Embedded::started_with(&config);
    let published = host.publish(&json!({ "order": 1 }));
    drop(host);
    let mut host = Embedded::started_with(&config);
    let event = json!({ "org": "acme", "id": published["id"] });
    assert_eq!(host.ask(Op::EventGet, &event).unwrap()["data"], json!({ "order": 1 }));
    std::fs::remove_file(folder.path().join("icp.key")).unwrap();
    drop(host);
    let mut host = Embedded::fresh(&config);
    let refused = host.ask(Op::Start, &json!({})).unwrap_err();
    assert_eq!(refused.1["cause"], "key_unreadable");
}

#[test]
fn the_log_comes_out_of_the_queue() {
    let mut host = Embedded::fresh(&json!({ "store": "memory:" }));
    let mut error = ptr::null_mut();
    assert_eq!(unsafe { icp_log_to_queue(host.queue, 9, &mut error) }, 1);
    assert_eq!(told(error).0, 1);
    assert_eq!(unsafe { icp_log_to_queue(host.queue, 3, ptr::null_mut()) }, 0);
    host.ask(Op::Start, &json!({})).unwrap();
    let line = host.wait(|record| record.kind == 5 && record.body["message"] == "the engine runs");
    assert_eq!(line.body["level"], "info");
    assert_eq!(unsafe { icp_log_to_queue(ptr::null_mut(), 0, ptr::null_mut()) }, 0);
}
