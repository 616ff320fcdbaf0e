//! Handlers of the host: made known, and taken away.

use std::sync::Arc;

use serde::Deserialize;

use super::{Call, nothing};
use crate::host::{Ended, Host};
use crate::request::{Handler, HandlerKind};
use crate::settings::{milliseconds, read};
use crate::status::Failure;

/// The most requests of one handler at once.
const MOST: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Register {
    name: String,
    kind: HandlerKind,
    #[serde(default = "concurrency")]
    concurrency: usize,
    #[serde(default = "timeout")]
    timeout_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    name: String,
    kind: HandlerKind,
}

fn concurrency() -> usize {
    16
}

fn timeout() -> u64 {
    30_000
}

pub(super) fn register(host: &Host, call: &Call) -> Ended {
    let input: Register = read(&call.body)?;
    crate::handler::check_name(&input.name).map_err(|message| Failure::at("/name", message))?;
    if !(1..=MOST).contains(&input.concurrency) {
        return Err(Failure::at("/concurrency", format!("use 1 to {MOST}")));
    }
    if input.timeout_ms == 0 {
        return Err(Failure::at("/timeout_ms", "use at least 1"));
    }
    let timeout = milliseconds("/timeout_ms", input.timeout_ms)?;
    let queue = Arc::downgrade(call.queue()?);
    let handler = Handler::new(input.kind, input.name, queue, input.concurrency, timeout);
    host.requests.register(handler)?;
    nothing()
}

pub(super) fn remove(host: &Host, call: &Call) -> Ended {
    let input: Remove = read(&call.body)?;
    host.requests.remove(input.kind, &input.name)?;
    nothing()
}
