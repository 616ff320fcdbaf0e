//! Holding deliveries back and letting them go on, of one integration or of an organization.

use axum::Json;
use icp_core::Code;
use icp_core::access::OrganizationSpec;
use icp_core::access::{Area, Operation};
use icp_core::integration::IntegrationSpec;
use icp_core::resource::{Document, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input};
use crate::problem::Result;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let org = "/api/v1/organizations/{org}";
    let one = format!("{org}/integrations/{{id}}");
    vec![
        Endpoint::post(
            may(Area::Integrations, Operation::Execute),
            format!("{one}/pause"),
            integration,
        )
        .by_unit()
        .named("pauseIntegration", "Holds the deliveries of the integration back")
        .takes::<Pause>()
        .answers::<Document>(200)
        .of_kind(IntegrationSpec::KIND),
        Endpoint::post(
            may(Area::Integrations, Operation::Execute),
            format!("{one}/resume"),
            resume_integration,
        )
        .by_unit()
        .named("resumeIntegration", "Lets the deliveries of the integration go on")
        .answers::<Document>(200)
        .of_kind(IntegrationSpec::KIND),
        Endpoint::post(
            may(Area::Settings, Operation::Configure),
            format!("{org}/pause"),
            organization,
        )
        .named("pauseOrganization", "Holds all deliveries of the organization back")
        .takes::<Pause>()
        .answers::<Document>(200)
        .of_kind(OrganizationSpec::KIND),
        Endpoint::post(
            may(Area::Settings, Operation::Configure),
            format!("{org}/resume"),
            resume_organization,
        )
        .named("resumeOrganization", "Lets the deliveries of the organization go on")
        .answers::<Document>(200)
        .of_kind(OrganizationSpec::KIND),
    ]
}

/// Why something is paused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Pause {
    /// For people, up to 500 characters.
    #[schemars(length(max = 500))]
    reason: String,
}

impl Input for Pause {
    const INVALID: Code = Code::BodyMalformed;
}

async fn integration(command: Command, Body(pause): Body<Pause>) -> Result<Json<Document>> {
    let id = command.params.parse("id")?;
    let within = command.within()?;
    Ok(Json(within.pause_integration(&id, &pause.reason, &command.actor).await?))
}

async fn resume_integration(command: Command) -> Result<Json<Document>> {
    let id = command.params.parse("id")?;
    Ok(Json(command.within()?.resume_integration(&id, &command.actor).await?))
}

async fn organization(command: Command, Body(pause): Body<Pause>) -> Result<Json<Document>> {
    let Command { engine, actor, params, .. } = command;
    Ok(Json(engine.pause_organization(&params.org()?, &pause.reason, &actor).await?))
}

async fn resume_organization(command: Command) -> Result<Json<Document>> {
    let Command { engine, actor, params, .. } = command;
    Ok(Json(engine.resume_organization(&params.org()?, &actor).await?))
}
