//! What the catalogue of event types is asked.

use axum::Json;
use axum::extract::State;
use icp_core::access::{Area, Operation};
use icp_core::event_type::{Fit, Inferred, MAX_SEEN, TypeSample};
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Params, Query};
use crate::problem::Result;

const SEEN: &[&str] = &["events"];

/// How many events a schema is made of where nothing is said.
const USUAL: usize = 100;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let one = "/api/v1/organizations/{org}/event-types/{id}";
    vec![
        Endpoint::get(may(Area::EventTypes, Operation::Read), format!("{one}/sample"), sample)
            .named("getEventTypeSample", "Shows the sample of the event type, or one of its schema")
            .answers::<TypeSample>(200),
        Endpoint::post(may(Area::EventTypes, Operation::Read), format!("{one}/validate"), validate)
            .named("validateEventBody", "Says whether a body fits the schema of the event type")
            .takes::<ValidateInput>()
            .answers::<Fit>(200),
        Endpoint::get(may(Area::Events, Operation::Read), format!("{one}/inferred-schema"), infer)
            .named("inferEventSchema", "Makes a schema of the newest stored events of the type")
            .query(SEEN)
            .answers::<Inferred>(200),
    ]
}

/// A body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ValidateInput {
    /// The body, as `data` of an event.
    data: Value,
}

impl Input for ValidateInput {
    const INVALID: Code = Code::EventInvalid;
}

async fn sample(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<TypeSample>> {
    query.only(&[])?;
    Ok(Json(engine.event_type_sample(&params.org()?, &params.parse("id")?).await?))
}

async fn validate(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(input): Body<ValidateInput>,
) -> Result<Json<Fit>> {
    query.only(&[])?;
    Ok(Json(engine.event_type_fit(&params.org()?, &params.parse("id")?, &input.data).await?))
}

async fn infer(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
) -> Result<Json<Inferred>> {
    let query = query.only(SEEN)?;
    let most = match query.one("events")? {
        None => USUAL,
        Some(text) => text
            .parse()
            .ok()
            .filter(|most| (1..=MAX_SEEN).contains(most))
            .ok_or_else(|| query.refuse("events", format!("use 1 to {MAX_SEEN}")))?,
    };
    Ok(Json(engine.infer_schema(&params.org()?, &params.parse("id")?, most).await?))
}
