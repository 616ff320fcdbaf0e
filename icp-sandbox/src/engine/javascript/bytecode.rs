//! The engine's compiled form of a script.
//!
//! Whoever reads it trusts it like native code. So it has no way in but compiling: what a runtime
//! of this process wrote is read by later runtimes of the same process, and goes nowhere else.
#![expect(unsafe_code, reason = "the engine's bindings compile and read modules only")]

use std::ffi::CStr;
use std::fmt;
use std::slice;

use rquickjs::{Ctx, Error, FromJs, Result, Value, qjs};

/// A script that was read, and not run.
pub(super) struct Bytecode(Box<[u8]>);

impl Bytecode {
    /// Reads `source`, which frames call `name`, in a context that can read code. Without `debug`
    /// functions do not know their text and their places in it.
    pub(super) fn compile(
        ctx: &Ctx<'_>,
        mut source: Vec<u8>,
        name: &CStr,
        debug: bool,
    ) -> Result<Self> {
        let flags =
            qjs::JS_EVAL_TYPE_GLOBAL | qjs::JS_EVAL_FLAG_STRICT | qjs::JS_EVAL_FLAG_COMPILE_ONLY;
        let length = source.len() as qjs::size_t;
        // The engine looks for the end of the text in its last byte.
        source.push(0);
        // SAFETY: the context is alive and in use by this thread, as `Ctx` stands for; the text
        // ends in a zero byte that is not counted, and it and the name outlive the call.
        let read = unsafe {
            let text = source.as_ptr().cast();
            qjs::JS_Eval(ctx.as_raw().as_ptr(), text, length, name.as_ptr(), flags as i32)
        };
        let script = owned(ctx, read)?;
        let stripped = match debug {
            true => 0,
            false => qjs::JS_WRITE_OBJ_STRIP_SOURCE | qjs::JS_WRITE_OBJ_STRIP_DEBUG,
        };
        let mut length = 0;
        // SAFETY: as above; the script is of this context, and lives until the end of the block.
        let written = unsafe {
            let flags = (qjs::JS_WRITE_OBJ_BYTECODE | stripped) as i32;
            qjs::JS_WriteObject(ctx.as_raw().as_ptr(), &raw mut length, script.as_raw(), flags)
        };
        if written.is_null() {
            return Err(Error::Exception);
        }
        // SAFETY: the engine allocated this many bytes and gave them to us; they are copied
        // before they go back to it.
        unsafe {
            let bytes = slice::from_raw_parts(written, length as usize).into();
            qjs::js_free(ctx.as_raw().as_ptr(), written.cast());
            Ok(Self(bytes))
        }
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

/// What the engine gave away, unless it raised an exception instead.
fn owned<'js>(ctx: &Ctx<'js>, value: qjs::JSValue) -> Result<Value<'js>> {
    // SAFETY: the value is of this context, and its count is ours.
    match unsafe { Value::from_raw(ctx.clone(), value) } {
        value if value.is_exception() => Err(Error::Exception),
        value => Ok(value),
    }
}
