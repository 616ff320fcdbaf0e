//! The functions of a program's context that are not JavaScript.

use std::cell::RefCell;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use icp_core::transform::Limits;
use rquickjs::{Ctx, Error, Exception, Function, Object, Result};

use crate::chance::Chance;
use crate::desk::Desk;
use crate::engine::Run;
use crate::engine::asked::Asked;
use crate::host::{HttpRequest, Refusal};

/// What the prelude makes the context of.
pub(super) fn of<'js>(ctx: &Ctx<'js>, run: &Run<'_>, sends: bool) -> Result<Object<'js>> {
    let natives = Object::new(ctx.clone())?;
    let chance = RefCell::new(Chance::of(run.scene.event));
    let random = move || chance.borrow_mut().fraction();
    natives.set("random", Function::new(ctx.clone(), random)?)?;
    let encode = |text: String| STANDARD.encode(text);
    natives.set("encode", Function::new(ctx.clone(), encode)?)?;
    let decode = |ctx: Ctx<'js>, text: String| decode(&ctx, &text);
    natives.set("decode", Function::new(ctx.clone(), decode)?)?;
    let desk = Arc::clone(run.desk);
    let find = move |ctx: Ctx<'js>, asked: String, reverse| look_up(&ctx, &desk, &asked, reverse);
    natives.set("lookUp", Function::new(ctx.clone(), find)?)?;
    if sends {
        let (desk, limits) = (Arc::clone(run.desk), run.limits.clone());
        let send = move |ctx: Ctx<'js>, request: String, body: Option<String>, binary: bool| {
            send(&ctx, &desk, &limits, &request, body, binary)
        };
        natives.set("send", Function::new(ctx.clone(), send)?)?;
    }
    Ok(natives)
}

fn decode(ctx: &Ctx<'_>, text: &str) -> Result<String> {
    let bytes = STANDARD.decode(text.trim());
    bytes
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Exception::throw_type(ctx, "the text is not base64 of UTF-8 text"))
}

/// The JSON of what is found; none where there is nothing and the program has a fallback.
fn look_up(ctx: &Ctx<'_>, desk: &Desk, asked: &str, reverse: bool) -> Result<Option<String>> {
    let malformed = |message: &str| Exception::throw_type(ctx, message);
    let arguments: Vec<serde_json::Value> =
        serde_json::from_str(asked).map_err(|_| malformed("what is looked up is no json value"))?;
    let asked = Asked::of(&arguments, reverse).map_err(malformed)?;
    let found = desk.look_up(asked.lookup, asked.key).map_err(|refusal| thrown(ctx, &refusal))?;
    Ok(found.map(|value| value.to_string()))
}

/// The head of the response as JSON, and its body: as text, or in base64.
fn send<'js>(
    ctx: &Ctx<'js>,
    desk: &Desk,
    limits: &Limits,
    request: &str,
    body: Option<String>,
    binary: bool,
) -> Result<Vec<String>> {
    let request: HttpRequest = serde_json::from_str(request).map_err(|_| {
        let message = "give the address as text, and `timeout` in milliseconds";
        Exception::throw_type(ctx, message)
    })?;
    let sent = desk.send(request, body.unwrap_or_default().into_bytes(), limits);
    let (response, body) = sent.map_err(|refusal| thrown(ctx, &refusal))?;
    let head = serde_json::to_string(&response)
        .map_err(|_| Exception::throw_type(ctx, "the response has no json form"))?;
    let body = match binary {
        true => STANDARD.encode(body),
        false => String::from_utf8_lossy(&body).into_owned(),
    };
    Ok(vec![head, body])
}

/// An error that a program can catch, with the code of the refusal.
fn thrown(ctx: &Ctx<'_>, refusal: &Refusal) -> Error {
    match Exception::from_message(ctx.clone(), &refusal.message) {
        Ok(exception) => match exception.set("code", refusal.code.as_str()) {
            Ok(()) => exception.throw(),
            Err(error) => error,
        },
        Err(error) => error,
    }
}
