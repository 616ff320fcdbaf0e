//! What an event has to be before it is taken in.

use std::sync::Arc;

use super::{IngestItem, item};
use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Error, Result, Violation};
use crate::event::{Event, NewEvent};
use crate::event_type;
use crate::id::{EventId, OrgId};

/// Begins the idempotency keys of events that sources gave, which nobody else can use.
const OF_SOURCE: &str = "icp-source:";

/// Validates a host's event against the engine's limits and its organization.
pub(crate) async fn accept(core: &Core, event: NewEvent) -> Result<(Event, Arc<OrgView>)> {
    let view = org_of_host(core, &event).await?;
    Ok((not_own(core, &view, event)?, view))
}

/// The organization of a host's event, whose idempotency key is not of those of sources.
async fn org_of_host(core: &Core, event: &NewEvent) -> Result<Arc<OrgView>> {
    if event.idempotency_key.as_ref().is_some_and(|key| key.starts_with(OF_SOURCE)) {
        let message = format!("keys that begin with `{OF_SOURCE}` are the engine's own");
        let violation = Violation::new("/idempotency_key", "reserved", message);
        return Err(Error::violations(Code::EventInvalid, vec![violation]));
    }
    active_org(core, event).await
}

/// As [`accept`], for operational events too.
pub(crate) async fn accept_own(core: &Core, event: NewEvent) -> Result<(Event, Arc<OrgView>)> {
    let view = active_org(core, &event).await?;
    Ok((own_or_not(core, &view, event)?, view))
}

/// Validates a host's event, and matches it.
pub(super) async fn prepare_of_host(core: &Core, event: NewEvent) -> Result<IngestItem> {
    let view = org_of_host(core, &event).await?;
    prepare(core, &view, event)
}

/// Validates an event that its source knows as `id`, and matches it.
pub(crate) async fn prepare_of_source(
    core: &Core,
    event: NewEvent,
    id: &str,
) -> Result<IngestItem> {
    let event = event.idempotency_key(format!("{OF_SOURCE}{id}"));
    let view = active_org(core, &event).await?;
    prepare(core, &view, event)
}

/// `view` is of the event's organization.
fn prepare(core: &Core, view: &OrgView, event: NewEvent) -> Result<IngestItem> {
    Ok(item(core, view, not_own(core, view, event)?, None))
}

/// The organization of an event, which has to be active.
async fn active_org(core: &Core, event: &NewEvent) -> Result<Arc<OrgView>> {
    let view = core.org(&OrgId::new(event.org())?).await?;
    if !view.organization.active {
        let message = "the organization is suspended; activate it before publishing";
        return Err(Error::new(Code::OrganizationSuspended, message));
    }
    Ok(view)
}

/// An event that is not the engine's own, judged by the schema of its type.
fn not_own(core: &Core, view: &OrgView, event: NewEvent) -> Result<Event> {
    let event = own_or_not(core, view, event)?;
    if event.event_type.is_operational() {
        let message = "event types that begin with `icp.` are the engine's own; use another name";
        return Err(Error::new(Code::EventTypeReserved, message));
    }
    let differs = event_type::check(&view.entry, &event)?;
    if let Some(first) = differs.first() {
        core.metrics.schema_mismatches.inc();
        tracing::warn!(
            icp.org = %event.org,
            icp.event.type = %event.event_type,
            differences = differs.len(),
            pointer = first.pointer,
            rule = first.code,
            "an event does not fit the schema of its type"
        );
    }
    Ok(event)
}

fn own_or_not(core: &Core, view: &OrgView, event: NewEvent) -> Result<Event> {
    let id = EventId::generate(core.ids.as_ref());
    let revision = view.entry.revision();
    let event = event.accept(id, core.clock.now(), revision, &core.config.events)?;
    if let Some(unit) = &event.unit
        && !view.matching.has_unit(unit)
    {
        let message = format!("the organization has no unit `{unit}`");
        return Err(Error::violations(
            Code::UnitUnknown,
            vec![Violation::new("/unit", Code::UnitUnknown.as_str(), message)],
        ));
    }
    Ok(event)
}
