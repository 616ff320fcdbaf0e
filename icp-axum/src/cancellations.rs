//! Calling off many deliveries at once.

use axum::Json;
use axum::extract::State;
use icp_core::access::{Area, Operation};
use icp_core::delivery::{Cancellable, CancelledMany, DeliveryFilter};
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Params, Query};
use crate::problem::Result;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/deliveries/cancel";
    vec![
        Endpoint::post(may(Area::Deliveries, Operation::Read), format!("{many}/preview"), preview)
            .named("previewCancelDeliveries", "Counts the deliveries that would be called off")
            .takes::<DeliveryFilter>()
            .answers::<Cancellable>(200),
        Endpoint::post(may(Area::Deliveries, Operation::Execute), many, cancel)
            .named("cancelDeliveries", "Calls off the deliveries that wait and that a filter takes")
            .takes::<CancelMany>()
            .answers::<CancelledMany>(200),
    ]
}

/// Which deliveries are called off, and why.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CancelMany {
    /// Which; `{}` for all of the organization.
    filter: DeliveryFilter,
    /// For people, up to 500 characters. Default: who called them off.
    #[serde(default)]
    #[schemars(length(max = 500))]
    reason: Option<String>,
}

impl Input for CancelMany {
    const INVALID: Code = Code::SelectionInvalid;
}

impl Input for DeliveryFilter {
    const INVALID: Code = Code::SelectionInvalid;
}

async fn preview(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(filter): Body<DeliveryFilter>,
) -> Result<Json<Cancellable>> {
    query.only(&[])?;
    Ok(Json(engine.preview_cancel(&params.org()?, &filter).await?))
}

async fn cancel(command: Command, Body(cancel): Body<CancelMany>) -> Result<Json<CancelledMany>> {
    let Command { engine, actor, params, .. } = command;
    let reason = cancel.reason.unwrap_or_else(|| format!("called off by {}", actor.name));
    Ok(Json(engine.cancel_many(&params.org()?, &cancel.filter, &reason, &actor).await?))
}
