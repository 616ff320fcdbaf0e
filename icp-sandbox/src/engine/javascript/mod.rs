//! JavaScript on QuickJS: a runtime of its own for each call.

mod bytecode;
mod compiler;
mod fault;
mod isolate;
mod natives;
mod own;
mod source;
mod watch;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use icp_core::transform::{HelpersSpec, Limits, Program, TransformError};

use self::bytecode::Bytecode;
use self::isolate::{Isolate, Wrote};
use self::own::Own;
use super::{Made, Run};
use crate::desk::Desk;
use crate::payload::{self, Payload};

/// A program that was read.
#[derive(Debug)]
pub(crate) struct Script {
    source: Box<str>,
    code: Bytecode,
    sends: bool,
    helpers: Option<HelpersSpec>,
}

impl Script {
    /// Reads the program. No part of it runs.
    pub(super) fn compile(program: &Program, limits: &Limits) -> Result<Self, TransformError> {
        let source = program.source();
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        if source.contains('\0') {
            let message = "the program holds a nul character; write it as an escape";
            return Err(TransformError::new("compile", message));
        }
        let code = compiler::program(source, limits)?;
        let helpers = program.helpers().cloned();
        Ok(Self { source: source.into(), code, sends: program.sends(), helpers })
    }

    /// Runs the program in a runtime that sees nothing but this payload.
    pub(super) fn run(&self, payload: Payload, run: &mut Run<'_>) -> Result<Made, TransformError> {
        let input = payload.into_text(run.limits)?;
        let isolate = run.spare.take(run)?;
        let ran = isolate.run(self, input, run);
        run.notes.console.append(&mut isolate.console());
        let wrote = ran?;
        if run.scene.measure {
            run.notes.heap_bytes = run.notes.heap_bytes.max(isolate.heap_held());
        }
        // Before the answer: a runtime that was out of memory once may take the process along, and
        // that is the failure of this call.
        drop(isolate);
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
    own: Own,
}

impl Spare {
    fn own(&self) -> &Own {
        &self.own
    }

    fn take(&self, run: &Run<'_>) -> Result<Isolate, TransformError> {
        self.wanted.set(true);
        let isolate = match self.next.take() {
            Some(isolate) => isolate,
            None => Isolate::new(run.limits, run.desk, &self.own)?,
        };
        Ok(isolate.until(run.deadline))
    }

    /// Makes the next runtime where the last call took one.
    pub(crate) fn renew(&self, limits: &Limits, desk: &Arc<Desk>) {
        if self.wanted.take() {
            // Where it cannot be made, the call that wants it says so.
            self.next.replace(Isolate::new(limits, desk, &self.own).ok());
        }
    }

    /// See [`engine::warm_up`](super::warm_up).
    pub(super) fn warm_up(&self, desk: &Arc<Desk>) {
        if let Ok(isolate) = Isolate::new(&Limits::default(), desk, &self.own) {
            isolate.warm_up();
        }
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}
