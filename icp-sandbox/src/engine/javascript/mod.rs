//! JavaScript on QuickJS: a runtime of its own for each call.

mod fault;
mod isolate;
mod natives;
mod source;

use std::cell::{Cell, RefCell};
use std::fmt;

use icp_core::transform::{HelpersSpec, Limits, Program, TransformError};

use self::isolate::{Isolate, Wrote};
use super::{Deadline, Made, Run};
use crate::payload::{self, Payload};

/// A program whose syntax was checked. The engine's own compiled form is native code that is
/// trusted by who loads it, so the text is what is kept.
#[derive(Debug)]
pub(crate) struct Script {
    source: Box<str>,
    sends: bool,
    helpers: Option<HelpersSpec>,
}

/// See [`engine::warm_up`](super::warm_up).
pub(super) fn warm_up() {
    let limits = Limits::default();
    if let Ok(isolate) = Isolate::new(&limits) {
        isolate.warm_up();
    }
}

impl Script {
    /// Checks the syntax in a runtime that is thrown away. No part of the program runs.
    pub(super) fn compile(program: &Program, limits: &Limits) -> Result<Self, TransformError> {
        let source = program.source();
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        if source.contains('\0') {
            let message = "the program holds a nul character; write it as an escape";
            return Err(TransformError::new("compile", message));
        }
        let isolate = Isolate::new(limits)?.until(Deadline::begin(limits));
        isolate.check(source)?;
        let helpers = program.helpers().cloned();
        Ok(Self { source: source.into(), sends: program.sends(), helpers })
    }

    /// Runs the program in a runtime that sees nothing but this payload.
    pub(super) fn run(&self, payload: Payload, run: &mut Run<'_>) -> Result<Made, TransformError> {
        let input = payload.into_text(run.limits)?;
        let isolate = run.spare.take(run.limits, run.deadline)?;
        let ran = isolate.run(self, input, run);
        run.notes.console.append(&mut isolate.console());
        let wrote = ran?;
        if run.scene.measure {
            run.notes.heap_bytes = run.notes.heap_bytes.max(isolate.heap_held());
        }
        let json = match wrote {
            Wrote::Json(json) => json,
            Wrote::Dropped(reason) => return Ok(Made::Dropped(reason)),
        };
        payload::judge_size(&json, run.limits)?;
        Ok(Made::Payload(match run.last {
            true => Payload::written(json),
            false => Payload::judged(json, run.limits)?,
        }))
    }
}

/// A runtime that is made ahead, while nobody waits: making one takes longer than most programs.
#[derive(Default)]
pub(crate) struct Spare {
    next: RefCell<Option<Isolate>>,
    wanted: Cell<bool>,
}

impl Spare {
    fn take(&self, limits: &Limits, deadline: Deadline) -> Result<Isolate, TransformError> {
        self.wanted.set(true);
        let isolate = match self.next.take() {
            Some(isolate) => isolate,
            None => Isolate::new(limits)?,
        };
        Ok(isolate.until(deadline))
    }

    /// Makes the next runtime where the last call took one.
    pub(crate) fn renew(&self, limits: &Limits) {
        if self.wanted.take() {
            // Where it cannot be made, the call that wants it says so.
            self.next.replace(Isolate::new(limits).ok());
        }
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}
