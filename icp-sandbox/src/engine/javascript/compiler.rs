//! Reading programs, in runtimes that are thrown away and run nothing.

use std::rc::Rc;

use icp_core::transform::{Limits, TransformError};
use rquickjs::Context;
use rquickjs::context::intrinsic::{Eval, RegExpCompiler};

use super::bytecode::Bytecode;
use super::fault;
use super::source::{FILE, wrapped};
use super::watch::{self, Watch};
use crate::engine::Deadline;

/// Reads a program within its limits; its text is an organization's.
pub(super) fn program(source: &str, limits: &Limits) -> Result<Bytecode, TransformError> {
    let (context, watch) = reader(limits)?;
    watch.until(Deadline::begin(limits));
    context.with(|ctx| {
        let read = Bytecode::compile(&ctx, wrapped(source).into(), FILE, true);
        read.map_err(|error| fault::of(&watch, &ctx, &error, source, "compile"))
    })
}

/// Reads a script of our own; none where the engine cannot be started.
pub(super) fn own(source: &str) -> Option<Bytecode> {
    let (context, _) = reader(&Limits::default()).ok()?;
    context.with(|ctx| Bytecode::compile(&ctx, source.into(), c"own.js", false)).ok()
}

/// What reads code; literals of regular expressions are code.
fn reader(limits: &Limits) -> Result<(Context, Rc<Watch>), TransformError> {
    watch::start::<(Eval, RegExpCompiler)>(limits)
}
