//! One runtime for one call, and what a program finds in it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use icp_core::transform::{DateOrder, Limits, TransformError};
use rquickjs::context::{EvalOptions, intrinsic};
use rquickjs::promise::PromiseState;
use rquickjs::{Array, Context, Ctx, Function, Object, Promise, Runtime, Value};
use serde_json::json;

use super::source::{FILE, wrapped};
use super::{Script, fault, natives};
use crate::call::Scene;
use crate::engine::{Deadline, Run, about};

const PRELUDE: &str = include_str!("prelude.js");
const HELPERS: &str = include_str!("helpers.js");

/// Where the prelude waits for a program.
const HELD: &str = "icp prelude";

/// From which heap on garbage is looked for. A call is too short to look often.
const GARBAGE: usize = 4 << 20;

/// What a program finds beside the base objects. `Eval` is what reads any program at all; the
/// prelude takes its ways in from the program itself.
type Intrinsics = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::MapSet,
    intrinsic::Promise,
);

/// A runtime with one context, in which the prelude was read and no program yet.
pub(super) struct Isolate {
    context: Context,
    limits: Limits,
    deadline: Rc<Cell<Option<Deadline>>>,
    pub(super) interrupted: Rc<Cell<bool>>,
    console: Rc<RefCell<Console>>,
}

/// What a program wrote. Its text may hold half of a surrogate pair, which is no JSON.
pub(super) enum Wrote {
    Json(Vec<u8>),
    Dropped(String),
}

/// The lines of a program, within bounds.
#[derive(Default)]
struct Console {
    lines: Vec<String>,
    bytes: usize,
}

impl Isolate {
    /// Makes a runtime; a deadline is set before it sees a program.
    pub(super) fn new(limits: &Limits) -> Result<Self, TransformError> {
        let deadline = Rc::new(Cell::new(None::<Deadline>));
        let until = Rc::clone(&deadline);
        let unusable = |_| TransformError::new("memory", "the engine could not be started");
        let runtime = Runtime::new().map_err(unusable)?;
        runtime.set_max_stack_size(limits.stack_bytes as usize);
        runtime.set_gc_threshold(GARBAGE);
        let interrupted = Rc::new(Cell::new(false));
        let flag = Rc::clone(&interrupted);
        runtime.set_interrupt_handler(Some(Box::new(move || {
            let over = until.get().is_some_and(Deadline::is_over);
            flag.set(flag.get() || over);
            over
        })));
        let context = Context::custom::<Intrinsics>(&runtime).map_err(unusable)?;
        // Only now: a context that is made on a full heap takes the process along.
        runtime.set_memory_limit(limits.heap_bytes as usize);
        // Under a name that programs could see, were it not taken away before they are there.
        let read = context.with(|ctx| {
            let prelude: Function<'_> = ctx.eval(PRELUDE)?;
            ctx.globals().set(HELD, prelude)
        });
        read.map_err(unusable)?;
        let console = Rc::default();
        Ok(Self { context, limits: limits.clone(), deadline, interrupted, console })
    }

    /// The same, stopped at `deadline` from now on.
    pub(super) fn until(self, deadline: Deadline) -> Self {
        self.deadline.set(Some(deadline));
        self
    }

    fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(Deadline::is_over)
    }

    /// The failure of what took longer.
    pub(super) fn exceeded(&self) -> TransformError {
        self.deadline.get().unwrap_or_else(|| Deadline::begin(&self.limits)).exceeded()
    }

    /// Makes the system's library look for its time zone, which it does once.
    pub(super) fn warm_up(&self) {
        self.context.with(|ctx| drop(ctx.eval::<f64, _>("new Date(0).getTimezoneOffset()")));
    }

    /// Reads the program without running it.
    pub(super) fn check(&self, source: &str) -> Result<(), TransformError> {
        self.context.with(|ctx| match read::<Function<'_>>(&ctx, source) {
            Ok(_) => Ok(()),
            Err(error) => Err(fault::of(self, &ctx, &error, source, "compile")),
        })
    }

    /// Runs the program on `input`, which is JSON.
    pub(super) fn run(
        &self,
        script: &Script,
        input: Vec<u8>,
        run: &Run<'_>,
    ) -> Result<Wrote, TransformError> {
        let source = &*script.source;
        self.context.with(|ctx| {
            let failed = |error: &rquickjs::Error, code| fault::of(self, &ctx, error, source, code);
            let prepared = self.prepare(&ctx, script, run);
            let enter = prepared.map_err(|error| failed(&error, "runtime"))?;
            let program: Function<'_> = read(&ctx, source).map_err(|e| failed(&e, "compile"))?;
            let payload = ctx.json_parse(input).map_err(|e| failed(&e, "runtime"))?;
            let promise: Promise<'_> =
                enter.call((program, payload)).map_err(|e| failed(&e, "runtime"))?;
            self.react(&ctx, &promise, source)?;
            let answer = match promise.result::<Array<'_>>() {
                Some(answer) => answer.map_err(|error| failed(&error, "runtime"))?,
                None => return Err(never_settled("its promise waits for nothing that could come")),
            };
            let kind: String = answer.get(0).map_err(|error| failed(&error, "runtime"))?;
            let value: Value<'_> = answer.get(1).map_err(|error| failed(&error, "runtime"))?;
            match kind.as_str() {
                "value" => self.write(&ctx, &value, source),
                "dropped" => Ok(Wrote::Dropped(value.get().unwrap_or_default())),
                _ => Err(TransformError::new(
                    "no_result",
                    "the program defines no `transform(payload, context)` and returns nothing",
                )),
            }
        })
    }

    /// What the program wrote to its console.
    pub(super) fn console(&self) -> Vec<String> {
        std::mem::take(&mut self.console.borrow_mut().lines)
    }

    /// What is on the heap, in bytes. Looks at every object.
    pub(super) fn heap_held(&self) -> Option<u64> {
        u64::try_from(self.context.runtime().memory_usage().malloc_size).ok()
    }

    /// The most that the heap holds, in bytes.
    pub(super) fn heap_bytes(&self) -> u32 {
        self.limits.heap_bytes
    }

    fn prepare<'js>(
        &self,
        ctx: &Ctx<'js>,
        script: &Script,
        run: &Run<'_>,
    ) -> rquickjs::Result<Function<'js>> {
        let prelude: Function<'_> = ctx.globals().get(HELD)?;
        ctx.globals().remove(HELD)?;
        let natives = natives::of(ctx, run, script.sends)?;
        let (console, limits) = (Rc::clone(&self.console), self.limits.clone());
        let log = move |line: String| console.borrow_mut().write(line, &limits);
        natives.set("log", Function::new(ctx.clone(), log)?)?;
        let prepared: Object<'_> = prelude.call((ctx.json_parse(info(run.scene))?, natives))?;
        if let Some(helpers) = &script.helpers {
            let install: Function<'_> = ctx.eval(HELPERS)?;
            let offset = helpers.offset_minutes().unwrap_or(0);
            let day_first = helpers.date_order == DateOrder::DayFirst;
            let country = helpers.country_code.as_deref();
            let context: Object<'_> = prepared.get("context")?;
            install.call::<_, ()>((context, offset, country, day_first))?;
        }
        prepared.get("enter")
    }

    /// Runs reactions of promises until `promise` is settled or there are none.
    fn react(
        &self,
        ctx: &Ctx<'_>,
        promise: &Promise<'_>,
        source: &str,
    ) -> Result<(), TransformError> {
        let mut left = self.limits.reactions;
        while promise.state() == PromiseState::Pending && ctx.execute_pending_job() {
            if self.interrupted.get() || self.is_late() {
                self.interrupted.set(true);
                return Err(fault::of(self, ctx, &rquickjs::Error::Exception, source, "timeout"));
            }
            left -= 1;
            if left == 0 {
                let reactions = self.limits.reactions;
                return Err(never_settled(&format!("it ran {reactions} promise reactions")));
            }
        }
        Ok(())
    }

    fn write<'js>(
        &self,
        ctx: &Ctx<'js>,
        value: &Value<'js>,
        source: &str,
    ) -> Result<Wrote, TransformError> {
        let written = ctx.json_stringify(value.clone());
        let written =
            written.map_err(|error| fault::of(self, ctx, &error, source, "output_invalid"))?;
        let Some(text) = written else {
            let message = "the program answers nothing that json knows; return a value or null";
            return Err(TransformError::new("no_result", message));
        };
        let text = text.to_string();
        let text = text.map_err(|e| fault::of(self, ctx, &e, source, "output_invalid"))?;
        Ok(Wrote::Json(text.into_bytes()))
    }
}

impl Console {
    fn write(&mut self, mut line: String, limits: &Limits) {
        let room = (limits.console_bytes as usize).saturating_sub(self.bytes);
        if self.lines.len() < limits.console_lines as usize && room > 0 {
            line.truncate(line.floor_char_boundary(room));
            self.bytes += line.len();
            self.lines.push(line);
        }
    }
}

fn read<'js, V: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, source: &str) -> rquickjs::Result<V> {
    let mut options = EvalOptions::default();
    options.filename = Some(FILE.to_owned());
    ctx.eval_with_options(wrapped(source), options)
}

/// What the prelude is told of the event.
fn info(scene: &Scene) -> String {
    json!({ "context": about(scene), "now": scene.received_at.as_millis() }).to_string()
}

fn never_settled(why: &str) -> TransformError {
    TransformError::new("never_settled", format!("the program did not come to an end: {why}"))
}
