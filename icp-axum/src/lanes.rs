//! Lanes: what waits where.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use icp_core::Engine;
use icp_core::access::{Area, Operation};
use icp_core::delivery::health::{BreakerState, RateStatus};
use icp_core::delivery::{LaneMode, LaneState, LaneStatus};
use icp_core::id::ResourceId;
use icp_core::telemetry::METRICS_CONTENT_TYPE;
use icp_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::endpoint::{Endpoint, may};
use crate::extract::{Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::Result;

const LIST: &[&str] = &["limit", "cursor"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            may(Area::Deliveries, Operation::Read),
            "/api/v1/organizations/{org}/lanes",
            list,
        )
        .named("listLanes", "Lists the lanes and how they are doing, ordered by id")
        .query(LIST)
        .answers::<Listing<LaneView>>(200),
        Endpoint::get(
            may(Area::Deliveries, Operation::Read),
            "/api/v1/organizations/{org}/lanes/metrics",
            metrics,
        )
        .named("laneMetrics", "Shows how the lanes are doing as OpenMetrics text")
        .answers_as::<String>(200, METRICS_CONTENT_TYPE),
    ]
}

/// A lane as the API shows it.
#[derive(Debug, JsonSchema, Serialize)]
struct LaneView {
    /// The id.
    id: String,
    /// The integration.
    integration: ResourceId,
    /// The order key of a fifo lane.
    order_key: Option<String>,
    /// Whether it keeps order.
    mode: LaneMode,
    /// The organization's share.
    weight: u32,
    /// How many deliveries are leased.
    in_flight: u32,
    /// How many may be.
    max_in_flight: u32,
    /// How many may be as things are: fewer while the receiver is overloaded, one while the
    /// breaker is not closed.
    allowed_in_flight: u32,
    /// What the lane does, by what counts most.
    state: LaneState,
    /// Where its breaker stands.
    breaker: BreakerState,
    /// How often in a row the breaker opened.
    breaker_trips: u32,
    /// What is left of the integration's rate, where it has a limit.
    rate_limit: Option<RateStatus>,
    /// How many deliveries wait, those included that are not due.
    waiting: u64,
    /// For how many milliseconds the first of the waiting deliveries has been due.
    oldest_wait_ms: Option<u64>,
    /// In how many milliseconds nothing waits any more: the time until the lane may go on, then
    /// what waits at the pace at which deliveries ended in this minute and the one before. Null
    /// where none did, or the lane rests.
    drained_in_ms: Option<u64>,
    /// When something of the lane can be sent next.
    next_at: Option<Timestamp>,
    /// Whether a due delivery may be waiting.
    runnable: bool,
    /// When the next delivery gets due, where none is.
    next_due: Option<Timestamp>,
    /// Until when nothing is sent: the receiver asked to wait, the breaker is open, or the rate is
    /// used up.
    blocked_until: Option<Timestamp>,
    /// Whether it rests.
    paused: bool,
}

impl From<LaneStatus> for LaneView {
    fn from(status: LaneStatus) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let lane = status.lane;
        Self {
            allowed_in_flight: lane.allowed(),
            state: status.state,
            breaker: status.breaker,
            breaker_trips: lane.health.breaker.trips(),
            rate_limit: status.rate,
            waiting: status.waiting,
            oldest_wait_ms: status.oldest_wait.map(millis),
            drained_in_ms: status.drained_in.map(millis),
            next_at: status.next_at,
            id: lane.id.to_string(),
            integration: lane.integration,
            order_key: lane.order_key.map(|key| key.as_ref().to_owned()),
            mode: lane.mode,
            weight: lane.weight,
            in_flight: lane.in_flight,
            max_in_flight: lane.max_in_flight,
            runnable: lane.runnable,
            next_due: lane.next_due,
            blocked_until: lane.blocked_until,
            paused: lane.paused,
        }
    }
}

async fn list(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<LaneView>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let page = engine.lane_statuses(&params.org()?, pager.query()?).await?;
    Ok(Json(pager.listing(page, |status| status.lane.id, LaneView::from)))
}

async fn metrics(State(engine): State<Engine>, params: Params, query: Query) -> Result<Response> {
    query.only(&[])?;
    let text = engine.lane_metrics(&params.org()?).await?;
    Ok(([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response())
}
