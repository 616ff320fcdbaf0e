//! Who changed what, whether that is still as it was written, and all of it as a file.

mod export;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use icp_core::Engine;
use icp_core::access::{Area, Operation};
use icp_core::resource::{AuditCheck, AuditDetail, AuditEntry, AuditQuery, Revision};
use icp_core::store::PageQuery;

use crate::endpoint::{Endpoint, may};
use crate::extract::{Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::Result;

const LIST: &[&str] = &["limit", "cursor", "kind", "id", "actor", "action", "since", "until"];
const EXPORT: &[&str] = &["kind", "id", "actor", "action", "since", "until"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/audit";
    let read = may(Area::Audit, Operation::Read);
    vec![
        Endpoint::get(read, many, list)
            .named("listAuditEntries", "Lists who changed what, newest first")
            .query(LIST)
            .answers::<Listing<AuditEntry>>(200),
        Endpoint::get(read, format!("{many}/{{revision}}"), get)
            .named("getAuditEntry", "Shows one audit row with the documents before and after")
            .answers::<AuditDetail>(200),
        Endpoint::get(read, format!("{many}/verification"), verify)
            .named("verifyAudit", "Says whether every audit row is the one that was written")
            .answers::<AuditCheck>(200),
        Endpoint::get(may(Area::Audit, Operation::Export), format!("{many}/export"), export)
            .named("exportAudit", "Gives the audit log as lines of JSON, or as CSV, newest first")
            .query(EXPORT)
            .headers(&["Accept"])
            .answers_as::<AuditEntry>(200, export::NDJSON)
            .csv_too(),
    ]
}

/// The filters that `query` names, from the newest row on.
fn wanted(query: &Query, page: PageQuery<Revision>) -> Result<AuditQuery> {
    Ok(AuditQuery {
        kind: query.one("kind")?.map(str::to_owned),
        id: query.typed("id")?,
        actor: query.one("actor")?.map(str::to_owned),
        action: query.one("action")?.map(str::to_owned),
        since: query.typed("since")?,
        until: query.typed("until")?,
        page,
    })
}

async fn list(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<AuditEntry>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let page = PageQuery { after: pager.number()?.map(Revision), limit: pager.limit() };
    let wanted = wanted(&query, page)?;
    let page = engine.resources().audit_log(&params.org()?, &wanted).await?;
    Ok(Json(pager.listing(page, |entry| entry.revision, |entry| entry)))
}

async fn get(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<AuditDetail>> {
    query.only(&[])?;
    let revision = Revision(params.number("revision")?);
    Ok(Json(engine.resources().audit_entry(&params.org()?, revision).await?))
}

async fn verify(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<AuditCheck>> {
    query.only(&[])?;
    Ok(Json(engine.verify_audit(&params.org()?).await?))
}

async fn export(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let query = query.only(EXPORT)?;
    let wanted = wanted(&query, PageQuery::default())?;
    export::file(engine, params.org()?, wanted, &headers).await
}
