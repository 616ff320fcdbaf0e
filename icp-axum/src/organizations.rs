//! What can be done with organizations beside changing their documents.

use axum::Json;
use axum::extract::State;
use icp_core::access::OrganizationSpec;
use icp_core::resource::{Document, Spec};
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::extract::{Body, Input, Params, Query};
use crate::problem::Result;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let one = "/api/v1/organizations/{org}";
    vec![
        Endpoint::post(format!("{one}/pause"), pause)
            .named("pauseOrganization", "Holds all deliveries of the organization back")
            .takes::<Pause>()
            .answers::<Document>(200)
            .of_kind(OrganizationSpec::KIND),
        Endpoint::post(format!("{one}/resume"), resume)
            .named("resumeOrganization", "Lets the deliveries of the organization go on")
            .answers::<Document>(200)
            .of_kind(OrganizationSpec::KIND),
    ]
}

/// Why something is paused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pause {
    /// For people, up to 500 characters.
    #[schemars(length(max = 500))]
    pub(crate) reason: String,
}

impl Input for Pause {
    const INVALID: Code = Code::BodyMalformed;
}

async fn pause(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    params: Params,
    query: Query,
    Body(pause): Body<Pause>,
) -> Result<Json<Document>> {
    query.only(&[])?;
    Ok(Json(engine.pause_organization(&params.org()?, &pause.reason, &actor).await?))
}

async fn resume(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    params: Params,
    query: Query,
) -> Result<Json<Document>> {
    query.only(&[])?;
    Ok(Json(engine.resume_organization(&params.org()?, &actor).await?))
}
