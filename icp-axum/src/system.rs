//! The process: how it is doing, and what it told last.

use axum::Json;
use axum::extract::State;
use icp_core::Engine;
use icp_core::access::{Area, Operation};
use icp_core::engine::SystemStatus;
use icp_core::store::PageQuery;
use icp_core::telemetry::{LogLine, LogLines};

use crate::endpoint::{Endpoint, may};
use crate::extract::Query;
use crate::page::{Listing, Pager};
use crate::problem::Result;

const LOG: &[&str] = &["limit", "cursor", "level", "target", "since"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(may(Area::System, Operation::Read), "/api/v1/system/status", status)
            .named("systemStatus", "Shows how this process is doing")
            .answers::<SystemStatus>(200),
        Endpoint::get(may(Area::System, Operation::Read), "/api/v1/system/log", log)
            .named("systemLog", "Lists the last lines of this process's log, newest first")
            .query(LOG)
            .answers::<Listing<LogLine>>(200),
    ]
}

async fn status(State(engine): State<Engine>, query: Query) -> Result<Json<SystemStatus>> {
    query.only(&[])?;
    Ok(Json(engine.status().await))
}

async fn log(State(engine): State<Engine>, query: Query) -> Result<Json<Listing<LogLine>>> {
    let query = query.only(LOG)?;
    let pager = Pager::of(&query)?;
    let wanted = LogLines {
        level: query.typed("level")?,
        target: query.one("target")?.map(str::to_owned),
        since: query.typed("since")?,
        page: PageQuery { after: pager.number()?, limit: pager.limit() },
    };
    Ok(Json(pager.listing(engine.log_lines(&wanted), |line| line.number, |line| line)))
}
