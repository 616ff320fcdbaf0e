//! Erasing what events carried.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, Operation};
use icp_core::erasure::Erasure;
use icp_core::id::EventId;
use icp_core::{Code, Engine, Violation};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Location, Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::{Problem, Result};

const PAGE: &[&str] = &["limit", "cursor"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/erasures";
    vec![
        Endpoint::post(may(Area::Events, Operation::Delete), many, erase)
            .named("eraseEvents", "Erases what events carried, by their ids or by their subject")
            .takes::<Request>()
            .answers::<Erasure>(201),
        Endpoint::get(may(Area::Audit, Operation::Read), many, list)
            .named("listErasures", "Lists the receipts of erasures, ordered by id")
            .query(PAGE)
            .answers::<Listing<Erasure>>(200),
        Endpoint::get(may(Area::Audit, Operation::Read), format!("{many}/{{id}}"), get)
            .named("getErasure", "Shows the receipt of an erasure")
            .answers::<Erasure>(200),
    ]
}

/// What to erase: `events` or `subject`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Up to 1,000 events; unknown ids are passed over.
    #[serde(default)]
    events: Option<Vec<EventId>>,
    /// The subject that the events were published with.
    #[serde(default)]
    subject: Option<String>,
}

impl Input for Request {
    const INVALID: Code = Code::BodyMalformed;
}

async fn erase(
    command: Command,
    requested: Location,
    Body(request): Body<Request>,
) -> Result<Response> {
    let Command { engine, actor, params, .. } = command;
    let org = params.org()?;
    let receipt = match (request.events, request.subject) {
        (Some(events), None) => engine.erase_events(&org, events, &actor).await?,
        (None, Some(subject)) => engine.erase_subject(&org, &subject, &actor).await?,
        _ => {
            let message = "send either `events` or `subject`";
            let violation = Violation::new("", "ambiguous", message);
            return Err(Problem::violations(Code::BodyMalformed, vec![violation]));
        }
    };
    let location = (LOCATION, requested.of(&receipt.id));
    Ok((StatusCode::CREATED, [location], Json(receipt)).into_response())
}

async fn list(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<Erasure>>> {
    let query = query.only(PAGE)?;
    let pager = Pager::of(&query)?;
    let page = engine.erasures(&params.org()?, pager.query()?).await?;
    Ok(Json(pager.listing(page, |receipt| receipt.id.clone(), |receipt| receipt)))
}

async fn get(State(engine): State<Engine>, params: Params, query: Query) -> Result<Json<Erasure>> {
    query.only(&[])?;
    Ok(Json(engine.erasure(&params.org()?, &params.parse("id")?).await?))
}
