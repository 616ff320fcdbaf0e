//! Who changed what.

use axum::Json;
use axum::extract::State;
use icp_core::Engine;
use icp_core::access::{Area, Operation};
use icp_core::resource::{AuditEntry, AuditQuery, Revision};
use icp_core::store::PageQuery;

use crate::endpoint::{Endpoint, may};
use crate::extract::{Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::Result;

const LIST: &[&str] = &["limit", "cursor", "kind", "id", "actor", "action", "since", "until"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(may(Area::Audit, Operation::Read), "/api/v1/organizations/{org}/audit", list)
            .named("listAuditEntries", "Lists who changed what, newest first")
            .query(LIST)
            .answers::<Listing<AuditEntry>>(200),
    ]
}

async fn list(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<AuditEntry>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let wanted = AuditQuery {
        kind: query.one("kind")?.map(str::to_owned),
        id: query.typed("id")?,
        actor: query.one("actor")?.map(str::to_owned),
        action: query.one("action")?.map(str::to_owned),
        since: query.typed("since")?,
        until: query.typed("until")?,
        page: PageQuery { after: pager.number()?.map(Revision), limit: pager.limit() },
    };
    let page = engine.resources().audit_log(&params.org()?, &wanted).await?;
    Ok(Json(pager.listing(page, |entry| entry.revision, |entry| entry)))
}
