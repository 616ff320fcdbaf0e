//! Dry runs: what a transformation and a filter make of an event, and that nothing is left.

#![expect(clippy::unwrap_used, reason = "a setup that fails is a test that fails")]
#![cfg(feature = "http")]

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icp_core::Engine;
use icp_core::engine::EngineConfig;
use icp_core::error::{Code, Error};
use icp_core::event::{EventQuery, EventType, NewEvent};
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::filter::{Filter, Verdict};
use icp_core::resource::{Actor, Draft, ResourceStore};
use icp_core::store::{MemoryStore, PageQuery};
use icp_core::transform::{
    Frame, InPlace, Origin, Outcome, Plan, PlanSpec, Position, Report, TransformContext,
    TransformError, Transformer,
};
use icp_core::trial::{DryRunOn, FilterOf, TransformOf, TransformOutcome};
use serde_json::{Value, json};

/// Maps as ever; a program fails where its text is `fail`, else it tells and passes on.
#[derive(Debug)]
struct Programs;

#[async_trait]
impl Transformer for Programs {
    async fn check(&self, _: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        Ok(())
    }

    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        let Some(program) = plan.programs().next() else {
            return InPlace.run(plan, input, cx).await;
        };
        let console = vec!["seen".to_owned()];
        if program.source() == "fail" {
            let at = Position { line: 1, column: 3 };
            let frames = vec![Frame { function: None, at }];
            let origin = Origin { at: Some(at), frames, console, ..Origin::default() };
            let error = TransformError::new("runtime", "it fails").at_pointer(program.pointer());
            return Err(error.in_program(origin));
        }
        let cpu = Duration::from_millis(3);
        let warnings = vec!["an integer was rounded".to_owned()];
        let heap_bytes = cx.measure.then_some(9);
        let report = Report::new(Outcome::Value(input));
        Ok(Report { console, cpu, warnings, heap_bytes, ..report })
    }
}

struct Bench {
    store: MemoryStore,
    engine: Engine,
    org: OrgId,
}

impl Bench {
    async fn with(config: EngineConfig) -> Self {
        let store = MemoryStore::new();
        let engine = Engine::builder(store.clone()).config(config).transformer(Programs);
        let bench =
            Self { store, engine: engine.build().unwrap(), org: OrgId::new("acme").unwrap() };
        bench.create("organization", None, json!({ "units": [{ "id": "eu" }] })).await;
        bench
    }

    async fn open() -> Self {
        Self::with(EngineConfig::default()).await
    }

    async fn create(&self, kind: &str, name: Option<&str>, spec: Value) {
        let id = name.map(|name| ResourceId::new(name).unwrap());
        let draft = Draft { id, spec, ..Draft::default() };
        self.engine.resources().create(&self.org, kind, draft, &Actor::host()).await.unwrap();
    }
}

fn draft(steps: Value) -> TransformOf {
    TransformOf::Draft(serde_json::from_value::<PlanSpec>(steps).unwrap())
}

fn asks(filter: Value) -> FilterOf {
    FilterOf::Draft(serde_json::from_value::<Filter>(filter).unwrap())
}

fn given(body: &Value) -> DryRunOn {
    DryRunOn::Given(Box::new(NewEvent::json("acme", "order.paid", body).unwrap()))
}

fn failed(error: &Error) -> Vec<(&str, &str)> {
    assert_eq!(error.code(), Code::DryRunInvalid);
    error.list().iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect()
}

#[tokio::test]
async fn a_mapping_shows_what_it_made_and_what_it_changed() {
    let bench = Bench::open().await;
    let head = bench.store.head().await.unwrap();
    let steps = json!([{ "map": { "rules": [
        { "target": "n", "from": "n", "cast": "integer" }, { "target": "who", "from": "a.b" },
    ] } }]);
    let on = given(&json!({ "n": "7", "a": { "b": "x" } }));
    let report = bench.engine.dry_run_transform(&bench.org, draft(steps), on).await.unwrap();
    assert_eq!(report.outcome, TransformOutcome::Value);
    let output: Value = serde_json::from_slice(&report.output.unwrap()).unwrap();
    assert_eq!(output, json!({ "a": { "b": "x" }, "n": 7, "who": "x" }));
    let changes = serde_json::to_value(report.changes.unwrap()).unwrap();
    let expected = json!({ "complete": true, "operations": [
        { "op": "replace", "path": "/n", "value": 7 },
        { "op": "add", "path": "/who", "value": "x" },
    ] });
    assert_eq!(changes, expected);
    let nothing = bench.engine.events(&bench.org, &EventQuery::default()).await.unwrap();
    assert!(nothing.items.is_empty());
    assert!(bench.engine.lanes(&bench.org, PageQuery::default()).await.unwrap().items.is_empty());
    assert_eq!(bench.store.head().await.unwrap(), head);
    let metrics = bench.engine.metrics().render();
    assert!(metrics.contains("icp_attempts_total 0"), "{metrics}");
}

#[tokio::test]
async fn a_drop_and_a_failure_are_told_with_the_console() {
    let bench = Bench::open().await;
    let run = |steps: Value| {
        bench.engine.dry_run_transform(&bench.org, draft(steps), given(&json!({ "test": true })))
    };
    let drop = json!([{ "map": { "drop": { "when": { "test": true }, "reason": "a test" } } }]);
    let report = run(drop).await.unwrap();
    assert_eq!(report.outcome, TransformOutcome::Dropped { reason: "a test".into() });
    assert!(report.output.is_none() && report.changes.is_none());

    let report = run(json!([{ "jsonata": { "source": "fine" } }])).await.unwrap();
    assert_eq!((report.console, report.warnings.len()), (vec!["seen".to_owned()], 1));
    assert_eq!((report.cpu, report.heap_bytes), (Some(Duration::from_millis(3)), Some(9)));
    assert_eq!(report.changes.unwrap().operations, []);

    let report = run(json!([{ "jsonata": { "source": "fail" } }])).await.unwrap();
    assert_eq!(report.console, ["seen"]);
    let TransformOutcome::Failed { class, pointer, origin, retryable, .. } = report.outcome else {
        panic!("{:?}", report.outcome);
    };
    assert_eq!((class.as_str(), retryable), ("transform_runtime", false));
    assert_eq!(pointer.as_deref(), Some("/transform/0/jsonata/source"));
    let origin = origin.unwrap();
    assert_eq!((origin.at.unwrap().column, origin.frames.len()), (3, 1));

    let refused = run(json!([{ "map": { "rules": [{ "target": "a..b", "const": 1 }] } }])).await;
    let refused = refused.unwrap_err();
    assert_eq!(failed(&refused).len(), 1, "{refused}");
    assert!(failed(&refused)[0].0.starts_with("/transform/0/map/rules/0"), "{refused}");
}

#[tokio::test]
async fn what_is_saved_runs_on_what_is_stored() {
    let bench = Bench::open().await;
    let spec = json!({
        "enabled": false, "events": ["order.*"], "filter": { "data.n": { "$gt": 1 } },
        "target": { "kind": "http", "url": "https://example.com/hook" },
        "transform": [{ "map": { "base": "empty", "rules": [
            { "target": "name", "from": "n", "lookup": { "table": "names" } },
        ] } }],
    });
    let entries =
        json!([{ "key": "2", "value": "all" }, { "key": "2", "value": "eu", "unit": "eu" }]);
    bench.create("lookup", Some("names"), json!({ "entries": entries })).await;
    bench.create("integration", Some("crm"), spec).await;
    let event = NewEvent::json("acme", "order.paid", &json!({ "n": 2 })).unwrap().unit("eu");
    let stored = bench.engine.publish(event).await.unwrap().id;
    let crm = ResourceId::new("crm").unwrap();
    let (engine, org) = (&bench.engine, &bench.org);

    let of = TransformOf::Saved(crm.clone());
    let report = engine.dry_run_transform(org, of.clone(), DryRunOn::Stored(stored)).await.unwrap();
    assert_eq!(report.output.unwrap(), r#"{"name":"eu"}"#, "the unit of the event sees its own");
    assert_eq!(report.event, stored);
    let asked = FilterOf::Saved(crm);
    let report = engine.dry_run_filter(org, asked, DryRunOn::Stored(stored)).await.unwrap();
    assert_eq!(report.verdict, Verdict::Match);
    assert_eq!(report.document["unit"], "eu");

    engine.erase_events(org, vec![stored], &Actor::host()).await.unwrap();
    let refused = engine.dry_run_transform(org, of, DryRunOn::Stored(stored)).await.unwrap_err();
    assert_eq!(refused.code(), Code::EventNotFound);
    assert!(refused.message().contains("erased"), "{refused}");
}

#[tokio::test]
async fn a_type_lends_its_sample() {
    let bench = Bench::open().await;
    let schema = json!({ "type": "object", "properties": { "order": { "type": "integer" } } });
    bench.create("event_type", Some("order.paid"), json!({ "sample": { "order": 17 } })).await;
    bench.create("event_type", Some("order.made"), json!({ "schema": schema })).await;
    bench.create("event_type", Some("order.bare"), json!({})).await;
    for (name, expected) in [
        ("order.paid", Ok(json!({ "order": 17 }))),
        ("order.made", Ok(json!({ "order": 1 }))),
        ("order.bare", Err(Code::SampleNotFound)),
        ("order.none", Err(Code::ResourceNotFound)),
    ] {
        let on = DryRunOn::SampleOf(EventType::new(name).unwrap());
        let report = bench.engine.dry_run_transform(&bench.org, draft(json!([])), on).await;
        let found = report.map(|report| serde_json::from_slice::<Value>(&report.input).unwrap());
        assert_eq!(found.map_err(|error| error.code()), expected, "{name}");
    }
}

#[tokio::test]
async fn an_expression_shows_its_value_or_where_it_failed() {
    let bench = Bench::open().await;
    let ask = |filter: Value| {
        bench.engine.dry_run_filter(&bench.org, asks(filter), given(&json!({ "n": 2, "l": [1] })))
    };
    let report = ask(json!({ "jmespath": "data.l" })).await.unwrap();
    assert_eq!((report.verdict, report.value), (Verdict::Match, Some(json!([1]))));
    let report = ask(json!({ "jmespath": "data.gone" })).await.unwrap();
    assert!(matches!(report.verdict, Verdict::NoMatch { .. }));
    assert_eq!((report.value, report.fault), (Some(Value::Null), None));
    let report = ask(json!({ "jmespath": "length(data.n)" })).await.unwrap();
    assert!(matches!(report.verdict, Verdict::NoMatch { .. }));
    let fault = report.fault.unwrap();
    assert_eq!((report.value, fault.at.line), (None, 1), "{fault:?}");
    let report = ask(json!({ "data.n": { "$gt": 2 } })).await.unwrap();
    assert_eq!(report.verdict, Verdict::NoMatch { why: "`data.n` fails `$gt`".into() });
    assert_eq!(report.value, None);
    let refused = ask(json!({ "jmespath": "lenght(data.l)" })).await.unwrap_err();
    assert_eq!(failed(&refused), [("/filter/jmespath", "filter_invalid")]);
}

#[tokio::test]
async fn only_the_organization_itself_sees_its_events_and_so_often() {
    let mut config = EngineConfig::default();
    config.dry_runs_per_minute = 6;
    let bench = Bench::with(config).await;
    let (engine, org) = (&bench.engine, &bench.org);
    let event = NewEvent::json("acme", "order.paid", &json!({})).unwrap();
    let stored = engine.publish(event).await.unwrap().id;
    let other = OrgId::new("other").unwrap();
    let draft_of_other = Draft { spec: json!({}), ..Draft::default() };
    let resources = engine.resources();
    resources.create(&other, "organization", draft_of_other, &Actor::host()).await.unwrap();
    let code = |ran: Result<_, Error>| ran.map(drop).map_err(|error| error.code());
    let nothing = || draft(json!([]));
    for (org, of, on, expected) in [
        (&other, nothing(), DryRunOn::Stored(stored), Err(Code::EventNotFound)),
        (&other, nothing(), given(&json!({})), Err(Code::EventInvalid)),
        (
            org,
            TransformOf::Saved(ResourceId::new("no").unwrap()),
            given(&json!({})),
            Err(Code::ResourceNotFound),
        ),
        (
            &OrgId::new("none").unwrap(),
            nothing(),
            given(&json!({})),
            Err(Code::OrganizationUnknown),
        ),
        (org, nothing(), DryRunOn::Stored(stored), Ok(())),
    ] {
        assert_eq!(code(engine.dry_run_transform(org, of, on).await), expected);
    }
    let unit = NewEvent::json("acme", "order.paid", &json!({})).unwrap().unit("us");
    let ran = engine.dry_run_transform(org, nothing(), DryRunOn::Given(Box::new(unit))).await;
    assert_eq!(code(ran), Err(Code::UnitUnknown));
    for left in [true, true, true, false] {
        let ran = engine.dry_run_transform(org, nothing(), DryRunOn::Stored(stored)).await;
        assert_eq!(ran.is_ok(), left);
    }
    let refused = engine.dry_run_filter(org, asks(json!({})), given(&json!({}))).await;
    assert_eq!(refused.unwrap_err().code(), Code::TestsLimited);
}
