//! For operators: is it alive, is it ready, what does it count.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use icp_core::Engine;
use icp_core::access::{Area, Operation};
use icp_core::engine::Health;
use icp_core::telemetry::METRICS_CONTENT_TYPE;
use schemars::JsonSchema;
use serde::Serialize;

use crate::endpoint::{Endpoint, Permit, may};
use crate::extract::Query;
use crate::problem::Result;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(Permit::Open, "/health", health)
            .named("health", "Says that the process answers")
            .answers::<Alive>(200),
        Endpoint::get(Permit::Open, "/ready", ready)
            .named("ready", "Says whether the engine delivers; 503 where it does not")
            .answers::<Health>(200),
        Endpoint::get(may(Area::System, Operation::Read), "/metrics", metrics)
            .named("metrics", "Shows the metrics as OpenMetrics text")
            .answers_as::<String>(200, METRICS_CONTENT_TYPE),
    ]
}

/// The answer of a process that runs.
#[derive(Debug, JsonSchema, Serialize)]
struct Alive {
    /// Always `ok`.
    status: &'static str,
    /// The version of this library.
    version: &'static str,
}

async fn health() -> Json<Alive> {
    Json(Alive { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

async fn ready(State(engine): State<Engine>) -> Response {
    let health = engine.health().await;
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn metrics(State(engine): State<Engine>, query: Query) -> Result<Response> {
    query.only(&[])?;
    Ok(([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], engine.metrics().render()).into_response())
}
