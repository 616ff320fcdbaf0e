use std::time::Duration;

use serde_json::Value;

use super::{DryRunOn, admit, saved};
use crate::delivery::condition;
use crate::engine::core::Core;
use crate::error::{Code, Error, Result};
use crate::event::EventType;
use crate::id::{EventId, OrgId, ResourceId};
use crate::integration::CompiledIntegration;
use crate::integration::filter::{Condition, Evaluation, Filter, FilterFault, Verdict};
use crate::integration::matching::document;
use crate::transform::{Position, TransformError};

/// The largest value of an expression that is shown, in bytes of its JSON.
pub const MAX_VALUE: usize = 64 << 10;

/// Where the pointers of a filter begin that is not saved.
const AT: &str = "/filter";

/// The filter that is asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FilterOf {
    /// That of a saved integration, on or off; without one everything matches.
    Saved(ResourceId),
    /// One that is not saved. Pointers into it begin with `/filter`.
    Draft(Filter),
}

/// What a filter says of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilterReport {
    /// The event; its id is that of nothing stored where a sample was given.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// What the filter was asked about: the event as filters see it.
    pub document: Value,
    /// What it says.
    pub verdict: Verdict,
    /// What the expression gave, where the filter is one; not beyond [`MAX_VALUE`].
    pub value: Option<Value>,
    /// Why the expression gave nothing. The filter does not match then.
    pub fault: Option<FilterFault>,
    /// Whether it is judged before each attempt, and not when the event is published.
    pub deferred: bool,
    /// How long the filter took.
    pub took: Duration,
}

/// Asks a filter about an event.
pub(crate) async fn run(
    core: &Core,
    org: &OrgId,
    of: FilterOf,
    on: DryRunOn,
) -> Result<FilterReport> {
    admit(core, org).await?;
    let (event, view) = on.event(core, org).await?;
    let condition = match of {
        FilterOf::Saved(id) => saved_condition(&*saved(&view, &id)?),
        FilterOf::Draft(filter) => Some(compiled(&filter)?),
    };
    let document = document(&event);
    let began = core.clock.monotonic();
    let deferred = matches!(condition, Some(Condition::Deferred(_)));
    let evaluation = match condition {
        None => Evaluation::of(Verdict::Match),
        Some(Condition::InPlace(filter)) => filter.evaluate(&document),
        Some(Condition::Deferred(filter)) => {
            let judged = condition::judge(core, &view, &filter, &event, 1).await;
            judged.unwrap_or_else(unjudged)
        }
    };
    let took = core.clock.monotonic().saturating_sub(began);
    let small = |value: &Value| value.to_string().len() <= MAX_VALUE;
    Ok(FilterReport {
        event: event.id,
        event_type: event.event_type,
        document,
        verdict: evaluation.verdict,
        value: evaluation.value.filter(small),
        fault: evaluation.fault,
        deferred,
        took,
    })
}

fn saved_condition(integration: &CompiledIntegration) -> Option<Condition> {
    let in_place = integration.filter.clone().map(Condition::InPlace);
    in_place.or_else(|| integration.deferred.clone().map(Condition::Deferred))
}

/// The attempt of a delivery would fail.
fn unjudged(error: TransformError) -> Evaluation {
    let at = error.origin.as_ref().and_then(|origin| origin.at);
    let at = at.unwrap_or(Position { line: 1, column: 1 });
    let why = format!("the expression could not be judged ({}): {error}", error.code);
    let fault = Some(FilterFault { message: error.message, at });
    Evaluation { fault, ..Evaluation::of(Verdict::NoMatch { why }) }
}

fn compiled(filter: &Filter) -> Result<Condition> {
    filter.condition(AT).map_err(|violations| Error::violations(Code::DryRunInvalid, violations))
}
