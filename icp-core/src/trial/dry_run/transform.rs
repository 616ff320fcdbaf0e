use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Changes, DryRunOn, admit, saved};
use crate::engine::core::Core;
use crate::error::{Code, Error, Result};
use crate::event::EventType;
use crate::id::{EventId, OrgId, ResourceId};
use crate::transform::{Origin, Outcome, Plan, PlanSpec, Report, TransformError};
use crate::trial::run::{Scene, run_plan};

/// Where the pointers of a transformation begin that is not saved.
const AT: &str = "/transform";

/// The transformation that is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TransformOf {
    /// That of a saved integration, on or off.
    Saved(ResourceId),
    /// One that is not saved. Pointers into it begin with `/transform`.
    Draft(PlanSpec),
}

/// What a transformation made of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransformReport {
    /// The event; its id is that of nothing stored where a sample was given.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// The payload that went in.
    pub input: Bytes,
    /// How it went.
    pub outcome: TransformOutcome,
    /// The payload that came out, where one did.
    pub output: Option<Bytes>,
    /// What the transformation changed, where both payloads are JSON.
    pub changes: Option<Changes>,
    /// What the transformation warns of.
    pub warnings: Vec<String>,
    /// What the programs wrote to their consoles.
    pub console: Vec<String>,
    /// The processor time the programs took; not known where one failed.
    pub cpu: Option<Duration>,
    /// What a JavaScript program still held on its heap when it was done, in bytes; the most of
    /// any. Not known where the transformer does not tell.
    pub heap_bytes: Option<u64>,
    /// How long the run took, with what it waited for its turn.
    pub took: Duration,
}

/// How a dry run went, in one word.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TransformOutcome {
    /// There is a payload to send.
    Value,
    /// A delivery would end as skipped: nothing is to be sent.
    Dropped {
        /// Why.
        reason: String,
    },
    /// The attempt of a delivery would fail.
    Failed {
        /// The stable class, as of attempts.
        class: String,
        /// What went wrong.
        message: String,
        /// Whether a delivery would be tried again.
        retryable: bool,
        /// RFC 6901 pointer to the part of the spec that failed, where one part did.
        pointer: Option<String>,
        /// Where in a program, where a program failed.
        origin: Option<Box<Origin>>,
    },
}

/// Runs a transformation on an event.
pub(crate) async fn run(
    core: &Core,
    org: &OrgId,
    of: TransformOf,
    on: DryRunOn,
) -> Result<TransformReport> {
    admit(core, org).await?;
    let (event, view) = on.event(core, org).await?;
    let (plan, integration) = match of {
        TransformOf::Saved(id) => {
            let integration = saved(&view, &id)?;
            (integration.plan.clone(), Some(integration))
        }
        TransformOf::Draft(spec) => (Some(compiled(&spec)?), None),
    };
    // A run that is dry has no effect elsewhere either.
    let scene = Scene { view: &view, integration: integration.as_deref(), outlet: None };
    let began = core.clock.monotonic();
    let ran = match &plan {
        None => Ok(Report::new(Outcome::Value(event.body.clone()))),
        Some(plan) => {
            let running = run_plan(core, plan, &event, 1, scene);
            let ended = tokio::time::timeout(core.config.attempt_deadline, running).await;
            ended.unwrap_or_else(|_| Err(too_long()))
        }
    };
    let mut report = TransformReport {
        event: event.id,
        event_type: event.event_type,
        input: event.body,
        outcome: TransformOutcome::Value,
        output: None,
        changes: None,
        warnings: Vec::new(),
        console: Vec::new(),
        cpu: None,
        heap_bytes: None,
        took: core.clock.monotonic().saturating_sub(began),
    };
    match ran {
        Ok(ran) => report.went(ran),
        Err(error) => report.failed(error),
    }
    Ok(report)
}

impl TransformReport {
    fn went(&mut self, ran: Report) {
        (self.warnings, self.console, self.cpu) = (ran.warnings, ran.console, Some(ran.cpu));
        self.heap_bytes = ran.heap_bytes;
        match ran.outcome {
            Outcome::Value(bytes) => {
                self.changes = changes(&self.input, &bytes);
                self.output = Some(bytes);
            }
            Outcome::Dropped { reason } => self.outcome = TransformOutcome::Dropped { reason },
        }
    }

    fn failed(&mut self, mut error: TransformError) {
        if let Some(origin) = &mut error.origin {
            self.console = std::mem::take(&mut origin.console);
        }
        self.outcome = TransformOutcome::Failed {
            class: error.class(),
            message: error.message,
            retryable: error.retryable,
            pointer: error.pointer,
            origin: error.origin,
        };
    }
}

fn compiled(spec: &PlanSpec) -> Result<Plan> {
    spec.compile(AT).map_err(|violations| Error::violations(Code::DryRunInvalid, violations))
}

fn changes(input: &Bytes, output: &Bytes) -> Option<Changes> {
    let before = serde_json::from_slice(input).ok()?;
    let after = serde_json::from_slice(output).ok()?;
    Some(Changes::between(&before, &after))
}

fn too_long() -> TransformError {
    let message = "the transformation took longer than an attempt may; do less in it";
    TransformError::new("timeout", message).retryable()
}
