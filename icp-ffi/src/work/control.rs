//! Starting, stopping, and how it is going.

use serde::Deserialize;

use super::{json, nothing};
use crate::host::{Desk, Ended, Host};
use crate::settings::{milliseconds, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shutdown {
    #[serde(default = "drain")]
    drain_ms: u64,
}

fn drain() -> u64 {
    10_000
}

pub(super) async fn start(host: &Host, body: &[u8]) -> Ended {
    faults(body);
    let Empty {} = read(body)?;
    host.start().await?;
    nothing()
}

pub(super) async fn shutdown(host: &Host, body: &[u8]) -> Ended {
    let wanted: Shutdown = read(body)?;
    host.shutdown(milliseconds("/drain_ms", wanted.drain_ms)?).await
}

pub(super) async fn health(desk: &Desk, body: &[u8]) -> Ended {
    let Empty {} = read(body)?;
    json(&desk.engine.health().await)
}

pub(super) fn metrics(desk: &Desk, body: &[u8]) -> Ended {
    let Empty {} = read(body)?;
    Ok(desk.engine.metrics().render().into_bytes())
}

/// A panic that a test asks for.
#[cfg(feature = "faults")]
#[expect(clippy::panic, reason = "that is what is asked for")]
fn faults(body: &[u8]) {
    if body == br#"{"fault":"panic"}"# {
        panic!("a test asked for it");
    }
}

#[cfg(not(feature = "faults"))]
fn faults(_: &[u8]) {}
