//! One runtime for one call, and what a program finds in it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use icp_core::transform::{DateOrder, HelpersSpec, Limits, TransformError};
use rquickjs::context::intrinsic;
use rquickjs::promise::PromiseState;
use rquickjs::{Array, Context, Ctx, Function, Object, Promise, Value};
use serde_json::json;

use super::bytecode::Bytecode;
use super::own::Own;
use super::watch::{self, Watch};
use super::{Script, fault, natives};
use crate::call::Scene;
use crate::chance::Chance;
use crate::desk::Desk;
use crate::engine::{Deadline, Run, about};

/// Where the prelude waits for a call.
const HELD: &str = "icp prelude";

/// What a program finds beside the base objects. Nothing here reads code: programs come compiled.
type Intrinsics = (
    intrinsic::Date,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::MapSet,
    intrinsic::Promise,
);

/// A runtime with one context, in which the prelude ran and no program yet.
pub(super) struct Isolate {
    context: Context,
    watch: Rc<Watch>,
    call: Rc<Call>,
}

/// What a program wrote. Its text may hold half of a surrogate pair, which is no JSON.
pub(super) enum Wrote {
    Json(Vec<u8>),
    Dropped(String),
}

/// What the functions of the host know of the call.
#[derive(Default)]
pub(super) struct Call {
    chance: RefCell<Option<Chance>>,
    console: RefCell<Console>,
}

/// What only some programs find.
struct Extras<'a> {
    http: Option<&'a Bytecode>,
    helpers: Option<(&'a HelpersSpec, &'a Bytecode)>,
}

/// The lines of a program, within bounds.
#[derive(Default)]
struct Console {
    lines: Vec<String>,
    bytes: usize,
}

impl Isolate {
    /// Makes a runtime for a call that is not there yet.
    pub(super) fn new(
        limits: &Limits,
        desk: &Arc<Desk>,
        own: &Own,
    ) -> Result<Self, TransformError> {
        let code = own.prelude()?;
        let (context, watch) = watch::start::<Intrinsics>(limits)?;
        let call = Rc::default();
        // Under a name that programs could see, were it not taken away before they are there.
        let held = context.with(|ctx| {
            let prelude: Function<'_> = code.run(&ctx)?;
            let begin: Function<'_> = prelude.call((natives::of(&ctx, &call, desk, &watch)?,))?;
            ctx.globals().set(HELD, begin)
        });
        held.map_err(|_| watch::unusable())?;
        Ok(Self { context, watch, call })
    }

    /// The same, stopped at `deadline` from now on.
    pub(super) fn until(self, deadline: Deadline) -> Self {
        self.watch.until(deadline);
        self
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
            let failed =
                |error: &rquickjs::Error, code| fault::of(&self.watch, &ctx, error, source, code);
            let extras = Extras::of(script, run.spare.own())?;
            let prepared = self.prepare(&ctx, &extras, run);
            let (context, enter) = prepared.map_err(|error| failed(&error, "runtime"))?;
            let program: Function<'_> =
                script.code.run(&ctx).map_err(|error| failed(&error, "compile"))?;
            let payload = ctx.json_parse(input).map_err(|e| failed(&e, "runtime"))?;
            let promise: Promise<'_> =
                enter.call((program, payload, context)).map_err(|e| failed(&e, "runtime"))?;
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
        std::mem::take(&mut self.call.console.borrow_mut().lines)
    }

    /// Makes the system's library look for its time zone, which it does once.
    pub(super) fn warm_up(&self) {
        self.context.with(|ctx| {
            let date: rquickjs::Result<Function<'_>> = ctx.globals().get("Date");
            drop(date.and_then(|date| date.call::<_, String>(())));
        });
    }

    /// What is on the heap, in bytes. Looks at every object.
    pub(super) fn heap_held(&self) -> Option<u64> {
        u64::try_from(self.context.runtime().memory_usage().malloc_size).ok()
    }

    /// What a program is called with beside its payload, and what calls it.
    fn prepare<'js>(
        &self,
        ctx: &Ctx<'js>,
        extras: &Extras<'_>,
        run: &Run<'_>,
    ) -> rquickjs::Result<(Object<'js>, Function<'js>)> {
        let begin: Function<'_> = ctx.globals().get(HELD)?;
        ctx.globals().remove(HELD)?;
        self.call.chance.replace(Some(Chance::of(run.scene.event)));
        let client: Option<Function<'_>> = extras.http.map(|code| code.run(ctx)).transpose()?;
        let begun: Array<'_> = begin.call((ctx.json_parse(info(run.scene))?, client))?;
        let (context, enter) = (begun.get(0)?, begun.get(1)?);
        if let Some((helpers, code)) = extras.helpers {
            install(ctx, helpers, code, &context)?;
        }
        Ok((context, enter))
    }

    /// Runs reactions of promises until `promise` is settled or there are none.
    fn react(
        &self,
        ctx: &Ctx<'_>,
        promise: &Promise<'_>,
        source: &str,
    ) -> Result<(), TransformError> {
        let limits = &self.watch.limits;
        let mut left = limits.reactions;
        while promise.state() == PromiseState::Pending && ctx.execute_pending_job() {
            if self.watch.has_interrupted() || self.watch.is_late() {
                self.watch.interrupt();
                let stopped = rquickjs::Error::Exception;
                return Err(fault::of(&self.watch, ctx, &stopped, source, "timeout"));
            }
            left -= 1;
            if left == 0 {
                let reactions = limits.reactions;
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
        let written = written
            .map_err(|error| fault::of(&self.watch, ctx, &error, source, "output_invalid"))?;
        let Some(text) = written else {
            let message = "the program answers nothing that json knows; return a value or null";
            return Err(TransformError::new("no_result", message));
        };
        let text = text.to_string();
        let text = text.map_err(|e| fault::of(&self.watch, ctx, &e, source, "output_invalid"))?;
        Ok(Wrote::Json(text.into_bytes()))
    }
}

impl<'a> Extras<'a> {
    fn of(script: &'a Script, own: &'a Own) -> Result<Self, TransformError> {
        let http = if script.sends { Some(own.http()?) } else { None };
        let helpers = match &script.helpers {
            Some(helpers) => Some((helpers, own.helpers()?)),
            None => None,
        };
        Ok(Self { http, helpers })
    }
}

impl Call {
    /// A number from 0 to below 1; none before the call.
    pub(super) fn random(&self) -> Option<f64> {
        self.chance.borrow_mut().as_mut().map(Chance::fraction)
    }

    /// Writes a line to the console, as far as there is room.
    pub(super) fn log(&self, line: String, limits: &Limits) {
        self.console.borrow_mut().write(line, limits);
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

/// Puts the functions there that scripts of other products expect.
fn install<'js>(
    ctx: &Ctx<'js>,
    helpers: &HelpersSpec,
    code: &Bytecode,
    context: &Object<'js>,
) -> rquickjs::Result<()> {
    let install: Function<'_> = code.run(ctx)?;
    let offset = helpers.offset_minutes().unwrap_or(0);
    let day_first = helpers.date_order == DateOrder::DayFirst;
    let country = helpers.country_code.as_deref();
    install.call((context.clone(), offset, country, day_first))
}

/// What the prelude is told of the event.
fn info(scene: &Scene) -> String {
    json!({ "context": about(scene), "now": scene.received_at.as_millis() }).to_string()
}

fn never_settled(why: &str) -> TransformError {
    TransformError::new("never_settled", format!("the program did not come to an end: {why}"))
}
