//! How deliveries went, in sums.

use axum::Json;
use axum::extract::State;
use icp_core::Engine;
use icp_core::access::{Area, Operation};
use icp_core::analytics::{AnalyticsQuery, Dashboard, Errors, Latencies, Overview, Series};

use crate::endpoint::{Endpoint, may};
use crate::extract::{Params, Query};
use crate::problem::Result;

const ASKED: &[&str] = &["since", "until", "interval", "integration"];
const DASHBOARD: &[&str] = &["hours"];

/// What the dashboard is about where nothing says so.
const DEFAULT_HOURS: u32 = 24;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let under = |name: &str| format!("/api/v1/organizations/{{org}}/analytics/{name}");
    let permit = || may(Area::Analytics, Operation::Read);
    vec![
        Endpoint::get(permit(), under("overview"), overview)
            .named("analyticsOverview", "Sums up how deliveries went")
            .query(ASKED)
            .answers::<Overview>(200),
        Endpoint::get(permit(), under("timeseries"), timeseries)
            .named("analyticsTimeseries", "Sums up how deliveries went, by hour or day")
            .query(ASKED)
            .answers::<Series>(200),
        Endpoint::get(permit(), under("errors"), errors)
            .named("analyticsErrors", "Counts failed attempts by category and error")
            .query(ASKED)
            .answers::<Errors>(200),
        Endpoint::get(permit(), under("latency"), latency)
            .named("analyticsLatency", "Tells how long attempts took, by integration")
            .query(ASKED)
            .answers::<Latencies>(200),
        Endpoint::get(
            may(Area::Dashboard, Operation::Read),
            "/api/v1/organizations/{org}/dashboard",
            dashboard,
        )
        .named("dashboard", "Shows how the organization is doing at a glance")
        .query(DASHBOARD)
        .answers::<Dashboard>(200),
    ]
}

fn asked(query: Query) -> Result<AnalyticsQuery> {
    let query = query.only(ASKED)?;
    Ok(AnalyticsQuery {
        since: query.typed("since")?,
        until: query.typed("until")?,
        interval: query.typed("interval")?,
        integration: query.typed("integration")?,
    })
}

async fn overview(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Overview>> {
    Ok(Json(engine.analytics(&params.org()?, &asked(query)?).await?))
}

async fn timeseries(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Series>> {
    Ok(Json(engine.analytics_series(&params.org()?, &asked(query)?).await?))
}

async fn errors(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Errors>> {
    Ok(Json(engine.analytics_errors(&params.org()?, &asked(query)?).await?))
}

async fn latency(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Latencies>> {
    Ok(Json(engine.analytics_latency(&params.org()?, &asked(query)?).await?))
}

async fn dashboard(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Dashboard>> {
    let query = query.only(DASHBOARD)?;
    let hours = match query.one("hours")? {
        None => DEFAULT_HOURS,
        Some(text) => text.parse().map_err(|_| query.refuse("hours", "use a whole number"))?,
    };
    Ok(Json(engine.dashboard(&params.org()?, hours).await?))
}
