//! The transformer of mappings: on the caller's thread, in this process.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use super::{Outcome, Plan, Report, Step, TransformContext, TransformError, Transformer};

/// The largest payload a transformation gives, in bytes: 1 MiB.
pub const MAX_OUTPUT: usize = 1 << 20;

/// Runs mappings where it is called: they are total and bounded, so they need no worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct InPlace;

#[async_trait]
impl Transformer for InPlace {
    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        run(plan, input, cx)
    }
}

fn run(plan: &Plan, input: Bytes, cx: &TransformContext<'_>) -> Result<Report, TransformError> {
    let mut warnings = Vec::new();
    if plan.is_empty() {
        return Ok(Report { outcome: Outcome::Value(input), warnings });
    }
    let mut value: Value = serde_json::from_slice(&input).map_err(|error| input_invalid(&error))?;
    for step in plan.steps() {
        match step {
            Step::Map(mapping) => {
                if let Some(reason) = mapping.drops(&value) {
                    let outcome = Outcome::Dropped { reason: reason.to_owned() };
                    return Ok(Report { outcome, warnings });
                }
                value = mapping.run(value, cx.lookups, &mut warnings)?;
            }
        }
    }
    Ok(Report { outcome: Outcome::Value(write(&value)?), warnings })
}

// Only the place is told: the parser's own words can quote the payload.
fn input_invalid(error: &serde_json::Error) -> TransformError {
    TransformError {
        code: "input_invalid",
        retryable: false,
        message: format!(
            "the payload is not one json value of at most 127 levels (line {}, column {}); \
             publish json, or remove the transformation",
            error.line(),
            error.column()
        ),
        pointer: None,
    }
}

fn write(value: &Value) -> Result<Bytes, TransformError> {
    let output = serde_json::to_vec(value).map_err(|_| TransformError {
        code: "output_invalid",
        retryable: false,
        message: "the transformed payload has no json form".into(),
        pointer: None,
    })?;
    if output.len() > MAX_OUTPUT {
        return Err(TransformError {
            code: "output_too_large",
            retryable: false,
            message: format!(
                "the transformed payload has {} bytes; keep it within {MAX_OUTPUT}",
                output.len()
            ),
            pointer: None,
        });
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
        let cx = TransformContext {
            org: &OrgId::new("acme").unwrap(),
            event: EventId::from_bytes([7; 16]),
            event_type: &EventType::new("order.paid").unwrap(),
            received_at: Timestamp::EPOCH,
            attempt: 1,
            lookups: tables.view(None),
        };
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
