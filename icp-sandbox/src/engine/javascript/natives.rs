//! The functions of a program's context that are not JavaScript.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use icp_core::transform::Limits;
use rquickjs::{Ctx, Error, Exception, Function, Object, Result};

use super::isolate::Call;
use super::watch::Watch;
use crate::desk::Desk;
use crate::engine::asked::Asked;
use crate::host::{HttpRequest, Refusal};

/// What the prelude makes the context of a call from.
pub(super) fn of<'js>(
    ctx: &Ctx<'js>,
    call: &Rc<Call>,
    desk: &Arc<Desk>,
    watch: &Rc<Watch>,
) -> Result<Object<'js>> {
    let natives = Object::new(ctx.clone())?;
    let of = Rc::clone(call);
    let random = move || of.random().unwrap_or_default();
    natives.set("random", Function::new(ctx.clone(), random)?)?;
    let encode = |text: String| STANDARD.encode(text);
    natives.set("encode", Function::new(ctx.clone(), encode)?)?;
    let decode = |ctx: Ctx<'js>, text: String| decode(&ctx, &text);
    natives.set("decode", Function::new(ctx.clone(), decode)?)?;
    let asked = Arc::clone(desk);
    let find = move |ctx: Ctx<'js>, key: String, reverse| look_up(&ctx, &asked, &key, reverse);
    natives.set("lookUp", Function::new(ctx.clone(), find)?)?;
    let (desk, of) = (Arc::clone(desk), Rc::clone(watch));
    let send = move |ctx: Ctx<'js>, request: String, body: Option<String>, binary: bool| {
        send(&ctx, &desk, &of.limits, &request, body, binary)
    };
    natives.set("send", Function::new(ctx.clone(), send)?)?;
    let (call, watch) = (Rc::clone(call), Rc::clone(watch));
    let log = move |line: String| call.log(line, &watch.limits);
    natives.set("log", Function::new(ctx.clone(), log)?)?;
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
