//! Dry runs of transformations and filters.

mod view;

use axum::Json;
use axum::extract::State;
use icp_core::access::{Area, Operation};
use icp_core::event::EventType;
use icp_core::id::{EventId, OrgId, ResourceId};
use icp_core::integration::filter::Filter;
use icp_core::transform::PlanSpec;
use icp_core::trial::{DryRunOn, FilterOf, TransformOf};
use icp_core::{Code, Engine, Violation};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::endpoint::{Endpoint, may};
use crate::events::{Envelope, Sender};
use crate::extract::{Body, Input, Params, Query};
use crate::problem::{Problem, Result};
use view::{FilterView, TransformView};

const WHAT: &str = "`sample`, `sample_of` and `event`";

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let org = "/api/v1/organizations/{org}";
    vec![
        Endpoint::post(
            may(Area::Integrations, Operation::Execute),
            format!("{org}/transforms/dry-run"),
            transform,
        )
        .named("dryRunTransform", "Shows what a transformation makes of an event; sends nothing")
        .takes::<TransformInput>()
        .answers::<TransformView>(200),
        Endpoint::post(
            may(Area::Integrations, Operation::Execute),
            format!("{org}/filters/dry-run"),
            filter,
        )
        .named("dryRunFilter", "Shows what a filter says of an event")
        .takes::<FilterInput>()
        .answers::<FilterView>(200),
    ]
}

/// A transformation, and what it is run on. One of `transform` and `integration`, and one of
/// `sample`, `sample_of` and `event`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TransformInput {
    /// The steps of a transformation that is not saved.
    transform: Option<PlanSpec>,
    /// The saved integration whose transformation it is.
    integration: Option<ResourceId>,
    /// A sample of one's own, as an event to publish.
    sample: Option<Envelope>,
    /// The type whose sample is taken from the catalogue, or made of its schema.
    sample_of: Option<EventType>,
    /// A stored event.
    event: Option<EventId>,
}

/// A filter, and what it is asked about. One of `filter` and `integration`, and one of `sample`,
/// `sample_of` and `event`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct FilterInput {
    /// A filter that is not saved.
    filter: Option<Filter>,
    /// The saved integration whose filter it is.
    integration: Option<ResourceId>,
    /// A sample of one's own, as an event to publish.
    sample: Option<Envelope>,
    /// The type whose sample is taken from the catalogue, or made of its schema.
    sample_of: Option<EventType>,
    /// A stored event.
    event: Option<EventId>,
}

impl Input for TransformInput {
    const INVALID: Code = Code::DryRunInvalid;
}

impl Input for FilterInput {
    const INVALID: Code = Code::DryRunInvalid;
}

async fn transform(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(input): Body<TransformInput>,
) -> Result<Json<TransformView>> {
    query.only(&[])?;
    let org = params.org()?;
    let of = match (input.transform, input.integration) {
        (Some(spec), None) => TransformOf::Draft(spec),
        (None, Some(id)) => TransformOf::Saved(id),
        (given, _) => return Err(not_one(given.is_some(), "transform")),
    };
    let on = on(&org, input.sample, input.sample_of, input.event)?;
    Ok(Json(engine.dry_run_transform(&org, of, on).await?.into()))
}

async fn filter(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    Body(input): Body<FilterInput>,
) -> Result<Json<FilterView>> {
    query.only(&[])?;
    let org = params.org()?;
    let of = match (input.filter, input.integration) {
        (Some(filter), None) => FilterOf::Draft(filter),
        (None, Some(id)) => FilterOf::Saved(id),
        (given, _) => return Err(not_one(given.is_some(), "filter")),
    };
    let on = on(&org, input.sample, input.sample_of, input.event)?;
    Ok(Json(engine.dry_run_filter(&org, of, on).await?.into()))
}

fn on(
    org: &OrgId,
    sample: Option<Envelope>,
    sample_of: Option<EventType>,
    event: Option<EventId>,
) -> Result<DryRunOn> {
    match (sample, sample_of, event) {
        (Some(sample), None, None) => {
            let event = sample.event(org, &Sender::default(), "/sample")?;
            Ok(DryRunOn::Given(Box::new(event)))
        }
        (None, Some(event_type), None) => Ok(DryRunOn::SampleOf(event_type)),
        (None, None, Some(event)) => Ok(DryRunOn::Stored(event)),
        (None, None, None) => Err(refuse("", "required", format!("give one of {WHAT}"))),
        (_, _, event) => {
            let at = if event.is_some() { "/event" } else { "/sample_of" };
            Err(refuse(at, "ambiguous", format!("give only one of {WHAT}")))
        }
    }
}

/// Both of a draft and a saved integration, or neither.
fn not_one(both: bool, draft: &str) -> Problem {
    let which = format!("one of `{draft}` and `integration`");
    match both {
        true => refuse("/integration", "ambiguous", format!("give only {which}")),
        false => refuse("", "required", format!("give {which}")),
    }
}

fn refuse(at: &str, code: &str, message: String) -> Problem {
    Problem::violations(Code::DryRunInvalid, vec![Violation::new(at, code, message)])
}
