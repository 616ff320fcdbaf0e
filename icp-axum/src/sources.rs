//! How far event sources have been read.

use axum::Json;
use icp_core::Code;
use icp_core::access::{Area, Operation};
use icp_core::resource::Spec;
use icp_core::source::{SourceProgress, SourceSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input};
use crate::problem::Result;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let one = "/api/v1/organizations/{org}/event-sources/{id}";
    let (read, write) =
        (may(Area::EventSources, Operation::Read), may(Area::EventSources, Operation::Write));
    vec![
        Endpoint::get(read, format!("{one}/progress"), progress)
            .by_unit()
            .named("getEventSourceProgress", "Shows how far the event source has been read")
            .answers::<SourceProgress>(200)
            .of_kind(SourceSpec::KIND),
        Endpoint::put(write, format!("{one}/checkpoint"), go_on_from)
            .by_unit()
            .named("moveEventSource", "Has the event source go on from another checkpoint")
            .takes::<Move>()
            .answers::<SourceProgress>(200)
            .of_kind(SourceSpec::KIND),
    ]
}

/// Where an event source goes on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Move {
    /// The checkpoint, in the source's own words and up to 64 KiB; with `null` it begins anew.
    checkpoint: Value,
}

impl Input for Move {
    const INVALID: Code = Code::ResourceInvalid;
}

async fn progress(command: Command) -> Result<Json<SourceProgress>> {
    let id = command.params.parse("id")?;
    Ok(Json(command.within()?.source_progress(&id).await?))
}

async fn go_on_from(command: Command, Body(to): Body<Move>) -> Result<Json<SourceProgress>> {
    let id = command.params.parse("id")?;
    let checkpoint = Some(to.checkpoint).filter(|checkpoint| !checkpoint.is_null());
    Ok(Json(command.within()?.move_source(&id, checkpoint, &command.actor).await?))
}
