//! Deliveries, their attempts, and what can be done with them.

mod export;
mod log;
mod view;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use icp_core::Code;
use icp_core::access::{Area, Operation};
use icp_core::delivery::LogSummary;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::Reached;
use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Location, Params, Query};
use crate::page::Listing;
use crate::problem::Result;
use view::AttemptView;
pub(crate) use view::DeliveryView;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/deliveries";
    let one = format!("{many}/{{id}}");
    let all = [
        Endpoint::get(may(Area::Deliveries, Operation::Read), many, log::list)
            .named("listDeliveries", "Lists deliveries, newest first; a page may be short")
            .query(log::LIST)
            .answers::<Listing<DeliveryView>>(200),
        Endpoint::get(
            may(Area::Deliveries, Operation::Read),
            format!("{many}/summary"),
            log::summary,
        )
        .named("summarizeDeliveries", "Counts the newest deliveries by state and error")
        .query(log::FILTERS)
        .answers::<LogSummary>(200),
        Endpoint::get(
            may(Area::Deliveries, Operation::Export),
            format!("{many}/export"),
            log::export,
        )
        .named("exportDeliveries", "Streams deliveries as lines of JSON or as CSV")
        .query(log::EXPORT)
        .answers_as::<String>(200, log::EXPORTED)
        .csv_too(),
        Endpoint::get(may(Area::Deliveries, Operation::Read), &one, get)
            .named("getDelivery", "Shows one delivery")
            .answers::<DeliveryView>(200),
        Endpoint::get(may(Area::Deliveries, Operation::Read), format!("{one}/attempts"), attempts)
            .named("listAttempts", "Lists the attempts of a delivery, oldest first")
            .answers::<Listing<AttemptView>>(200),
        Endpoint::post(may(Area::Deliveries, Operation::Execute), format!("{one}/replay"), replay)
            .named("replayDelivery", "Delivers an ended delivery once more")
            .answers::<DeliveryView>(201),
        Endpoint::post(may(Area::Deliveries, Operation::Execute), format!("{one}/cancel"), cancel)
            .named("cancelDelivery", "Calls off a delivery that is not under way")
            .takes::<Cancel>()
            .answers::<DeliveryView>(200),
    ];
    all.into_iter().map(Endpoint::by_unit).collect()
}

/// Why a delivery is called off. The body may be left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Cancel {
    /// For people, up to 500 characters. Default: who called it off.
    reason: Option<String>,
}

impl Input for Cancel {
    const INVALID: Code = Code::BodyMalformed;
}

async fn get(Reached(within): Reached, params: Params, query: Query) -> Result<Json<DeliveryView>> {
    query.only(&[])?;
    Ok(Json(within.delivery(params.parse("id")?).await?.into()))
}

async fn attempts(
    Reached(within): Reached,
    params: Params,
    query: Query,
) -> Result<Json<Listing<AttemptView>>> {
    query.only(&[])?;
    let attempts = within.attempts(params.parse("id")?).await?;
    let items = attempts.into_iter().map(AttemptView::from).collect();
    Ok(Json(Listing { items, next: None }))
}

async fn replay(command: Command, requested: Location) -> Result<Response> {
    let id = command.params.parse("id")?;
    let delivery = command.within()?.replay(id, &command.actor).await?;
    let location = (LOCATION, requested.beside(2, delivery.id));
    Ok((StatusCode::CREATED, [location], Json(DeliveryView::from(delivery))).into_response())
}

async fn cancel(command: Command, cancel: Option<Body<Cancel>>) -> Result<Json<DeliveryView>> {
    let Command { actor, params, .. } = &command;
    let reason = cancel.and_then(|Body(cancel)| cancel.reason);
    let reason = reason.unwrap_or_else(|| format!("called off by {}", actor.name));
    let cancelled = command.within()?.cancel(params.parse("id")?, &reason, actor).await?;
    Ok(Json(cancelled.into()))
}
