//! Running one example as an engine would: checked when it is saved, then run on the payload.

use icp_core::access::UnitTree;
use icp_core::error::Violation;
use icp_core::event::EventType;
use icp_core::id::{EventId, OrgId, ResourceId};
use icp_core::lookup::{LookupSpec, Lookups};
use icp_core::time::Timestamp;
use icp_core::transform::{Outcome, Plan, PlanSpec, TransformContext, TransformError, Transformer};
use icp_sandbox::Sandbox;
use serde_json::{Value, json};

use crate::page::{Example, Fence};

/// The moment at which the event of every example came in: 2026-11-21T03:45:00.123Z.
const RECEIVED: i64 = 1_795_232_700_123;

/// What an example ends in.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Json(Value),
    /// A line that begins with `dropped`, `failed` or `refused`, or the places where a payload
    /// does not conform.
    Text(String),
}

impl End {
    /// Whether it is what a person sees of a failure.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Json(_) => false,
            Self::Text(text) => text.starts_with("failed: ") || text.starts_with("refused: "),
        }
    }
}

impl Example {
    /// Runs it, and compares what comes out with what the page says.
    ///
    /// The last fence is what comes out, the one before it the program, the one before that the
    /// payload. A schema may come first, with a payload that conforms, one that does not, and
    /// what is told about it.
    pub(crate) async fn run(&self) -> Result<End, String> {
        let (tables, fences): (Vec<_>, Vec<_>) =
            self.fences.iter().partition(|fence| fence.table().is_some());
        let tables = lookups(&tables);
        match fences.as_slice() {
            [program, end] => same(end, run(program, "{}", &tables).await),
            [input, program, end] => same(end, run(program, &input.text, &tables).await),
            [schema, good, bad, end] => {
                let passed = run_plan(schema.schema(), &good.text, &tables).await;
                same(good, passed)?;
                same(end, run_plan(schema.schema(), &bad.text, &tables).await)
            }
            other => Err(format!("{} fences make no example", other.len())),
        }
    }
}

impl Fence {
    /// The name of the lookup table that it holds.
    fn table(&self) -> Option<&str> {
        self.info.strip_prefix("json table=")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn schema(&self) -> Value {
        json!([{ "schema": self.json() }])
    }

    /// The `transform` that it stands for.
    fn steps(&self) -> Value {
        let source = self.text.trim_end();
        match self.info.as_str() {
            "js" => json!([{ "javascript": { "source": source } }]),
            "jsonata" => json!([{ "jsonata": { "source": source } }]),
            "jmespath" => json!([{ "jmespath": { "source": source } }]),
            "json" => match self.json() {
                steps @ Value::Array(_) => steps,
                _ => self.schema(),
            },
            other => panic!("no program is fenced as `{other}`"),
        }
    }

    fn end(&self) -> End {
        match self.info.as_str() {
            "text" => End::Text(self.text.trim_end().to_owned()),
            _ => End::Json(self.json()),
        }
    }
}

fn same(written: &Fence, found: End) -> Result<End, String> {
    if written.end() == found {
        return Ok(found);
    }
    Err(match found {
        End::Json(found) => format!("gives {}", serde_json::to_string_pretty(&found).unwrap()),
        End::Text(found) => format!("gives {found}"),
    })
}

async fn run(program: &Fence, input: &str, tables: &Lookups) -> End {
    run_plan(program.steps(), input, tables).await
}

async fn run_plan(steps: Value, input: &str, tables: &Lookups) -> End {
    let spec: PlanSpec = serde_json::from_value(steps).unwrap();
    let plan = match spec.compile("/transform") {
        Ok(plan) => plan,
        Err(violations) => return refused(&violations),
    };
    let sandbox = Sandbox::builder().program(env!("CARGO_BIN_EXE_icp-sandbox")).build().unwrap();
    let org = OrgId::new("acme").unwrap();
    if let Err(errors) = sandbox.check(&plan, &org).await {
        let violation = |error: &TransformError| {
            let pointer = error.pointer.clone().unwrap_or_default();
            Violation::new(pointer, error.class(), error.to_string())
        };
        return refused(&errors.iter().map(violation).collect::<Vec<_>>());
    }
    match outcome(&sandbox, &plan, &org, input, tables).await {
        Ok(Outcome::Value(bytes)) => End::Json(serde_json::from_slice(&bytes).unwrap()),
        Ok(Outcome::Dropped { reason }) => End::Text(format!("dropped: {reason}")),
        Err(error) => failed(&error),
    }
}

async fn outcome(
    sandbox: &Sandbox,
    plan: &Plan,
    org: &OrgId,
    input: &str,
    tables: &Lookups,
) -> Result<Outcome, TransformError> {
    let event_type = EventType::new("order.paid").unwrap();
    let cx = TransformContext::new(
        org,
        EventId::from_bytes([7; 16]),
        &event_type,
        Timestamp::from_millis(RECEIVED),
        tables.view(None),
    );
    Ok(sandbox.run(plan, input.to_owned().into(), &cx).await?.outcome)
}

fn lookups(tables: &[&Fence]) -> Lookups {
    let tables = tables.iter().map(|fence| {
        let id = ResourceId::new(fence.table().unwrap()).unwrap();
        let spec: LookupSpec = serde_json::from_str(&fence.text).unwrap();
        (id, spec)
    });
    Lookups::made_of(UnitTree::default(), tables).unwrap()
}

fn refused(violations: &[Violation]) -> End {
    End::Text(lines("refused: ", violations))
}

fn lines(before: &str, violations: &[Violation]) -> String {
    let line = |v: &Violation| format!("{before}{}\n{}: {}", v.pointer, v.code, v.message);
    violations.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What attempts and test deliveries show: the place, the class and the message, then the calls
/// of a program, and where a payload does not conform.
fn failed(error: &TransformError) -> End {
    let origin = error.origin.as_deref().cloned().unwrap_or_default();
    let violations = origin.violations.iter();
    let told: Vec<_> = violations
        .map(|v| {
            let place = if v.pointer.is_empty() { "(payload)" } else { &v.pointer };
            format!("{place} {}: {}", v.code, v.message)
        })
        .collect();
    if !told.is_empty() {
        return End::Text(told.join("\n"));
    }
    let mut text = lines(
        "failed: ",
        &[Violation::new(
            error.pointer.clone().unwrap_or_default(),
            error.class(),
            error.to_string(),
        )],
    );
    for frame in &origin.frames {
        if let Some(function) = &frame.function {
            text.push_str(&format!("\n  in {function} ({})", frame.at));
        }
    }
    End::Text(text)
}
