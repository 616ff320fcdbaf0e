//! What the catalogue is asked: a sample of a type, whether a body fits, what its events have in
//! common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Definition, EventSchema, EventTypeSpec, Inference, Policy};
use crate::engine::core::Core;
use crate::error::{Code, Error, Result, Violation};
use crate::event::{EventQuery, EventType};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Resource, Spec};
use crate::store::PageQuery;

/// The most events that a schema is inferred from.
pub const MAX_SEEN: usize = 500;

/// How many bytes of bodies are read for a schema; the newest ones.
const MAX_BYTES: usize = 16 << 20;
const PAGE: usize = 100;

/// A body that an event of a type may have.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TypeSample {
    /// The body.
    pub body: Value,
    /// Whether it was made of the schema, because the catalogue has no sample.
    pub made: bool,
}

/// Whether a body fits the schema of a type.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Fit {
    /// Whether it does; always where there is no schema.
    pub fits: bool,
    /// Whether the type has a schema.
    pub has_schema: bool,
    /// What becomes of an event that does not fit.
    pub policy: Policy,
    /// How it differs, with pointers into the body; at most 50.
    pub violations: Vec<Violation>,
}

/// A schema made of stored events.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inferred {
    /// A schema that every body that was read fits.
    pub schema: Value,
    /// How many bodies were read: those of the newest events.
    pub events: usize,
    /// How many events were passed over because their body is not JSON, or was erased.
    pub passed_over: usize,
}

/// A sample of a type.
///
/// # Errors
///
/// [`Code::ResourceNotFound`], [`Code::SampleNotFound`], and those of the store.
pub(crate) async fn sample(core: &Core, org: &OrgId, event_type: &EventType) -> Result<TypeSample> {
    let id = id(event_type)?;
    let Resource { spec, .. } = core.resources.get_typed::<EventTypeSpec>(org, &id).await?;
    if let Some(body) = spec.sample {
        return Ok(TypeSample { body, made: false });
    }
    let schema = spec.schema.as_ref().and_then(|schema| EventSchema::new(schema).ok());
    let body = schema.and_then(|schema| schema.sample()).ok_or_else(|| {
        let message = format!(
            "`{event_type}` has no sample and none can be made of its schema; add a sample to it"
        );
        Error::new(Code::SampleNotFound, message)
    })?;
    Ok(TypeSample { body, made: true })
}

/// Whether `body` fits the schema of its type, whatever the type's policy is.
///
/// # Errors
///
/// [`Code::ResourceNotFound`], and those of the store.
pub(crate) async fn fit(
    core: &Core,
    org: &OrgId,
    event_type: &EventType,
    body: &Value,
) -> Result<Fit> {
    let view = core.org(org).await?;
    let id = id(event_type)?;
    let entry = view.entry.resource(EventTypeSpec::KIND, &id).ok_or_else(|| unknown(event_type))?;
    let definition = entry.compiled::<Definition>()?;
    let violations = definition.differences(body, body.to_string().len());
    Ok(Fit {
        fits: violations.is_empty(),
        has_schema: definition.has_schema(),
        policy: definition.policy(),
        violations,
    })
}

/// A schema of the newest events of a type, which need not be in the catalogue: at most `most`
/// events, and at most 16 MiB of bodies.
///
/// # Errors
///
/// Those of the store.
pub(crate) async fn inferred(
    core: &Core,
    org: &OrgId,
    event_type: &EventType,
    most: usize,
) -> Result<Inferred> {
    core.org(org).await?;
    let (mut inference, mut events, mut passed_over) = (Inference::default(), 0, 0);
    let (mut left, mut bytes) = (most.min(MAX_SEEN), MAX_BYTES);
    let mut after = None;
    while left > 0 {
        let page = PageQuery { after, limit: left.min(PAGE) };
        let event_type = Some(event_type.clone());
        let query = EventQuery { event_type, page, ..EventQuery::default() };
        let found = core.store.events(org, &query).await?;
        after = found.items.last().map(|event| event.id);
        left = left.saturating_sub(found.items.len());
        for summary in found.items {
            // Between the two reads it may have been pruned.
            let Some(event) = core.store.event(org, summary.id).await? else { continue };
            let Some(fewer) = bytes.checked_sub(event.body.len()) else {
                left = 0;
                break;
            };
            let is_read = event.erased_at.is_none() && event.is_json();
            match serde_json::from_slice(&event.body) {
                Ok(body) if is_read => {
                    inference.add(&body);
                    (events, bytes) = (events + 1, fewer);
                }
                _ => passed_over += 1,
            }
        }
        if !found.more {
            break;
        }
    }
    Ok(Inferred { schema: inference.schema(), events, passed_over })
}

/// The id of the type in the catalogue. A type that is too long for an id is in none.
fn id(event_type: &EventType) -> Result<ResourceId> {
    ResourceId::new(event_type.as_str()).map_err(|_| unknown(event_type))
}

fn unknown(event_type: &EventType) -> Error {
    let message = format!("there is no event type `{event_type}` in the catalogue");
    Error::new(Code::ResourceNotFound, message)
}
