//! The engine under test, in a worker.

use icp_core::access::UnitTree;
use icp_core::event::EventType;
use icp_core::id::{EventId, OrgId};
use icp_core::lookup::Lookups;
use icp_core::time::Timestamp;
use icp_core::transform::{Language, Outcome, Plan, PlanSpec, TransformContext, Transformer};
use icp_sandbox::{Limits, Sandbox};
use serde_json::{Map, Value, json};

use crate::compare::{Case, End};

/// Runs programs of one language.
pub(crate) struct Engine {
    language: Language,
    sandbox: Sandbox,
    org: OrgId,
    event_type: EventType,
    tables: Lookups,
}

impl Engine {
    pub(crate) fn new(language: Language) -> Self {
        // A busy machine is no difference.
        let mut limits = Limits::default();
        limits.deadline_ms = 1_000;
        let builder = Sandbox::builder().program(env!("CARGO_BIN_EXE_icp-sandbox"));
        Self {
            language,
            sandbox: builder.limits(limits).build().unwrap(),
            org: OrgId::new("acme").unwrap(),
            event_type: EventType::new("order.paid").unwrap(),
            tables: Lookups::made_of(UnitTree::default(), []).unwrap(),
        }
    }

    pub(crate) async fn end(&self, case: &Case) -> End {
        let cx = TransformContext::new(
            &self.org,
            EventId::from_bytes([7; 16]),
            &self.event_type,
            Timestamp::from_millis(1_795_232_700_123),
            self.tables.view(None),
        );
        let plan = self.plan(&case.program);
        let ran = self.sandbox.run(&plan, case.input.to_string().into(), &cx);
        let schema = self.language == Language::JsonSchema;
        match ran.await {
            Ok(_) if schema => End::Value(true.into()),
            Ok(report) => match report.outcome {
                Outcome::Value(bytes) => End::Value(serde_json::from_slice(&bytes).unwrap()),
                Outcome::Dropped { reason } => panic!("{}: dropped: {reason}", case.program),
            },
            Err(error) => match error.code {
                "schema_invalid" => End::Value(false.into()),
                "no_result" => End::Nothing,
                "compile" | "runtime" => End::Error(error.code.to_owned()),
                other => panic!("{} of {}: {other}: {error}", case.program, case.input),
            },
        }
    }

    fn plan(&self, program: &Value) -> Plan {
        let step = match program {
            Value::String(source) => json!({ "source": source }),
            schema => schema.clone(),
        };
        let step = Map::from_iter([(self.language.to_string(), step)]);
        let spec: PlanSpec = serde_json::from_value(json!([step])).unwrap();
        spec.compile("/transform").unwrap_or_else(|found| panic!("{program}: {found:?}"))
    }
}
