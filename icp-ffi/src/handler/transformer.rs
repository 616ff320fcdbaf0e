//! `host` and `host_filter` steps of transformations, run by handlers of the host.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use icp::id::OrgId;
use icp::transform::{
    HostRole, HostStep, InPlace, MAX_OUTPUT, Outcome, Plan, Report, TransformContext,
    TransformError, Transformer,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Asked;
use crate::request::{HandlerKind, Requests, Unanswered};

/// Asks the host for its steps, and maps in place.
///
/// A step whose handler is not registered is saved all the same: another program on the same store
/// may have it. Its attempts fail and are tried again.
#[derive(Debug)]
pub(crate) struct HostTransformer {
    requests: Arc<Requests>,
}

/// What a transformer answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    #[serde(default)]
    payload: Option<Box<RawValue>>,
    /// Why nothing is to be sent.
    #[serde(default)]
    drop: Option<String>,
}

/// What a filter answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    pass: bool,
    /// Why it does not pass, for people.
    #[serde(default)]
    reason: Option<String>,
}

impl HostTransformer {
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self { requests }
    }

    async fn step(
        &self,
        step: &HostStep,
        input: &Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Outcome, TransformError> {
        let payload: &RawValue = serde_json::from_slice(input)
            .map_err(|error| TransformError::input_invalid(error.line(), error.column()))?;
        let kind = match step.role() {
            HostRole::Filter => HandlerKind::Filter,
            _ => HandlerKind::Transformer,
        };
        let body = |timeout_ms| {
            let asked = Asked {
                handler: step.handler(),
                kind,
                org: cx.org.as_str(),
                event: cx.event.to_string(),
                r#type: cx.event_type.as_str(),
                integration: cx.integration.map(|to| to.id.as_str()),
                delivery: None,
                attempt: cx.attempt,
                timeout_ms,
                config: step.config(),
                payload: Some(payload),
                payload_base64: None,
                content_type: None,
                request: None,
                test: false,
            };
            // Texts and documents always have a JSON form.
            serde_json::to_vec(&asked).unwrap_or_default()
        };
        let asked = self.requests.ask(kind, step.handler(), body).await;
        let answer = asked.map_err(|why| unanswered(step, &why))?;
        match step.role() {
            HostRole::Filter => read(step, &answer).map(|judged| passed(step, judged, input)),
            _ => made(step, read(step, &answer)?),
        }
    }
}

#[async_trait]
impl Transformer for HostTransformer {
    async fn check(&self, plan: &Plan, org: &OrgId) -> Result<(), Vec<TransformError>> {
        let mut found = Vec::new();
        for part in plan.parts() {
            if part.host_steps().next().is_none() {
                found.extend(InPlace.check(part, org).await.err().unwrap_or_default());
            }
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        let mut report = Report::new(Outcome::Value(input));
        for part in plan.parts() {
            let Outcome::Value(input) = &report.outcome else { break };
            if part.host_steps().next().is_none() {
                let made = InPlace.run(part, input.clone(), cx).await?;
                report = report.then(made);
                continue;
            }
            for step in part.host_steps() {
                let Outcome::Value(input) = &report.outcome else { break };
                report.outcome = self.step(step, input, cx).await?;
            }
        }
        Ok(report)
    }
}

fn read<T: DeserializeOwned>(step: &HostStep, answer: &[u8]) -> Result<T, TransformError> {
    serde_json::from_slice(answer).map_err(|_| malformed(step))
}

fn made(step: &HostStep, made: Made) -> Result<Outcome, TransformError> {
    match (made.payload, made.drop) {
        (Some(payload), None) => {
            let output = String::from(Box::<str>::from(payload)).into_bytes();
            if output.len() > MAX_OUTPUT {
                return Err(too_large(step, output.len()));
            }
            Ok(Outcome::Value(output.into()))
        }
        (None, Some(reason)) => Ok(Outcome::Dropped { reason }),
        _ => Err(malformed(step)),
    }
}

fn passed(step: &HostStep, judged: Judged, input: &Bytes) -> Outcome {
    if judged.pass {
        return Outcome::Value(input.clone());
    }
    let unsaid = || format!("the filter `{}` does not let it pass", step.handler());
    Outcome::Dropped { reason: judged.reason.unwrap_or_else(unsaid) }
}

fn unanswered(step: &HostStep, why: &Unanswered) -> TransformError {
    let (code, message) = why.told(step.handler());
    // What a host does differently next time, nobody knows.
    TransformError::new(code, message).retryable().at_pointer(step.pointer())
}

fn malformed(step: &HostStep) -> TransformError {
    let expected = match step.role() {
        HostRole::Filter => r#"`{"pass": true}` or `{"pass": false, "reason": ".."}`"#,
        _ => r#"`{"payload": ..}` or `{"drop": "reason"}`"#,
    };
    let message =
        format!("the handler `{}` answered something else than {expected}", step.handler());
    TransformError::new("output_invalid", message).at_pointer(step.pointer())
}

fn too_large(step: &HostStep, bytes: usize) -> TransformError {
    let message = format!("the handler's payload has {bytes} bytes; keep it within {MAX_OUTPUT}");
    TransformError::new("output_too_large", message).at_pointer(step.pointer())
}
