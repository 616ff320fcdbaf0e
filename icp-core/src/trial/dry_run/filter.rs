use std::time::Duration;

use serde_json::Value;

use super::{DryRunOn, admit, saved};
use crate::engine::core::Core;
use crate::error::{Code, Error, Result};
use crate::event::EventType;
use crate::id::{EventId, OrgId, ResourceId};
use crate::integration::filter::{CompiledFilter, Evaluation, Filter, FilterFault, Verdict};
use crate::integration::matching::document;

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
    let filter = match of {
        FilterOf::Saved(id) => saved(&view, &id)?.filter.clone(),
        FilterOf::Draft(filter) => Some(compiled(&filter)?),
    };
    let document = document(&event);
    let began = core.clock.monotonic();
    let evaluation = match filter {
        None => Evaluation::of(Verdict::Match),
        Some(filter) => filter.evaluate(&document),
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
        took,
    })
}

fn compiled(filter: &Filter) -> Result<CompiledFilter> {
    filter.compile(AT).map_err(|violations| Error::violations(Code::DryRunInvalid, violations))
}
