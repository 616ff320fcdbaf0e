//! The transformer of mappings: on the caller's thread, in this process.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use super::mapping::Mapped;
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
        _: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        run(plan, input)
    }
}

fn run(plan: &Plan, input: Bytes) -> Result<Report, TransformError> {
    let mut warnings = Vec::new();
    if plan.is_empty() {
        return Ok(Report { outcome: Outcome::Value(input), warnings });
    }
    let mut value: Value = serde_json::from_slice(&input).map_err(|error| input_invalid(&error))?;
    for step in plan.steps() {
        match step {
            Step::Map(mapping) => match mapping.run(value, &mut warnings)? {
                Mapped::Value(mapped) => value = mapped,
                Mapped::Dropped(reason) => {
                    let outcome = Outcome::Dropped { reason: reason.to_owned() };
                    return Ok(Report { outcome, warnings });
                }
            },
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
