//! The versions of a resource: one of them, what differs between two, and going back.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use icp_core::access::Reach;
use icp_core::resource::{Difference, Document, Revision};
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{expected, guarded, target, versioned};
use crate::command::Command;
use crate::endpoint::KindRoute;
use crate::extract::{Body, Input, Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::Result;

pub(super) const COMPARE: &[&str] = &["from", "to"];

/// Which version is to be had again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// The number of the version.
    #[schemars(range(min = 1))]
    version: u64,
}

impl Input for Rollback {
    const INVALID: Code = Code::ResourceInvalid;
}

pub(super) async fn history(
    State(engine): State<Engine>,
    Extension(kind): Extension<KindRoute>,
    Extension(reach): Extension<Reach>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<Document>>> {
    let query = query.only(super::PAGE)?;
    let pager = Pager::of(&query)?;
    let (org, id) = target(&params, kind)?;
    let before = pager.number()?.map(Revision);
    // Deletions are left out of what comes back, so only an empty page is known to be the last.
    let limit = pager.limit();
    let items =
        engine.resources().within(reach).history(&org, kind.name, &id, before, limit).await?;
    let more = !items.is_empty();
    let page = icp_core::store::Page { items, more };
    Ok(Json(pager.listing(page, |document| document.revision, |document| document)))
}

pub(super) async fn version(
    State(engine): State<Engine>,
    Extension(kind): Extension<KindRoute>,
    Extension(reach): Extension<Reach>,
    params: Params,
    query: Query,
) -> Result<Response> {
    query.only(&[])?;
    let (org, id) = target(&params, kind)?;
    let version = params.number("version")?;
    Ok(versioned(engine.resources().within(reach).version(&org, kind.name, &id, version).await?))
}

pub(super) async fn compare(
    State(engine): State<Engine>,
    Extension(kind): Extension<KindRoute>,
    Extension(reach): Extension<Reach>,
    params: Params,
    query: Query,
) -> Result<Json<Difference>> {
    let query = query.only(COMPARE)?;
    let (org, id) = target(&params, kind)?;
    let between = (query.number("from")?, query.number("to")?);
    Ok(Json(
        engine.resources().within(reach).compare_versions(&org, kind.name, &id, between).await?,
    ))
}

pub(super) async fn rollback(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    headers: HeaderMap,
    Body(wanted): Body<Rollback>,
) -> Result<Response> {
    let (resources, Command { actor, params, .. }) = (command.reached(), command);
    let (org, id) = target(&params, kind)?;
    let expect = expected(&headers)?;
    let version = wanted.version;
    let written = resources.rollback(&org, kind.name, &id, version, expect, &actor).await;
    Ok(versioned(written.map_err(|error| guarded(error, expect))?))
}
