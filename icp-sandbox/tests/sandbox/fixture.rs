//! Sandboxes for tests, and one way to run a plan.

use icp_core::access::UnitTree;
use icp_core::event::EventType;
use icp_core::id::{EventId, OrgId, ResourceId};
use icp_core::lookup::{LookupSpec, Lookups};
use icp_core::time::Timestamp;
use icp_core::transform::{
    Addressee, Outcome, Outlet, Plan, PlanSpec, Report, TransformContext, TransformError,
    Transformer,
};
use icp_sandbox::{Builder, Sandbox};
use serde_json::{Value, json};

/// The moment at which every event of the tests came in: 2026-11-21T03:45:00.123Z.
pub(crate) const RECEIVED: i64 = 1_795_232_700_123;

/// Where the worker program is.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_icp-sandbox");

pub(crate) fn builder() -> Builder {
    Sandbox::builder().program(PROGRAM)
}

pub(crate) fn sandbox() -> Sandbox {
    builder().build().unwrap()
}

pub(crate) fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

pub(crate) fn plan(steps: Value) -> Plan {
    let spec: PlanSpec = serde_json::from_value(steps).unwrap();
    spec.compile("/transform").unwrap()
}

/// A plan of one JavaScript program.
pub(crate) fn script(source: &str) -> Plan {
    plan(json!([{ "javascript": { "source": source } }]))
}

/// A plan of one JavaScript function of `payload` and `context`.
pub(crate) fn function(body: &str) -> Plan {
    script(&format!("function transform(payload, context) {{\n{body}\n}}"))
}

/// The tables of every organization.
fn tables() -> Lookups {
    let of = |name: &str, spec: Value| {
        (ResourceId::new(name).unwrap(), serde_json::from_value::<LookupSpec>(spec).unwrap())
    };
    let countries = json!({ "entries": [{ "key": "DE", "value": "Germany" }] });
    let plans = json!({
        "entries": [
            { "key": "1", "value": { "name": "basic", "seats": 5 } },
            { "key": "2", "value": { "name": "pro", "seats": 50 } },
        ],
        "reverse": ["name"],
        "on_missing": "keep",
    });
    let tables = [of("countries", countries), of("plans", plans)];
    Lookups::made_of(UnitTree::default(), tables).unwrap()
}

pub(crate) async fn report(
    sandbox: &impl Transformer,
    name: &str,
    plan: &Plan,
    input: &str,
) -> Result<Report, TransformError> {
    report_through(sandbox, name, plan, input, None).await
}

/// As [`report`], with a way out for requests.
pub(crate) async fn report_through(
    sandbox: &impl Transformer,
    name: &str,
    plan: &Plan,
    input: &str,
    outlet: Option<&Outlet>,
) -> Result<Report, TransformError> {
    let (org, tables) = (org(name), tables());
    let vars = json!({ "channel": "#orders", "nested": { "on": true } });
    let cx = TransformContext {
        org: &org,
        event: EventId::from_bytes([7; 16]),
        event_type: &EventType::new("order.paid").unwrap(),
        received_at: Timestamp::from_millis(RECEIVED),
        attempt: 1,
        integration: Some(Addressee {
            id: &ResourceId::new("int_1").unwrap(),
            name: Some("Orders"),
        }),
        vars: Some(&serde_json::from_value(vars).unwrap()),
        lookups: tables.view(None),
        outlet,
        measure: true,
    };
    sandbox.run(plan, input.to_owned().into(), &cx).await
}

/// What comes out as text; a dropped payload as `dropped: ` and why.
pub(crate) async fn run(
    sandbox: &impl Transformer,
    name: &str,
    plan: &Plan,
    input: &str,
) -> Result<String, TransformError> {
    Ok(match report(sandbox, name, plan, input).await?.outcome {
        Outcome::Value(bytes) => String::from_utf8(bytes.into()).unwrap(),
        Outcome::Dropped { reason } => format!("dropped: {reason}"),
    })
}

/// The outcome in short: the text, or the code of the failure.
pub(crate) async fn outcome(
    sandbox: &impl Transformer,
    name: &str,
    plan: &Plan,
    input: &str,
) -> String {
    match run(sandbox, name, plan, input).await {
        Ok(text) => text,
        Err(error) => format!("!{}", error.code),
    }
}
