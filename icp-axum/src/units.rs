//! The units of an organization, for its own people: the rest of it is for operators.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, Operation, Unit};
use icp_core::id::ResourceId;
use icp_core::resource::PlacedUnit;
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::Result;
use crate::resources::{GUARD, expected, guarded};

const LIST: &[&str] = &["limit", "cursor"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/units";
    let one = format!("{many}/{{id}}");
    let (read, write) =
        (may(Area::Settings, Operation::Read), may(Area::Settings, Operation::Write));
    vec![
        Endpoint::get(read, many, list)
            .named("listUnits", "Lists the units of the organization, ordered by id")
            .query(LIST)
            .answers::<Listing<Unit>>(200),
        Endpoint::get(read, &one, get)
            .named("getUnit", "Shows one unit; its `etag` is the organization's")
            .answers::<Unit>(200),
        Endpoint::put(write, &one, put)
            .named("putUnit", "Makes a unit, or changes its name and what it is part of")
            .headers(GUARD)
            .takes::<UnitDraft>()
            .answers::<Unit>(200),
        Endpoint::delete(write, &one, remove)
            .named("deleteUnit", "Deletes a unit that nothing belongs to")
            .headers(GUARD)
            .answers_nothing(204),
    ]
}

/// A unit; the path names it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UnitDraft {
    /// A name for people.
    #[serde(default)]
    #[schemars(length(max = 128))]
    name: Option<String>,
    /// The unit it is part of; none for a unit directly below the organization.
    #[serde(default)]
    parent: Option<ResourceId>,
}

impl Input for UnitDraft {
    const INVALID: Code = Code::ResourceInvalid;
}

async fn list(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<Unit>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let page = pager.query::<ResourceId>()?;
    let units = engine.resources().units(&params.org()?).await?.into_iter();
    let units = units.map(|placed| placed.unit);
    let later = units.filter(|unit| page.after.as_ref().is_none_or(|after| unit.id > *after));
    let found = icp_core::store::Page::cut(later.take(page.limit + 1).collect(), page.limit);
    Ok(Json(pager.listing(found, |unit| unit.id.clone(), |unit| unit)))
}

async fn get(State(engine): State<Engine>, params: Params, query: Query) -> Result<Response> {
    query.only(&[])?;
    let id = params.parse("id")?;
    Ok(answer(engine.resources().unit(&params.org()?, &id).await?))
}

async fn put(
    command: Command,
    headers: HeaderMap,
    Body(UnitDraft { name, parent }): Body<UnitDraft>,
) -> Result<Response> {
    let Command { engine, actor, params, .. } = command;
    let unit = Unit { id: params.parse("id")?, name, parent };
    let expect = expected(&headers)?;
    let placed = engine.resources().put_unit(&params.org()?, unit, expect, &actor).await;
    Ok(answer(placed.map_err(|error| guarded(error, expect))?))
}

async fn remove(command: Command, headers: HeaderMap) -> Result<StatusCode> {
    let Command { engine, actor, params, .. } = command;
    let (org, id, expect) = (params.org()?, params.parse("id")?, expected(&headers)?);
    let removed = engine.resources().remove_unit(&org, &id, expect, &actor).await;
    removed.map_err(|error| guarded(error, expect))?;
    Ok(StatusCode::NO_CONTENT)
}

fn answer(placed: PlacedUnit) -> Response {
    ([(ETAG, format!("\"{}\"", placed.revision))], Json(placed.unit)).into_response()
}
