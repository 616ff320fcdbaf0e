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
        let read = Bytecode::compile(&ctx, wrapped(source).into(), FILE);
        read.map_err(|error| fault::of(&watch, &ctx, &error, source, "compile"))
    })
}

/// Reads a script of our own.
pub(super) fn own(source: &str) -> Result<Bytecode, TransformError> {
    let (context, _) = reader(&Limits::default())?;
    let read = context.with(|ctx| Bytecode::compile_bare(&ctx, source.into()));
    read.map_err(|_| watch::unusable())
}

/// What reads code; literals of regular expressions are code.
fn reader(limits: &Limits) -> Result<(Context, Rc<Watch>), TransformError> {
    watch::start::<(Eval, RegExpCompiler)>(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of the functions holds the text of all within.
    fn nested(functions: usize, text: usize) -> String {
        let (open, close) = ("return (()=>{".repeat(functions), "})()".repeat(functions));
        format!("{open}return '{}'{close}", "A".repeat(text))
    }

    #[test]
    fn a_compiled_form_is_a_few_times_as_long_as_its_source() {
        let mut limits = Limits::default();
        // Debug builds of the engine have large frames.
        limits.stack_bytes = Limits::MAX.stack_bytes;
        for (functions, text) in
            [(0, 60_000), (1, 60_000), (2, 20_000), (50, 50_000), (100, 50_000)]
        {
            let source = nested(functions, text);
            let length = program(&source, &limits).unwrap().len();
            assert!(length > text, "{functions}: {length}");
            assert!(length < source.len() * 4 + (64 << 10), "{functions}: {length}");
        }
    }

    #[test]
    fn what_has_no_room_is_not_compiled() {
        let mut limits = Limits::default();
        limits.heap_bytes = 1 << 20;
        let error = program(&nested(100, 50_000), &limits).unwrap_err();
        assert_eq!(error.code, "memory");
    }
}
