//! Lanes: what waits where.

use axum::Json;
use axum::extract::State;
use icp_core::Engine;
use icp_core::delivery::{Lane, LaneMode};
use icp_core::id::ResourceId;
use icp_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::extract::{Params, Query};
use crate::page::Listing;
use crate::problem::Result;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/organizations/{org}/lanes", list)
            .named("listLanes", "Lists the lanes, ordered by id")
            .answers::<Listing<LaneView>>(200),
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
    /// Whether a due delivery may be waiting.
    runnable: bool,
    /// When the next delivery gets due, where none is.
    next_due: Option<Timestamp>,
    /// Until when the receiver asked to wait.
    blocked_until: Option<Timestamp>,
    /// Whether it rests.
    paused: bool,
}

impl From<Lane> for LaneView {
    fn from(lane: Lane) -> Self {
        Self {
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
    query.only(&[])?;
    let lanes = engine.lanes(&params.org()?).await?;
    Ok(Json(Listing { items: lanes.into_iter().map(LaneView::from).collect(), next: None }))
}
