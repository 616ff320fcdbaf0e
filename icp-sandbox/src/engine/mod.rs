//! Engines: each compiles a program, and runs what it compiled on one payload.

mod asked;
mod javascript;
mod jmespath;
mod jsonata;
mod schema;

use std::sync::Arc;

pub(crate) use self::javascript::Spare;
use icp_core::transform::{Language, Limits, Origin, Position, Program, TransformError};
use serde_json::{Value, json};

use crate::call::{EXCERPT, MESSAGE, Notes, Scene, short};
use crate::desk::Desk;
use crate::payload::Payload;

/// A compiled program.
#[derive(Debug)]
pub(crate) enum Compiled {
    Javascript(javascript::Script),
    Jsonata(jsonata::Expression),
    Jmespath(jmespath::Expression),
    Schema(schema::Schema),
}

/// What a program made of a payload.
#[derive(Debug)]
pub(crate) enum Made {
    /// Another payload, or the same.
    Payload(Payload),
    /// Nothing is to be sent.
    Dropped(String),
}

/// What a run may use and know.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) scene: &'a Scene,
    pub(crate) deadline: Deadline,
    pub(crate) desk: &'a Arc<Desk>,
    pub(crate) spare: &'a Spare,
    pub(crate) notes: &'a mut Notes,
    /// Whether no step comes after: what the program makes is judged by the host then.
    pub(crate) last: bool,
}

/// When an engine is to stop, by the processor time of the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    began: u64,
    millis: u64,
}

impl Deadline {
    /// Begins now.
    pub(crate) fn begin(limits: &Limits) -> Self {
        Self { began: cpu_micros(), millis: u64::from(limits.deadline_ms) }
    }

    /// The processor time since it began, in microseconds.
    pub(crate) fn used_micros(self) -> u64 {
        cpu_micros().saturating_sub(self.began)
    }

    /// Whether it is over.
    pub(crate) fn is_over(self) -> bool {
        self.used_micros() >= self.millis * 1_000
    }

    /// The failure of what took longer.
    pub(crate) fn exceeded(self) -> TransformError {
        let message = format!(
            "the program took more than {} ms of processor time; do less in it",
            self.millis
        );
        TransformError::new("timeout", message)
    }
}

/// Makes every engine do what it does only once, such as asking for the number of processors. A
/// confined process could not.
pub(crate) fn warm_up(desk: &Arc<Desk>, spare: &Spare) {
    let schema = r##"{"properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{"pattern":"^.$","format":"date"}}}"##;
    if let Ok(schema) = schema::Schema::compile(schema) {
        drop(schema.run(Payload::written(br#"{"a":"b"}"#.to_vec())));
    }
    if let Ok(expression) = jmespath::Expression::compile("length(a)", desk) {
        drop(expression.run(Payload::written(br#"{"a":"b"}"#.to_vec())));
    }
    drop(jsonata::Expression::compile("$match(a, /b/)"));
    spare.warm_up(desk);
}

fn cpu_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    u64::try_from(micros).unwrap_or(0)
}

/// Compiles a program.
///
/// # Errors
///
/// The code `compile`, with the place where the engine tells one.
pub(crate) fn compile(
    program: &Program,
    limits: &Limits,
    desk: &Arc<Desk>,
) -> Result<Compiled, TransformError> {
    let (source, most) = (program.source(), limits.source_bytes(program.language()));
    let compiled = if source.len() > most {
        let message = format!("the program has {} bytes; keep it within {most}", source.len());
        Err(TransformError::new("compile", message))
    } else {
        match program.language() {
            Language::Javascript => {
                javascript::Script::compile(program, limits).map(Compiled::Javascript)
            }
            Language::Jsonata => jsonata::Expression::compile(source).map(Compiled::Jsonata),
            Language::Jmespath => {
                jmespath::Expression::compile(source, desk).map(Compiled::Jmespath)
            }
            Language::JsonSchema => schema::Schema::compile(source).map(Compiled::Schema),
            other => {
                let message = format!("this sandbox has no engine for {other}");
                Err(TransformError::new("compile", message))
            }
        }
    };
    compiled.map_err(|error| placed(error, program))
}

/// Runs a compiled program on a payload.
pub(crate) fn run(
    compiled: &Compiled,
    program: &Program,
    payload: Payload,
    run: &mut Run<'_>,
) -> Result<Made, TransformError> {
    let result = guard(program, &payload, run).and_then(|()| match compiled {
        Compiled::Javascript(script) => script.run(payload, run),
        Compiled::Jsonata(expression) => expression.run(payload, run),
        Compiled::Jmespath(expression) => expression.run(payload),
        Compiled::Schema(schema) => schema.run(payload),
    });
    result.map_err(|error| placed(run.desk.explain(error), program))
}

/// Numbers that the language rounds are refused or told, as the program wants.
fn guard(program: &Program, payload: &Payload, run: &mut Run<'_>) -> Result<(), TransformError> {
    let rounds = matches!(program.language(), Language::Javascript | Language::Jsonata);
    let count = if rounds { payload.unsafe_integers() } else { 0 };
    if count == 0 {
        return Ok(());
    }
    let message = format!("{count} integers beyond 2^53 cannot be told from their neighbours");
    if program.rejects_unsafe_integers() {
        let message = format!("{message}; publish them as strings");
        return Err(TransformError::new("input_unsafe_integer", message));
    }
    run.notes.warnings.push(format!("{message} and are rounded ({})", program.pointer()));
    Ok(())
}

/// The error with the pointer to its program, unless it names a part of it.
fn placed(error: TransformError, program: &Program) -> TransformError {
    let mut error = error;
    error.message = short(error.message, MESSAGE);
    let within = error.pointer.take().unwrap_or_default();
    error.at_pointer(format!("{}{within}", program.pointer()))
}

/// What programs read of the event and the integration as `context`.
fn about(scene: &Scene) -> Value {
    json!({
        "event": {
            "id": scene.event.to_string(),
            "type": scene.event_type.as_str(),
            "receivedAt": scene.received_at.to_string(),
            "attempt": scene.attempt,
        },
        "org": { "id": scene.org.as_str() },
        "integration": scene.integration,
        "vars": scene.vars,
    })
}

/// The origin of a failure at `at` in `source`.
fn origin(source: &str, at: Position) -> Origin {
    let line = source.lines().nth(at.line.saturating_sub(1) as usize).unwrap_or_default();
    let excerpt = (!line.trim().is_empty()).then(|| short(line.trim().to_owned(), EXCERPT));
    Origin { at: Some(at), excerpt, ..Origin::default() }
}
