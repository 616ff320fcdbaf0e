//! Test deliveries: the whole path, once, and nothing left behind.

use std::process::Command;

use icp::Code;
use icp::delivery::DeliveryState;
use icp::egress::{Client, StaticResolver};
use icp::event::EventQuery;
use icp::id::ResourceId;
use icp::integration::MatchReason;
use icp::integration::http::HttpConnector;
use icp::resource::{Actor, Expect, Revision};
use icp::signing::standard::StandardVerifier;
use icp::signing::{KeyRing, Verifier};
use icp::store::PageQuery;
use icp::trial::{Sample, TestOf, TestOutcome, TestReport};
use icp_testkit::receiver::{Behaviour, Reaction};
use serde_json::{Value, json};

use crate::stage::{Backend, SIGNING_SECRET, Stage};

crate::on_every_store! {
    a_test_takes_the_path_of_a_delivery_and_leaves_nothing,
    a_refused_test_is_sent_once_and_switches_nothing_off,
    nothing_is_sent_where_a_delivery_would_not_be_made,
    an_address_that_may_not_be_reached_is_not,
    a_command_sends_what_was_sent,
}

fn crm() -> TestOf {
    TestOf::Saved(ResourceId::new("crm").unwrap())
}

async fn test(stage: &Stage, of: TestOf, sample: Sample) -> TestReport {
    stage.engine.test_delivery(&stage.org, of, sample).await.unwrap()
}

async fn assert_nothing_is_stored(stage: &Stage, head: Revision) {
    assert!(stage.deliveries().await.is_empty());
    let events = stage.engine.events(&stage.org, &EventQuery::default()).await.unwrap();
    assert!(events.items.is_empty());
    assert!(stage.engine.lanes(&stage.org, PageQuery::default()).await.unwrap().items.is_empty());
    assert_eq!(stage.backend.store.head().await.unwrap(), head);
}

async fn a_test_takes_the_path_of_a_delivery_and_leaves_nothing(backend: Backend) {
    let stage = Stage::new(backend).await;
    let auth = json!({ "type": "bearer", "token": "hush-hush" });
    let map = json!([{ "map": { "rules": [{ "from": "order", "target": "number" }] } }]);
    stage.integration("crm", json!({ "auth": auth, "transform": map })).await;
    let head = stage.backend.store.head().await.unwrap();
    let sample = stage.event("order.paid", &json!({ "order": 17 }));
    let report = test(&stage, crm(), Sample::of(sample)).await;

    assert_eq!(report.outcome, TestOutcome::Delivered);
    assert_eq!(report.matching, Some(MatchReason::Matched));
    let received = stage.receiver.requests("/crm").pop().unwrap();
    assert_eq!(received.header("icp-test"), "true");
    assert_eq!(received.header("authorization"), "Bearer hush-hush");
    assert_eq!(received.id(), report.event.to_string());
    test(&stage, crm(), Sample::default()).await;
    let parents: Vec<_> = stage
        .receiver
        .requests("/crm")
        .iter()
        .map(|request| request.header("traceparent")[36..52].to_owned())
        .collect();
    assert!(parents.len() == 2 && parents[0] != parents[1], "{parents:?}");
    assert!(!parents.contains(&"0000000000000001".to_owned()), "{parents:?}");
    let keys = KeyRing::single(SIGNING_SECRET.into());
    let verifier = StandardVerifier::new(&keys).unwrap();
    verifier.verify(&received.headers, &received.body, received.at).unwrap();

    let request = report.request.as_ref().unwrap();
    assert_eq!(request.url, stage.receiver.url("/crm"));
    assert_eq!(request.body, received.body);
    assert_eq!(received.body, r#"{"order":17,"number":17}"#);
    for (name, value) in &request.headers {
        let sent = if name == "authorization" { "Bearer hush-hush" } else { value };
        assert_eq!(received.header(name), sent, "{name}");
    }
    assert_eq!(report.response.as_ref().unwrap().status, 200);
    assert!(report.timings.total > 0);
    assert!(!format!("{report:?}").contains("hush-hush"));
    assert_nothing_is_stored(&stage, head).await;
    stage.end().await;
}

async fn a_refused_test_is_sent_once_and_switches_nothing_off(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let head = stage.backend.store.head().await.unwrap();
    for (count, reaction) in [
        Reaction::Status(500),
        Reaction::Status(410),
        Reaction::RetryAfter(429, 9),
        Reaction::Redirect(stage.receiver.url("/elsewhere")),
        Reaction::Reset,
    ]
    .into_iter()
    .enumerate()
    {
        stage.receiver.behave("/crm", Behaviour::Always(reaction.clone()));
        let report = test(&stage, crm(), Sample::default()).await;
        assert!(matches!(report.outcome, TestOutcome::Failed { .. }), "{report:?}");
        assert_eq!(report.response.is_none(), reaction == Reaction::Reset);
        assert!(report.enabled);
        assert_eq!(stage.receiver.requests("/crm").len(), count + 1);
    }
    assert!(stage.receiver.requests("/elsewhere").is_empty());
    assert_nothing_is_stored(&stage, head).await;
    stage.end().await;
}

async fn nothing_is_sent_where_a_delivery_would_not_be_made(backend: Backend) {
    let stage = Stage::new(backend).await;
    let filter = json!({ "data.total": { "$gt": 100 } });
    let map = json!([{ "map": { "drop": { "when": { "test": true }, "reason": "no tests" } } }]);
    stage.integration("crm", json!({ "filter": filter, "transform": map })).await;
    let sample = |total: u32| stage.event("order.paid", &json!({ "total": total, "test": true }));

    let report = test(&stage, crm(), Sample::of(sample(1))).await;
    assert_eq!(report.outcome, TestOutcome::Unmatched);
    assert!(matches!(report.matching, Some(MatchReason::Filter { .. })));
    for sample in [Sample::of(sample(101)), Sample::of(sample(1)).even_unmatched()] {
        let report = test(&stage, crm(), sample).await;
        assert_eq!(report.outcome, TestOutcome::Dropped { reason: "no tests".into() });
    }
    let draft =
        json!([{ "map": { "rules": [{ "from": "gone", "target": "x", "required": true }] } }]);
    let draft = stage.spec("crm", json!({ "transform": draft }));
    let report = test(&stage, TestOf::Draft(draft), Sample::default()).await;
    let TestOutcome::Untransformed { class, .. } = &report.outcome else { panic!("{report:?}") };
    assert!(class.starts_with("transform_"), "{class}");

    let expired = json!([{ "secret": SIGNING_SECRET, "expires_at": "2020-01-01T00:00:00Z" }]);
    let draft = stage.spec("crm", json!({ "signing": { "keys": expired } }));
    let report = test(&stage, TestOf::Draft(draft), Sample::default()).await;
    let TestOutcome::Unsent { class, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(class, "signing_failed");
    assert!(stage.receiver.requests("/crm").is_empty());
    stage.end().await;
}

/// Names that lead into a network which may not be reached, however they are entered.
async fn an_address_that_may_not_be_reached_is_not(backend: Backend) {
    let resolver = StaticResolver::new().with("inside.example", ["10.0.0.1".parse().unwrap()]);
    let client = Client::builder().resolver(resolver).native_roots(false).build().unwrap();
    let connector = HttpConnector::new(client.into_transport());
    let engine = backend.builder().connector(connector).build().unwrap();
    let stage = Stage::with(backend, engine).await;
    let to = |url: &str| stage.spec("crm", json!({ "target": { "kind": "http", "url": url } }));
    let draft = TestOf::Draft(to("https://inside.example/"));
    let report = test(&stage, draft, Sample::default()).await;
    let TestOutcome::Unsent { class, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(class, "address_denied");
    for url in ["https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest"] {
        let draft = TestOf::Draft(to(url));
        let refused = stage.engine.test_delivery(&stage.org, draft, Sample::default()).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code(), Code::ResourceInvalid);
        assert_eq!(error.list()[0].pointer, "/spec/target/url");
    }
    let egress = json!({ "egress": { "allow": ["10.0.0.0/8"], "ports": [443, 9443] } });
    let id = ResourceId::new("acme").unwrap();
    let (patch, actor) = (json!({ "spec": egress }), Actor::engine());
    let resources = stage.engine.resources();
    let expect = Expect::Present;
    resources.merge_patch(&stage.org, "organization", &id, &patch, expect, &actor).await.unwrap();
    for url in ["https://10.0.0.1/", "https://inside.example:9443/"] {
        stage.integration("crm", json!({ "target": { "kind": "http", "url": url } })).await;
        stage.delete("crm").await;
    }
    let draft = TestOf::Draft(to("https://10.0.0.1:8443/"));
    let refused = stage.engine.test_delivery(&stage.org, draft, Sample::default()).await;
    assert_eq!(refused.unwrap_err().list()[0].code, "address_denied");
    stage.end().await;
}

/// The command of an attempt, as a shell reads it.
async fn a_command_sends_what_was_sent(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let body: Value = json!({ "it's": "$(id) `x` \\ \"q\" \n é" });
    stage.publish("order.paid", &body).await;
    let delivery = stage.only(DeliveryState::Delivered).await;
    let shown = stage.engine.attempt_curl(&stage.org, delivery.id, 1, None).await.unwrap();
    assert_eq!(shown.notes, ["the signatures are of now, by the keys of now"]);
    let printed =
        format!("curl() {{ for word; do printf '%s\\n' \"$word\"; done; }}\n{}", shown.command);
    let output = Command::new("sh").arg("-c").arg(printed).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    let sent = stage.receiver.requests("/crm").pop().unwrap();
    assert!(words.contains(&format!("--url\n{}\n", stage.receiver.url("/crm"))), "{words}");
    assert!(words.ends_with(&format!("--data-raw\n{}\n", str::from_utf8(&sent.body).unwrap())));
    for name in ["webhook-id", "icp-attempt", "icp-delivery", "icp-epoch", "content-type"] {
        assert!(words.contains(&format!("--header\n{name}: {}\n", sent.header(name))), "{words}");
    }
    stage.end().await;
}
