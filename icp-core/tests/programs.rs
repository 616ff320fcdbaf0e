//! Integrations with programs are saved only where something can run them.

#![expect(clippy::unwrap_used, reason = "a setup that fails is a test that fails")]
#![cfg(feature = "http")]

use async_trait::async_trait;
use bytes::Bytes;
use icp_core::error::{Code, Error};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{Actor, Document, Draft, Expect};
use icp_core::store::MemoryStore;
use icp_core::transform::{
    Origin, Outcome, Plan, Position, Report, TransformContext, TransformError, Transformer,
};
use icp_core::trial::{Sample, TestOf};
use icp_core::{Engine, Result};
use serde_json::{Value, json};

/// Finds fault with what a program says.
#[derive(Debug)]
struct Critic;

#[async_trait]
impl Transformer for Critic {
    async fn check(&self, plan: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        let judge = |program: &icp_core::transform::Program| match program.source() {
            "broken" => {
                let at = Some(Position { line: 2, column: 7 });
                let error = TransformError::new("compile", "not a program");
                let error = error.in_program(Origin { at, ..Origin::default() });
                Some(error.at_pointer(program.pointer()))
            }
            "busy" => Some(TransformError::new("overloaded", "later").retryable()),
            _ => None,
        };
        let found: Vec<_> = plan.programs().filter_map(judge).collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    async fn run(
        &self,
        _: &Plan,
        input: Bytes,
        _: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        Ok(Report::new(Outcome::Value(input)))
    }
}

fn spec(sources: &[&str]) -> Value {
    let steps: Vec<_> =
        sources.iter().map(|source| json!({ "jsonata": { "source": source } })).collect();
    let target = json!({ "kind": "http", "url": "https://example.com/hook" });
    json!({ "events": ["*"], "target": target, "transform": steps })
}

async fn save(engine: &Engine, sources: &[&str]) -> Result<Document> {
    let org = OrgId::new("acme").unwrap();
    let draft = Draft { spec: spec(sources), ..Draft::default() };
    engine.resources().create(&org, "integration", draft, &Actor::host()).await
}

async fn with_org(engine: Engine) -> Engine {
    let org = OrgId::new("acme").unwrap();
    let draft = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", draft, &Actor::host()).await.unwrap();
    engine
}

fn found(error: &Error) -> Vec<(&str, &str, &str)> {
    let list = error.list().iter();
    list.map(|v| (v.pointer.as_str(), v.code.as_str(), v.message.as_str())).collect()
}

#[tokio::test]
async fn an_engine_without_a_sandbox_takes_no_program() {
    let engine = with_org(Engine::builder(MemoryStore::new()).build().unwrap()).await;
    assert!(save(&engine, &[]).await.is_ok());
    let error = save(&engine, &["a", "b"]).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceInvalid);
    let pointers: Vec<_> = found(&error).iter().map(|(at, code, _)| (*at, *code)).collect();
    assert_eq!(
        pointers,
        [
            ("/spec/transform/0/jsonata/source", "transform_no_sandbox"),
            ("/spec/transform/1/jsonata/source", "transform_no_sandbox"),
        ]
    );
}

#[tokio::test]
async fn a_broken_program_is_refused_at_its_line() {
    let builder = Engine::builder(MemoryStore::new()).transformer(Critic);
    let engine = with_org(builder.build().unwrap()).await;
    assert!(save(&engine, &["fine"]).await.is_ok());
    let expected = (
        "/spec/transform/1/jsonata/source",
        "transform_compile",
        "not a program (line 2, column 7)",
    );
    let error = save(&engine, &["fine", "broken"]).await.unwrap_err();
    assert_eq!(found(&error), [expected]);
    let error = save(&engine, &["busy"]).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded);

    // A draft that is tried out is checked as if it were saved.
    let org = OrgId::new("acme").unwrap();
    let draft = TestOf::Draft(spec(&["fine", "broken"]));
    let error = engine.test_delivery(&org, draft, Sample::default()).await.unwrap_err();
    assert_eq!(found(&error), [expected]);
}

/// Tells what programs would know, in place of the payload.
#[derive(Debug)]
struct Informer;

#[async_trait]
impl Transformer for Informer {
    async fn check(&self, _: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        Ok(())
    }

    async fn run(
        &self,
        _: &Plan,
        _: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        let known = json!({
            "integration": cx.integration.map(|of| json!([of.id, of.name])),
            "vars": cx.vars,
            "sends": cx.outlet.is_some(),
            "loopback": cx.outlet.map(|outlet| {
                outlet.policy.check_address([127, 0, 0, 1].into()).is_ok()
            }),
        });
        Ok(Report::new(Outcome::Value(known.to_string().into())))
    }
}

#[tokio::test]
async fn programs_send_only_where_the_organization_is_granted_it() {
    let builder = Engine::builder(MemoryStore::new()).transformer(Informer).allow_loopback();
    let engine = with_org(builder.build().unwrap()).await;
    let (org, host) = (OrgId::new("acme").unwrap(), Actor::host());
    let program = json!({ "javascript": { "source": "return 1", "http": true } });
    // Nobody listens there.
    let spec = json!({
        "events": ["*"],
        "target": { "kind": "http", "url": "http://127.0.0.1:1/hook" },
        "transform": [program],
        "vars": { "channel": "#orders" },
    });
    let resources = engine.resources();
    let save = |spec: &Value| {
        let name = Some("Orders".to_owned());
        let draft = Draft { spec: spec.clone(), name, ..Draft::default() };
        resources.create(&org, "integration", draft, &host)
    };
    let error = save(&spec).await.unwrap_err();
    let pointers: Vec<_> = found(&error).iter().map(|(at, code, _)| (*at, *code)).collect();
    assert!(pointers.contains(&("/spec/transform/0/javascript/http", "not_granted")), "{error}");
    let mut long = spec.clone();
    long["vars"]["channel"] = json!("x".repeat(16 << 10));
    assert!(save(&long).await.unwrap_err().list().iter().any(|v| v.pointer == "/spec/vars"));

    let granted = json!({ "program_http": true });
    let draft = Draft { spec: granted, ..Draft::default() };
    let id = ResourceId::new("acme").unwrap();
    resources.replace(&org, "organization", &id, draft, Expect::Any, &host).await.unwrap();
    let saved = TestOf::Saved(save(&spec).await.unwrap().id);
    let shown = engine.integration_curl(&org, saved.clone(), Sample::default()).await.unwrap();
    assert!(shown.command.contains(r#""sends":false"#), "{}", shown.command);
    let TestOf::Saved(id) = &saved else { unreachable!() };
    for part in
        [r##""vars":{"channel":"#orders"}"##, &format!(r#""integration":["{id}","Orders"]"#)]
    {
        assert!(shown.command.contains(part), "{}", shown.command);
    }
    let tried = engine.test_delivery(&org, saved, Sample::default()).await.unwrap();
    let body: Value = serde_json::from_slice(&tried.request.unwrap().body).unwrap();
    assert_eq!((&body["sends"], &body["loopback"]), (&json!(true), &json!(true)));
}
