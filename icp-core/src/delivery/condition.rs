//! Conditions that matching left open, judged before an attempt.

use crate::engine::core::{Core, OrgView};
use crate::event::Event;
use crate::integration::filter::{DeferredFilter, Evaluation};
use crate::integration::matching::document;
use crate::transform::{TransformContext, TransformError, Vars};

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
    let none = Vars::default();
    let context = TransformContext {
        org: &event.org,
        event: event.id,
        event_type: &event.event_type,
        received_at: event.received_at,
        attempt,
        integration: None,
        vars: &none,
        lookups: view.lookups.view(event.unit.as_ref()),
        outlet: None,
        measure: false,
    };
    let document = document(event).to_string().into();
    DeferredFilter::evaluation(core.transformer.run(filter.plan(), document, &context).await)
}
