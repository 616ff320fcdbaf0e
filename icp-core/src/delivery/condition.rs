//! Conditions that matching left open, judged before an attempt.

use crate::engine::core::{Core, OrgView};
use crate::event::Event;
use crate::integration::filter::{DeferredFilter, Evaluation};
use crate::integration::matching::document;
use crate::transform::{TransformContext, TransformError};

/// Asks a deferred filter about an event.
///
/// # Errors
///
/// Whether the event is wanted was not found out.
pub(crate) async fn judge(
    core: &Core,
    view: &OrgView,
    filter: &DeferredFilter,
    event: &Event,
    attempt: u32,
) -> Result<Evaluation, TransformError> {
    let lookups = view.lookups.view(event.unit.as_ref());
    let context = TransformContext { attempt, ..TransformContext::of(event, lookups) };
    let document = document(event).to_string().into();
    DeferredFilter::evaluation(core.transformer.run(filter.plan(), document, &context).await)
}
