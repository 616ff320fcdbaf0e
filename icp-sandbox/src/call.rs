//! What a worker is asked, and what it answers.

use std::time::Duration;

use icp_core::event::EventType;
use icp_core::id::{EventId, OrgId, ResourceId};
use icp_core::time::Timestamp;
use icp_core::transform::{
    Limits, Origin, Outcome, Plan, Report, Step, TransformContext, TransformError, Vars,
};
use serde::{Deserialize, Serialize};

use crate::host::{Question, Reply};
use crate::payload;

/// What a host asks. Plans are sent once and then named by the slot they were put in.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// The first frame: what programs may use.
    Limits(Limits),
    /// The body is the text of a plan, for this slot.
    Plan { slot: usize },
    /// Compile the programs of a plan.
    Check { number: u64, slot: usize },
    /// Run a plan; the body is the payload.
    Run { number: u64, slot: usize, scene: Scene },
    /// The answer to what a program of this call asked; the body goes with it.
    Reply { number: u64, reply: Reply },
}

/// What a worker answers. Nothing of it is trusted.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The worker is confined and waits for work.
    Ready,
    /// The program of this number in the plan begins; told where there are several.
    Begins { number: u64, program: usize },
    /// A program of this call asks its host, and waits; the body goes with it.
    Asks { number: u64, question: Question },
    /// The programs compile, but for these.
    Checked { number: u64, failures: Vec<Failure> },
    /// The plan went through; the body is the payload, where it was not dropped.
    Done { number: u64, dropped: Option<String>, notes: Notes },
    /// The plan failed.
    Failed { number: u64, failure: Failure },
}

/// What is told beside an outcome.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    pub(crate) console: Vec<String>,
    pub(crate) cpu_micros: u64,
    pub(crate) heap_bytes: Option<u64>,
}

/// The event that a plan runs for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Scene {
    pub(crate) org: OrgId,
    pub(crate) event: EventId,
    pub(crate) event_type: EventType,
    pub(crate) received_at: Timestamp,
    pub(crate) attempt: u32,
    pub(crate) integration: Option<Integration>,
    pub(crate) vars: Vars,
    pub(crate) measure: bool,
}

/// The integration that a plan runs for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Integration {
    id: ResourceId,
    name: Option<String>,
}

impl Scene {
    pub(crate) fn of(cx: &TransformContext<'_>) -> Self {
        Self {
            org: cx.org.clone(),
            event: cx.event,
            event_type: cx.event_type.clone(),
            received_at: cx.received_at,
            attempt: cx.attempt,
            integration: cx
                .integration
                .map(|of| Integration { id: of.id.clone(), name: of.name.map(str::to_owned) }),
            vars: cx.vars.cloned().unwrap_or_default(),
            measure: cx.measure,
        }
    }
}

/// A [`TransformError`] on its way between processes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) pointer: Option<String>,
    pub(crate) origin: Option<Box<Origin>>,
}

impl From<TransformError> for Failure {
    fn from(error: TransformError) -> Self {
        Self {
            code: error.code.to_owned(),
            message: error.message,
            pointer: error.pointer,
            origin: error.origin,
        }
    }
}

/// The codes that a worker may answer; a host knows no others.
const CODES: &[&str] = &[
    "compile",
    "runtime",
    "no_result",
    "never_settled",
    "timeout",
    "memory",
    "stack",
    "input_invalid",
    "input_too_large",
    "input_too_deep",
    "input_too_many_names",
    "input_unsafe_integer",
    "output_invalid",
    "output_too_large",
    "output_too_deep",
    "output_too_many_nodes",
    "required_missing",
    "schema_invalid",
    "too_many_host_calls",
    "lookup_not_reversible",
    "http_not_granted",
    "http_refused",
];

/// Those of which the same plan on the same payload can be spared later.
const PASSING: &[&str] = &["lookup_unknown", "lookup_missing", "lookup_unusable", "http_failed"];

/// The code as a host knows it.
pub(crate) fn known(code: &str) -> Option<&'static str> {
    CODES.iter().chain(PASSING).copied().find(|known| *known == code)
}

impl Failure {
    /// The failure, shortened to what a host keeps.
    pub(crate) fn received(self, limits: &Limits) -> TransformError {
        let Some(code) = known(&self.code) else { return nonsense() };
        let mut error = TransformError::new(code, short(self.message, MESSAGE));
        error.retryable = PASSING.contains(&code);
        error.pointer = self.pointer.map(|pointer| short(pointer, MESSAGE));
        error.origin = self.origin.map(|mut origin| {
            origin.excerpt = origin.excerpt.map(|text| short(text, EXCERPT));
            origin.frames.truncate(FRAMES);
            for frame in &mut origin.frames {
                frame.function = frame.function.take().map(|name| short(name, NAME));
            }
            origin.violations.truncate(VIOLATIONS);
            for violation in &mut origin.violations {
                for text in [&mut violation.pointer, &mut violation.code, &mut violation.message] {
                    *text = short(std::mem::take(text), EXCERPT);
                }
            }
            origin.console = lines(std::mem::take(&mut origin.console), limits);
            origin
        });
        error
    }
}

impl Notes {
    /// The notes, shortened to what a host keeps.
    pub(crate) fn received(mut self, limits: &Limits) -> Self {
        self.warnings.truncate(WARNINGS);
        for warning in &mut self.warnings {
            *warning = short(std::mem::take(warning), MESSAGE);
        }
        self.console = lines(self.console, limits);
        self
    }
}

/// The end of `plan` as a host takes it.
pub(crate) fn done(
    plan: &Plan,
    dropped: Option<String>,
    notes: Notes,
    body: Vec<u8>,
    limits: &Limits,
) -> Result<Report, TransformError> {
    let notes = notes.received(limits);
    let outcome = match dropped {
        Some(reason) => Outcome::Dropped { reason: short(reason, EXCERPT) },
        None => {
            payload::judge(&body, limits).map_err(|mut error| {
                if let Some(Step::Program(program)) = plan.steps().last() {
                    error = error.at_pointer(program.pointer());
                }
                match notes.console.is_empty() {
                    true => error,
                    false => error
                        .in_program(Origin { console: notes.console.clone(), ..Origin::default() }),
                }
            })?;
            Outcome::Value(body.into())
        }
    };
    Ok(Report {
        warnings: notes.warnings,
        console: notes.console,
        cpu: Duration::from_micros(notes.cpu_micros),
        heap_bytes: notes.heap_bytes,
        ..Report::new(outcome)
    })
}

/// The failure of a worker whose answer has no meaning.
pub(crate) fn nonsense() -> TransformError {
    TransformError::new("crashed", "the worker answered something that makes no sense")
}

/// The longest message, in bytes.
pub(crate) const MESSAGE: usize = 1_024;
/// The longest excerpt of a program, in bytes.
pub(crate) const EXCERPT: usize = 256;
/// The most frames of a stack.
pub(crate) const FRAMES: usize = 10;
/// The longest name of a function, in bytes.
pub(crate) const NAME: usize = 128;
/// The most broken rules of a schema that are told.
pub(crate) const VIOLATIONS: usize = 50;
const WARNINGS: usize = 50;

/// `text`, cut between characters to at most `most` bytes.
pub(crate) fn short(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

fn lines(mut lines: Vec<String>, limits: &Limits) -> Vec<String> {
    let mut room = limits.console_bytes as usize;
    lines.truncate(limits.console_lines as usize);
    for line in &mut lines {
        *line = short(std::mem::take(line), room);
        room -= line.len();
    }
    lines
}

#[cfg(test)]
mod tests {
    use icp_core::transform::{Frame, Position};

    use super::*;

    #[test]
    fn what_a_worker_tells_is_cut_to_what_is_kept() {
        let limits = Limits::default();
        let at = Position { line: 1, column: 1 };
        let frame = Frame { function: Some("f".repeat(9_000)), at };
        let origin = Origin {
            at: Some(at),
            excerpt: Some("é".repeat(9_000)),
            frames: vec![frame; 99],
            console: vec!["x".repeat(5_000); 99],
            ..Origin::default()
        };
        let failure = Failure {
            code: "runtime".into(),
            message: "m".repeat(9_000),
            pointer: None,
            origin: Some(Box::new(origin)),
        };
        let error = failure.clone().received(&limits);
        assert_eq!((error.code, error.message.len()), ("runtime", MESSAGE));
        let origin = error.origin.unwrap();
        assert_eq!((origin.frames.len(), origin.excerpt.unwrap().len()), (FRAMES, EXCERPT));
        assert_eq!(origin.frames[0].function.as_ref().unwrap().len(), NAME);
        assert_eq!(origin.console.len(), 50);
        assert_eq!(origin.console.concat().len(), 8 << 10);
        let passing = Failure { code: "lookup_missing".into(), ..failure.clone() };
        assert!(passing.received(&limits).retryable && !error.retryable);
        let strange = Failure { code: "delivered".into(), ..failure };
        assert_eq!(strange.received(&limits).code, "crashed");
    }
}
