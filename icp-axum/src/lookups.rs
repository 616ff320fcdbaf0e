//! The entries of lookup tables as files, what is found in them, and how many there are.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, Operation};
use icp_core::lookup::{
    Format, Import, ImportMode, ImportReport, LookupEntry, LookupStats, Resolve, Resolved,
};
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Caller;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, CSV, Input, Params, Query, Upload};
use crate::problem::Result;
use crate::resources::{GUARD, expected, guarded};

const EXPORT: &[&str] = &["format", "active"];
const IMPORT: &[&str] = &["mode", "validate_only"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let one = "/api/v1/organizations/{org}/lookups/{id}";
    vec![
        Endpoint::get(may(Area::Lookups, Operation::Export), format!("{one}/entries"), export)
            .named("exportLookup", "Shows the entries of the lookup table as a file, JSON or CSV")
            .query(EXPORT)
            .answers::<Vec<LookupEntry>>(200)
            .csv_too(),
        Endpoint::post(may(Area::Lookups, Operation::Write), format!("{one}/import"), import)
            .named("importLookup", "Makes the rows of a file entries of the lookup table")
            .query(IMPORT)
            .headers(GUARD)
            .takes::<Vec<LookupEntry>>()
            .csv_too()
            .answers::<ImportReport>(200),
        Endpoint::post(may(Area::Lookups, Operation::Read), format!("{one}/resolve"), resolve)
            .named("resolveLookup", "Looks values up in the lookup table, by key or in reverse")
            .takes::<Resolve>()
            .answers::<ResolveAnswer>(200),
        Endpoint::get(may(Area::Lookups, Operation::Read), format!("{one}/stats"), stats)
            .named("getLookupStats", "Counts the entries of the lookup table by what they are")
            .answers::<LookupStats>(200),
    ]
}

/// What values stand for.
#[derive(Debug, JsonSchema, Serialize)]
struct ResolveAnswer {
    /// One answer for each value, in their order.
    results: Vec<Resolved>,
}

impl Input for Resolve {
    const INVALID: Code = Code::ResolveInvalid;
}

async fn export(State(engine): State<Engine>, params: Params, query: Query) -> Result<Response> {
    let query = query.only(EXPORT)?;
    let format = choice(&query, "format", [("json", Format::Json), ("csv", Format::Csv)])?;
    let only_active = choice(&query, "active", [("false", false), ("true", true)])?;
    let (org, id) = (params.org()?, params.parse("id")?);
    let file = engine.resources().export_lookup(&org, &id, format, only_active).await?;
    let media = if format == Format::Csv { CSV } else { "application/json" };
    Ok(([(CONTENT_TYPE, media)], file).into_response())
}

async fn import(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    params: Params,
    query: Query,
    headers: HeaderMap,
    upload: Upload,
) -> Result<Json<ImportReport>> {
    let query = query.only(IMPORT)?;
    let modes = [("merge", ImportMode::Merge), ("replace", ImportMode::Replace)];
    let import = Import {
        data: &upload.bytes,
        format: if upload.is_csv { Format::Csv } else { Format::Json },
        mode: choice(&query, "mode", modes)?,
        validate_only: choice(&query, "validate_only", [("false", false), ("true", true)])?,
    };
    let (org, id) = (params.org()?, params.parse("id")?);
    let expect = expected(&headers)?;
    let report = engine.resources().import_lookup(&org, &id, import, expect, &actor).await;
    let report = report.map_err(|error| guarded(error, expect))?;
    // Whoever only asks is told what is wrong; whoever asks for the change did not get it.
    Ok(Json(if import.validate_only { report } else { report.into_result()? }))
}

async fn resolve(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(asked): Body<Resolve>,
) -> Result<Json<ResolveAnswer>> {
    query.only(&[])?;
    let results = engine.resolve_lookup(&params.org()?, &params.parse("id")?, asked).await?;
    Ok(Json(ResolveAnswer { results }))
}

async fn stats(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<LookupStats>> {
    query.only(&[])?;
    Ok(Json(engine.resources().lookup_stats(&params.org()?, &params.parse("id")?).await?))
}

/// One of two words; the first stands where none is given.
fn choice<T: Copy>(query: &Query, name: &str, words: [(&str, T); 2]) -> Result<T> {
    let [first, _] = words;
    let Some(given) = query.one(name)? else { return Ok(first.1) };
    let found = words.into_iter().find(|(word, _)| *word == given);
    found.map(|(_, meaning)| meaning).ok_or_else(|| {
        let [(a, _), (b, _)] = words;
        query.refuse(name, format!("use {a} or {b}"))
    })
}
