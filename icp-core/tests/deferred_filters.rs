//! Filters that matching leaves open: judged by the transformer before each attempt.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icp_core::delivery::{AttemptOutcome, AttemptTimings, Delivery, DeliveryQuery, DeliveryState};
use icp_core::egress::AddressPolicy;
use icp_core::error::{Code, Error, Result, Violation};
use icp_core::event::NewEvent;
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::filter::Verdict;
use icp_core::integration::{
    Binding, Connector, Integration, Judgement, MatchReason, Outgoing, Preview, Sent,
};
use icp_core::resource::{Actor, Document, Draft};
use icp_core::store::MemoryStore;
use icp_core::time::{Timestamp, TokioClock};
use icp_core::transform::{
    InPlace, Outcome, Plan, Report, TransformContext, TransformError, Transformer,
};
use icp_core::trial::{DryRunOn, FilterOf, Sample, TestOf, TestOutcome};
use icp_core::{Engine, transform};
use serde_json::{Value, json};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const SORTED: &str = "sort_by(data.lines, &n)[0].n == `1`";

/// Runs JMESPath in this process, unless it is out of order.
#[derive(Clone, Debug, Default)]
struct Judge {
    out_of_order: Arc<AtomicBool>,
}

#[async_trait]
impl Transformer for Judge {
    async fn check(&self, plan: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        let wrong = |program: &transform::Program| {
            let error = jpx_core::parse(program.source()).err()?;
            let error = TransformError::new("compile", error.reason.to_string());
            Some(error.at_pointer(program.pointer()))
        };
        let found: Vec<_> = plan.programs().filter_map(wrong).collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        _: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        if self.out_of_order.load(Ordering::SeqCst) {
            return Err(TransformError::new("overloaded", "later").retryable());
        }
        let document: Value = serde_json::from_slice(&input).unwrap();
        let source = plan.programs().next().unwrap().source();
        if source.contains("'slow'") {
            return Err(TransformError::new("timeout", "too slow"));
        }
        let runtime = jpx_core::Runtime::strict();
        let ast = jpx_core::parse(source).unwrap();
        let found = jpx_core::Expression::new(source, ast, &runtime).search(&document);
        let value = found.map_err(|e| TransformError::new("runtime", e.reason.to_string()))?;
        Ok(Report::new(Outcome::Value(value.to_string().into())))
    }
}

/// Takes everything.
#[derive(Clone, Debug)]
struct Desk;

impl Connector for Desk {
    fn kind(&self) -> &'static str {
        "desk"
    }

    fn validate(&self, _: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }

    fn bind(&self, _: Binding<'_>) -> Result<Arc<dyn Integration>> {
        Ok(Arc::new(Self))
    }
}

#[async_trait]
impl Integration for Desk {
    async fn send(&self, _: Outgoing<'_>) -> Sent {
        let timings = AttemptTimings::default();
        Sent { judgement: Judgement::Delivered, status: None, timings, exchange: None }
    }

    fn preview(&self, outgoing: &Outgoing<'_>) -> Result<Preview> {
        let (method, url) = ("POST".to_owned(), "desk:".to_owned());
        Ok(Preview { method, url, headers: Vec::new(), body: outgoing.body.clone() })
    }
}

struct Stage {
    engine: Engine,
    org: OrgId,
}

impl Stage {
    async fn with(transformer: impl Transformer) -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000));
        let builder = Engine::builder(MemoryStore::new()).clock(clock).connector(Desk);
        let engine = builder.transformer(transformer).build().unwrap();
        let stage = Self { engine, org: OrgId::new("acme").unwrap() };
        stage.create("organization", None, json!({})).await.unwrap();
        stage
    }

    async fn create(&self, kind: &str, name: Option<&str>, spec: Value) -> Result<Document> {
        let id = name.map(|name| ResourceId::new(name).unwrap());
        let draft = Draft { id, spec, ..Draft::default() };
        self.engine.resources().create(&self.org, kind, draft, &Actor::host()).await
    }

    async fn integration(&self, name: &str, expression: &str) -> Result<Document> {
        let filter = json!({ "jmespath": expression });
        let spec = json!({ "events": ["order.*"], "target": { "kind": "desk" }, "filter": filter });
        self.create("integration", Some(name), spec).await
    }

    fn event(&self, lines: &Value) -> NewEvent {
        NewEvent::json(self.org.as_str(), "order.paid", &json!({ "lines": lines })).unwrap()
    }

    async fn delivery(&self, integration: &str) -> Delivery {
        let found = self.engine.deliveries(&self.org, &DeliveryQuery::default()).await.unwrap();
        let mut items = found.items.into_iter();
        items.find(|delivery| delivery.integration.as_str() == integration).unwrap()
    }
}

fn codes(error: &Error) -> Vec<(&str, &str)> {
    assert_eq!(error.code(), Code::ResourceInvalid);
    error.list().iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_made_and_judged_before_it_is_sent() {
    let stage = Stage::with(Judge::default()).await;
    for (name, expression) in [
        ("wanted", SORTED),
        ("unwanted", "sort_by(data.lines, &n)[0].n == `2`"),
        ("failing", "sort_by(data.lines, &n)[0].n | length(@) == `2` && join('', data.lines)"),
        ("slow", "'slow' == sort(data.lines)"),
    ] {
        stage.integration(name, expression).await.unwrap();
    }
    let published = stage.engine.publish(stage.event(&json!([{ "n": 2 }, { "n": 1 }]))).await;
    assert_eq!(published.unwrap().deliveries, 4, "all are made, and none is judged as yet");
    let running = stage.engine.start().await.unwrap();
    sleep(5 * SECOND).await;
    running.shutdown(SECOND).await;
    for (name, state, code) in [
        ("wanted", DeliveryState::Delivered, None),
        ("unwanted", DeliveryState::Skipped, Some("filtered")),
        ("failing", DeliveryState::Skipped, Some("filtered")),
        ("slow", DeliveryState::Dead, Some("impossible")),
    ] {
        let delivery = stage.delivery(name).await;
        let reason = delivery.reason.as_ref().map(|reason| &*reason.code);
        assert_eq!((delivery.state, reason), (state, code), "{name} {:?}", delivery.reason);
    }
    let attempts = stage.engine.attempts(&stage.org, stage.delivery("slow").await.id).await;
    assert_eq!(attempts.unwrap()[0].outcome, AttemptOutcome::Failed("filter_timeout".into()));
    assert!(stage.engine.verify().await.unwrap().is_clean());
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_judged_is_tried_again() {
    let judge = Judge::default();
    let stage = Stage::with(judge.clone()).await;
    stage.integration("wanted", SORTED).await.unwrap();
    judge.out_of_order.store(true, Ordering::SeqCst);
    stage.engine.publish(stage.event(&json!([{ "n": 1 }]))).await.unwrap();
    let running = stage.engine.start().await.unwrap();
    sleep(SECOND).await;
    let delivery = stage.delivery("wanted").await;
    let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
    assert!(!delivery.state.is_final() && !attempts.is_empty(), "{delivery:?}");
    judge.out_of_order.store(false, Ordering::SeqCst);
    sleep(3_600 * SECOND).await;
    assert_eq!(stage.delivery("wanted").await.state, DeliveryState::Delivered);
    running.shutdown(SECOND).await;
}

#[tokio::test]
async fn it_is_saved_only_where_it_can_be_run() {
    let stage = Stage::with(Judge::default()).await;
    let refused = stage.integration("a", &format!("{}{SORTED}", "(".repeat(40))).await;
    let refused = refused.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/filter/jmespath", "transform_compile")]);
    let refused = stage.integration("a", "srt_by(data.lines, &n)").await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/filter/jmespath", "filter_invalid")]);
    let drop = json!({ "when": { "jmespath": SORTED }, "reason": "no" });
    let spec = json!({
        "events": ["*"], "target": { "kind": "desk" }, "transform": [{ "map": { "drop": drop } }],
    });
    let refused = stage.create("integration", Some("a"), spec).await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/transform/0/map/drop/when/jmespath", "filter_invalid")]);

    let without = Stage::with(InPlace).await;
    let refused = without.integration("a", SORTED).await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/filter/jmespath", "transform_no_sandbox")]);
    assert!(refused.message().contains("simplify it"), "{refused}");
}

#[tokio::test]
async fn tests_and_dry_runs_judge_it_too() {
    let judge = Judge::default();
    let stage = Stage::with(judge.clone()).await;
    stage.integration("crm", SORTED).await.unwrap();
    let crm = ResourceId::new("crm").unwrap();
    let (engine, org) = (&stage.engine, &stage.org);
    let test = |n: u32| {
        let sample = Sample::of(stage.event(&json!([{ "n": n }])));
        engine.test_delivery(org, TestOf::Saved(crm.clone()), sample)
    };
    assert_eq!(test(1).await.unwrap().outcome, TestOutcome::Delivered);
    let report = test(2).await.unwrap();
    assert_eq!(report.outcome, TestOutcome::Unmatched);
    assert!(matches!(report.matching, Some(MatchReason::Filter { .. })));

    let on = |n: u32| DryRunOn::Given(Box::new(stage.event(&json!([{ "n": n }]))));
    let ask = |n: u32| engine.dry_run_filter(org, FilterOf::Saved(crm.clone()), on(n));
    let report = ask(1).await.unwrap();
    assert_eq!((report.verdict, report.value), (Verdict::Match, Some(json!(true))));
    assert!(report.deferred);
    assert_eq!(ask(2).await.unwrap().value, Some(json!(false)));

    judge.out_of_order.store(true, Ordering::SeqCst);
    let TestOutcome::Untransformed { class, .. } = test(1).await.unwrap().outcome else {
        panic!("it was judged");
    };
    assert_eq!(class, "filter_overloaded");
    let report = ask(1).await.unwrap();
    assert!(report.fault.is_some() && matches!(report.verdict, Verdict::NoMatch { .. }));
}
