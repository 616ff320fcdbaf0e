//! The transformer of mappings: on the caller's thread, in this process.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use super::mapping::Mapping;
use super::{
    HostStep, Outcome, Plan, Program, Report, Step, TransformContext, TransformError, Transformer,
};
use crate::id::OrgId;
use crate::lookup::LookupView;

/// The largest payload a transformation gives, in bytes: 1 MiB.
pub const MAX_OUTPUT: usize = 1 << 20;

/// Runs mappings where it is called: they are total and bounded, so they need no worker. Plans
/// with programs are refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct InPlace;

#[async_trait]
impl Transformer for InPlace {
    async fn check(&self, plan: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        let hosted = plan.host_steps().map(HostStep::unasked);
        let refused: Vec<_> = plan.programs().map(no_sandbox).chain(hosted).collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        run(plan, input, cx)
    }
}

/// What a mapping makes of a payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// Another payload.
    Value(Value),
    /// Nothing is to be sent.
    Dropped {
        /// Why, for people.
        reason: String,
    },
}

impl Mapping {
    /// Maps `payload`, and adds what people should know to `warnings`.
    ///
    /// # Errors
    ///
    /// [`TransformError`] of the first rule that fails, with its pointer.
    pub fn apply(
        &self,
        payload: Value,
        lookups: LookupView<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Applied, TransformError> {
        if let Some(reason) = self.drops(&payload) {
            return Ok(Applied::Dropped { reason: reason.to_owned() });
        }
        self.run(payload, lookups, warnings).map(Applied::Value)
    }
}

fn run(plan: &Plan, input: Bytes, cx: &TransformContext<'_>) -> Result<Report, TransformError> {
    if plan.is_empty() {
        return Ok(Report::new(Outcome::Value(input)));
    }
    if let Some(program) = plan.programs().next() {
        return Err(no_sandbox(program));
    }
    if let Some(step) = plan.host_steps().next() {
        return Err(step.unasked());
    }
    let mut warnings = Vec::new();
    let mut value: Value = serde_json::from_slice(&input).map_err(|error| input_invalid(&error))?;
    for step in plan.steps() {
        let Step::Map(mapping) = step else { continue };
        value = match mapping.apply(value, cx.lookups, &mut warnings)? {
            Applied::Value(value) => value,
            Applied::Dropped { reason } => {
                return Ok(Report { warnings, ..Report::new(Outcome::Dropped { reason }) });
            }
        };
    }
    Ok(Report { warnings, ..Report::new(Outcome::Value(write(&value)?)) })
}

fn no_sandbox(program: &Program) -> TransformError {
    let message = format!(
        "this engine runs no {} programs; give its builder a transformer that does, such as the \
         sandbox",
        program.language()
    );
    TransformError::new("no_sandbox", message).at_pointer(program.pointer())
}

impl TransformError {
    /// The failure of a plan on a payload that is not JSON. Only the place is told: the parser's
    /// own words can quote the payload.
    #[must_use]
    pub fn input_invalid(line: usize, column: usize) -> Self {
        let message = format!(
            "the payload is not one json value of at most 127 levels (line {line}, column \
             {column}); publish json, or remove the transformation"
        );
        Self::new("input_invalid", message)
    }
}

fn input_invalid(error: &serde_json::Error) -> TransformError {
    TransformError::input_invalid(error.line(), error.column())
}

fn write(value: &Value) -> Result<Bytes, TransformError> {
    let output = serde_json::to_vec(value).map_err(|_| {
        TransformError::new("output_invalid", "the transformed payload has no json form")
    })?;
    if output.len() > MAX_OUTPUT {
        let bytes = output.len();
        let message =
            format!("the transformed payload has {bytes} bytes; keep it within {MAX_OUTPUT}");
        return Err(TransformError::new("output_too_large", message));
    }
    Ok(output.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::EventType;
    use crate::id::{EventId, OrgId};
    use crate::lookup::Lookups;
    use crate::time::Timestamp;
    use crate::transform::PlanSpec;

    async fn transform(spec: Value, input: impl Into<Bytes>) -> Result<Report, TransformError> {
        let spec: PlanSpec = serde_json::from_value(spec).unwrap();
        let tables = Lookups::default();
        let org = OrgId::new("acme").unwrap();
        let event_type = EventType::new("order.paid").unwrap();
        let cx = TransformContext::new(
            &org,
            EventId::from_bytes([7; 16]),
            &event_type,
            Timestamp::EPOCH,
            tables.view(None),
        );
        InPlace.run(&spec.compile("/transform").unwrap(), input.into(), &cx).await
    }

    fn text(report: Report) -> String {
        match report.outcome {
            Outcome::Value(bytes) => String::from_utf8(bytes.into()).unwrap(),
            Outcome::Dropped { reason } => panic!("dropped: {reason}"),
        }
    }

    #[tokio::test]
    async fn each_step_takes_what_the_one_before_gave() {
        let spec = json!([
            {"map": {"base": "empty", "rules": [{"target": "b", "from": "a", "cast": "integer"}]}},
            {"map": {"rules": [{"target": "c", "template": "<{{b}}{{a}}>"}]}},
        ]);
        let report = transform(spec.clone(), r#"{"a": " 7 "}"#).await.unwrap();
        assert_eq!(text(report), r#"{"b":7,"c":"<7>"}"#);
        let report = transform(spec, r#"{"a": "x"}"#).await.unwrap();
        assert_eq!(report.warnings.len(), 1);
        assert!(report.warnings[0].contains("(/transform/0/map/rules/0)"));
        assert_eq!(text(report), r#"{"c":"<>"}"#);
    }

    #[tokio::test]
    async fn programs_are_refused_at_their_place() {
        let spec: PlanSpec = serde_json::from_value(json!([
            {"map": {}},
            {"jmespath": {"source": "a"}},
            {"schema": {"type": "object"}},
            {"host": {"handler": "enrich"}},
            {"host_filter": {"handler": "wanted"}},
        ]))
        .unwrap();
        let plan = spec.compile("/transform").unwrap();
        let refused = InPlace.check(&plan, &OrgId::new("acme").unwrap()).await.unwrap_err();
        let found: Vec<_> = refused.iter().map(|e| (e.code, e.pointer.as_deref())).collect();
        assert_eq!(
            found,
            [
                ("no_sandbox", Some("/transform/1/jmespath/source")),
                ("no_sandbox", Some("/transform/2/schema")),
                ("no_host", Some("/transform/3/host")),
                ("no_host", Some("/transform/4/host_filter")),
            ]
        );
        let error = transform(serde_json::to_value(&spec).unwrap(), "{}").await.unwrap_err();
        assert_eq!((error.code, error.retryable), ("no_sandbox", false));
    }

    #[tokio::test]
    async fn no_step_sends_the_payload_as_it_is() {
        let report = transform(json!([]), "not json").await.unwrap();
        assert_eq!(text(report), "not json");
    }

    #[tokio::test]
    async fn payloads_that_are_not_json_are_refused_without_being_quoted() {
        let deep = "[".repeat(128) + &"]".repeat(128);
        for input in ["", "{secret", r#"{"a":1} secret"#, "\"\u{1}secret\"", &deep] {
            let error = transform(json!([{"map": {}}]), input.to_owned()).await.unwrap_err();
            assert_eq!((error.code, error.retryable), ("input_invalid", false), "{input}");
            assert!(!error.message.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_output_is_bounded_exactly() {
        let spec = || json!([{"map": {"rules": [{"target": "b", "const": 1}]}}]);
        let room = MAX_OUTPUT - r#"{"a":"","b":1}"#.len();
        let payload = |length: usize| json!({"a": "x".repeat(length)}).to_string();
        assert_eq!(text(transform(spec(), payload(room)).await.unwrap()).len(), MAX_OUTPUT);
        let error = transform(spec(), payload(room + 1)).await.unwrap_err();
        assert_eq!((error.code, error.pointer), ("output_too_large", None));
    }

    #[tokio::test]
    async fn a_payload_is_dropped_on_purpose_and_only_then() {
        let spec = json!([{ "map": {
            "drop": { "when": { "test": true }, "reason": "a test order" },
        } }]);
        let dropped = transform(spec.clone(), r#"{"test":true}"#).await.unwrap();
        assert_eq!(dropped.outcome, Outcome::Dropped { reason: "a test order".into() });
        let kept = transform(spec, r#"{"test":false}"#).await.unwrap();
        assert_eq!(kept.outcome, Outcome::Value(r#"{"test":false}"#.into()));
    }
}
