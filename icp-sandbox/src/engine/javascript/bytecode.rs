//! The engine's compiled form of a script.
//!
//! Whoever reads it trusts it like native code. So it has no way in but compiling: what a runtime
//! of this process wrote is read by later runtimes of the same process, and goes nowhere else.
#![expect(unsafe_code, reason = "the engine's bindings compile and read modules only")]

use std::ffi::CStr;
use std::fmt;
use std::slice;

use rquickjs::{Ctx, Error, Exception, FromJs, Result, Value, qjs};

/// How much longer than four times its source a compiled form may be, in bytes.
const SLACK: usize = 64 << 10;

/// What leaves texts of functions and places in them out of a compiled form.
const BARE: u32 = qjs::JS_WRITE_OBJ_STRIP_SOURCE | qjs::JS_WRITE_OBJ_STRIP_DEBUG;

/// A script that was read, and not run.
pub(super) struct Bytecode(Box<[u8]>);

impl Bytecode {
    /// Reads `source`, which frames call `name`, in a context that can read code and is used for
    /// nothing else. A form that is many times as long as the source, as every function holds its
    /// own text, goes without texts; one that is too long even so has no room.
    pub(super) fn compile(ctx: &Ctx<'_>, source: Vec<u8>, name: &CStr) -> Result<Self> {
        let most = source.len() * 4 + SLACK;
        let script = read(ctx, source, name)?;
        let form = match write(ctx, &script, 0, most)? {
            None => write(ctx, &script, BARE, most * 4)?,
            whole => whole,
        };
        form.map(Self).ok_or(Error::Allocation)
    }

    /// Reads `source`, whose functions are not to know their text.
    pub(super) fn compile_bare(ctx: &Ctx<'_>, source: Vec<u8>) -> Result<Self> {
        let script = read(ctx, source, c"")?;
        write(ctx, &script, BARE, usize::MAX)?.map(Self).ok_or(Error::Allocation)
    }

    /// Its length in bytes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Runs the script; gives the value of its last expression.
    pub(super) fn run<'js, V: FromJs<'js>>(&self, ctx: &Ctx<'js>) -> Result<V> {
        let flags = qjs::JS_READ_OBJ_BYTECODE as i32;
        let length = self.0.len() as qjs::size_t;
        // SAFETY: the context is alive and in use by this thread; the bytes are whole, and were
        // written by the same engine in this process, as there is no other way to a `Self`.
        let read =
            unsafe { qjs::JS_ReadObject(ctx.as_raw().as_ptr(), self.0.as_ptr(), length, flags) };
        let script = owned(ctx, read)?;
        // SAFETY: the engine takes one count of the script, which is made for it.
        let value = unsafe {
            let context = ctx.as_raw().as_ptr();
            qjs::JS_EvalFunction(context, qjs::JS_DupValue(context, script.as_raw()))
        };
        V::from_js(ctx, owned(ctx, value)?)
    }
}

impl fmt::Debug for Bytecode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytecode").field("bytes", &self.0.len()).finish()
    }
}

/// A script of `source`, which did not run.
fn read<'js>(ctx: &Ctx<'js>, mut source: Vec<u8>, name: &CStr) -> Result<Value<'js>> {
    let flags =
        qjs::JS_EVAL_TYPE_GLOBAL | qjs::JS_EVAL_FLAG_STRICT | qjs::JS_EVAL_FLAG_COMPILE_ONLY;
    let length = source.len() as qjs::size_t;
    // The engine looks for the end of the text in its last byte.
    source.push(0);
    // SAFETY: the context is alive and in use by this thread, as `Ctx` stands for; the text ends
    // in a zero byte that is not counted, and it and the name outlive the call.
    let read = unsafe {
        let text = source.as_ptr().cast();
        qjs::JS_Eval(ctx.as_raw().as_ptr(), text, length, name.as_ptr(), flags as i32)
    };
    let script = owned(ctx, read)?;
    // The parser looks ahead, and leaves behind what it raised where it could not read on. Where
    // that was for want of memory, it may have read something else than was written.
    let left = ctx.catch();
    let message = left.as_exception().and_then(Exception::message);
    if left.is_null() || message.is_some_and(|message| message == "out of memory") {
        return Err(Error::Allocation);
    }
    Ok(script)
}

/// The compiled form of a script, where it has at most `most` bytes.
fn write(ctx: &Ctx<'_>, script: &Value<'_>, flags: u32, most: usize) -> Result<Option<Box<[u8]>>> {
    let mut length = 0;
    let flags = (qjs::JS_WRITE_OBJ_BYTECODE | flags) as i32;
    // The script is within the limit of its runtime, and what is written of it is as large as
    // that. It may take as much again while it grows; then all of it is gone.
    // SAFETY: the context is alive and in use by this thread; the script is of this context.
    let written = unsafe {
        qjs::JS_SetMemoryLimit(qjs::JS_GetRuntime(ctx.as_raw().as_ptr()), 0);
        qjs::JS_WriteObject(ctx.as_raw().as_ptr(), &raw mut length, script.as_raw(), flags)
    };
    // Where there was no memory the engine raises that, and gives what it wrote all the same,
    // with parts left out.
    let whole = !ctx.has_exception();
    if written.is_null() {
        return Err(Error::Exception);
    }
    let length = length as usize;
    let fits = whole && length <= most;
    // SAFETY: the engine allocated this many bytes and gave them to us; they are copied before
    // they go back to it.
    let bytes = unsafe {
        let bytes = fits.then(|| slice::from_raw_parts(written, length).into());
        qjs::js_free(ctx.as_raw().as_ptr(), written.cast());
        bytes
    };
    if whole { Ok(bytes) } else { Err(Error::Exception) }
}

/// What the engine gave away, unless it raised an exception instead.
fn owned<'js>(ctx: &Ctx<'js>, value: qjs::JSValue) -> Result<Value<'js>> {
    // SAFETY: the value is of this context, and its count is ours.
    match unsafe { Value::from_raw(ctx.clone(), value) } {
        value if value.is_exception() => Err(Error::Exception),
        value => Ok(value),
    }
}
