//! What went wrong in a program, as people can use it.

use icp_core::transform::{Frame, Origin, TransformError};
use rquickjs::{Ctx, Error, Exception, Type, Value};

use super::source::{FILE, hint, place};
use super::watch::Watch;
use crate::call::{EXCERPT, FRAMES, MESSAGE, NAME, short};
use crate::engine::origin;

/// The failure that `error` stands for; `code` is its name where nothing more is known.
///
/// Messages and stacks are read while the deadline holds: their getters can be the program's own.
pub(super) fn of(
    watch: &Watch,
    ctx: &Ctx<'_>,
    error: &Error,
    source: &str,
    code: &'static str,
) -> TransformError {
    let thrown = match error {
        Error::Exception => ctx.catch(),
        Error::Allocation => return watch.out_of_memory(),
        other => return TransformError::new(code, other.to_string()),
    };
    if watch.has_interrupted() {
        return watch.exceeded();
    }
    // A heap without room for its own error raises what was never set, or `null`, which a program
    // hardly throws by itself.
    if thrown.type_of() == Type::Uninitialized || thrown.is_null() {
        return watch.out_of_memory();
    }
    let told = match thrown.as_exception() {
        Some(exception) => of_exception(ctx, exception, source, code),
        None => TransformError::new(code, format!("the program threw {}", described(ctx, &thrown))),
    };
    if watch.has_interrupted() {
        return watch.exceeded();
    }
    match told.message.as_str() {
        // The second is where there was no room for the words either.
        "InternalError: out of memory" | "InternalError" => watch.out_of_memory(),
        text if text.contains("Maximum call stack size exceeded")
            || text.contains("stack overflow") =>
        {
            TransformError { code: "stack", ..told }
        }
        _ => told,
    }
}

fn of_exception(
    ctx: &Ctx<'_>,
    exception: &Exception<'_>,
    source: &str,
    code: &'static str,
) -> TransformError {
    let text = |name: &str| {
        let text = exception.get::<_, Option<rquickjs::Coerced<String>>>(name);
        if text.is_err() {
            ctx.catch();
        }
        text.ok().flatten().map(|text| text.0)
    };
    let name = text("name").unwrap_or_else(|| "Error".to_owned());
    let said = short(text("message").unwrap_or_default(), MESSAGE);
    let mut message =
        if said.is_empty() { short(name, NAME) } else { format!("{}: {said}", short(name, NAME)) };
    if code == "compile"
        && let Some(hint) = hint(source)
    {
        message = format!("{message}; {hint}");
    }
    let frames = frames(&text("stack").unwrap_or_default(), source);
    let error = TransformError::new(code, message);
    match frames.first().map(|frame| frame.at) {
        None => error,
        Some(at) => error.in_program(Origin { frames, ..origin(source, at) }),
    }
}

/// The frames of the program itself, as in `    at name (transform.js:3:14)`.
fn frames(stack: &str, source: &str) -> Vec<Frame> {
    stack.lines().filter_map(|line| frame(line, source)).take(FRAMES).collect()
}

fn frame(line: &str, source: &str) -> Option<Frame> {
    let line = line.trim().strip_prefix("at ")?;
    let (name, rest) = line.rsplit_once(FILE.to_str().ok()?)?;
    let mut numbers = rest.trim_end_matches(')').split(':').skip(1);
    let line = numbers.next()?.parse().ok()?;
    let column = numbers.next().and_then(|column| column.parse().ok()).unwrap_or(1);
    let name = name.trim_end_matches('(').trim();
    let function = (!name.is_empty() && name != "<anonymous>").then(|| short(name.into(), NAME));
    Some(Frame { function, at: place(source, line, column) })
}

/// What was thrown and is no error: its type, and its JSON where it has one.
fn described<'js>(ctx: &Ctx<'js>, thrown: &Value<'js>) -> String {
    let written = match ctx.json_stringify(thrown.clone()) {
        Ok(text) => text.and_then(|text| text.to_string().ok()),
        Err(_) => {
            ctx.catch();
            None
        }
    };
    match written {
        Some(text) => format!("{} {}", thrown.type_name(), short(text, EXCERPT)),
        None => thrown.type_name().to_owned(),
    }
}
