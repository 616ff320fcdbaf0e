//! Test deliveries, and requests as commands.

mod view;

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use icp_core::access::{Area, Operation};
use icp_core::id::OrgId;
use icp_core::trial::{CurlCommand, Sample, TestOf};
use icp_core::{Code, Engine, Error};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::Reached;
use crate::endpoint::{Endpoint, may};
use crate::events::{Envelope, Sender};
use crate::extract::{Body, Input, Params, Query};
use crate::problem::Result;
use view::TestView;

const ATTEMPT: &[&str] = &["epoch"];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let org = "/api/v1/organizations/{org}";
    let one = format!("{org}/integrations/{{id}}");
    vec![
        Endpoint::post(may(Area::Integrations, Operation::Execute), format!("{one}/test"), test)
            .by_unit()
            .named("testIntegration", "Sends one event that is not stored, and shows what happened")
            .takes::<TestInput>()
            .answers::<TestView>(200),
        Endpoint::post(
            may(Area::Integrations, Operation::Execute),
            format!("{org}/test-deliveries"),
            test_draft,
        )
        .named("testDraft", "Does the same for an integration that is not saved")
        .takes::<DraftInput>()
        .answers::<TestView>(200),
        Endpoint::post(
            may(Area::Integrations, Operation::Execute),
            format!("{org}/test-deliveries/curl"),
            draft_curl,
        )
        .named("getDraftCurl", "Shows the request of such a test as a command for a shell")
        .takes::<DraftInput>()
        .answers::<CurlCommand>(200),
        Endpoint::post(may(Area::Integrations, Operation::Execute), format!("{one}/curl"), curl)
            .by_unit()
            .named("getIntegrationCurl", "Shows the request of a test as a command for a shell")
            .takes::<TestInput>()
            .answers::<CurlCommand>(200),
        Endpoint::get(
            may(Area::Deliveries, Operation::Read),
            format!("{org}/deliveries/{{id}}/attempts/{{number}}/curl"),
            attempt_curl,
        )
        .by_unit()
        .named("getAttemptCurl", "Shows an attempt as a command for a shell")
        .query(ATTEMPT)
        .answers::<CurlCommand>(200),
    ]
}

/// What a saved integration is tried out with. The body may be left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TestInput {
    /// The event. Default: one of the type `icp.test`, for which neither event types nor
    /// conditions are asked.
    sample: Option<Envelope>,
    /// Whether the event is sent even where the integration would not take it. Default `false`.
    even_unmatched: bool,
}

/// An integration that is not saved, and what it is tried out with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DraftInput {
    /// The spec of the integration, its secrets as they are.
    spec: Value,
    /// The event. Default: one of the type `icp.test`, for which neither event types nor
    /// conditions are asked.
    #[serde(default)]
    sample: Option<Envelope>,
    /// Whether the event is sent even where the integration would not take it. Default `false`.
    #[serde(default)]
    even_unmatched: bool,
}

impl Input for TestInput {
    const INVALID: Code = Code::EventInvalid;
}

impl Input for DraftInput {
    const INVALID: Code = Code::EventInvalid;
}

fn sample(org: &OrgId, given: Option<Envelope>, even_unmatched: bool) -> Result<Sample> {
    let sample = match given {
        None => Sample::default(),
        Some(envelope) => Sample::of(envelope.event(org, &Sender::default(), "/sample")?),
    };
    Ok(if even_unmatched { sample.even_unmatched() } else { sample })
}

async fn test(
    Reached(within): Reached,
    params: Params,
    query: Query,
    input: Option<Body<TestInput>>,
) -> Result<Json<TestView>> {
    query.only(&[])?;
    let input = input.map(|Body(input)| input).unwrap_or_default();
    let sample = sample(within.org(), input.sample, input.even_unmatched)?;
    Ok(Json(within.test_saved(params.parse("id")?, sample).await?.into()))
}

async fn test_draft(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(input): Body<DraftInput>,
) -> Result<Json<TestView>> {
    query.only(&[])?;
    let org = params.org()?;
    let sample = sample(&org, input.sample, input.even_unmatched)?;
    Ok(Json(engine.test_delivery(&org, TestOf::Draft(input.spec), sample).await?.into()))
}

async fn draft_curl(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(input): Body<DraftInput>,
) -> Result<Json<CurlCommand>> {
    query.only(&[])?;
    let org = params.org()?;
    let sample = sample(&org, input.sample, input.even_unmatched)?;
    Ok(Json(engine.integration_curl(&org, TestOf::Draft(input.spec), sample).await?))
}

async fn curl(
    Reached(within): Reached,
    params: Params,
    query: Query,
    input: Option<Body<TestInput>>,
) -> Result<Json<CurlCommand>> {
    query.only(&[])?;
    let input = input.map(|Body(input)| input).unwrap_or_default();
    let sample = sample(within.org(), input.sample, input.even_unmatched)?;
    Ok(Json(within.saved_curl(params.parse("id")?, sample).await?))
}

async fn attempt_curl(
    Reached(within): Reached,
    params: Params,
    query: Query,
) -> Result<Json<CurlCommand>> {
    let query = query.only(ATTEMPT)?;
    let Number(number) = params.parse("number")?;
    let epoch = query.typed("epoch")?.map(|Number(epoch)| epoch);
    Ok(Json(within.attempt_curl(params.parse("id")?, number, epoch).await?))
}

/// The number of an attempt, or its epoch.
struct Number(u32);

impl FromStr for Number {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let message = "the number of an attempt and its epoch are whole numbers, from 1";
        text.parse().map(Self).map_err(|_| Error::new(Code::IdInvalid, message))
    }
}
