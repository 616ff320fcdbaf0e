//! Dry runs: what a transformation or a filter makes of an event, without any delivery.

mod change;
mod filter;
mod transform;

use std::sync::Arc;

pub use change::{Change, Changes, MAX_CHANGED_BYTES, MAX_CHANGES};
pub(crate) use filter::run as run_filter;
pub use filter::{FilterOf, FilterReport, MAX_VALUE};
pub(crate) use transform::run as run_transform;
pub use transform::{TransformOf, TransformOutcome, TransformReport};

use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Error, Result, Violation};
use crate::event::{self, Event, EventType, NewEvent};
use crate::event_type;
use crate::id::{EventId, OrgId, ResourceId};
use crate::integration::CompiledIntegration;

/// The event that a transformation or a filter is run on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DryRunOn {
    /// A sample of the caller's own. When it is due or expires is not looked at.
    Given(Box<NewEvent>),
    /// What the catalogue has as the sample of this type, or what its schema suggests.
    SampleOf(EventType),
    /// A stored event.
    Stored(EventId),
}

impl DryRunOn {
    /// The event, and its organization as it is now.
    async fn event(self, core: &Core, org: &OrgId) -> Result<(Event, Arc<OrgView>)> {
        let given = match self {
            Self::Given(event) => *event,
            Self::SampleOf(event_type) => {
                let sample = event_type::sample(core, org, &event_type).await?;
                NewEvent::json(org.as_str(), event_type.as_str(), &sample.body)?
            }
            Self::Stored(id) => return Ok((stored(core, org, id).await?, core.org(org).await?)),
        };
        if given.org() != org.as_str() {
            let violation = Violation::new("/org", "ambiguous", "is another organization");
            return Err(Error::violations(Code::EventInvalid, vec![violation]));
        }
        event::publish::accept_own(core, given).await
    }
}

async fn stored(core: &Core, org: &OrgId, id: EventId) -> Result<Event> {
    let refuse = |why: String| Error::new(Code::EventNotFound, why);
    let event = core.store.event(org, id).await?;
    let event = event.ok_or_else(|| refuse(format!("there is no event `{id}`")))?;
    match event.erased_at {
        None => Ok(event),
        Some(at) => Err(refuse(format!("the event was erased at {at}; nothing is left to run on"))),
    }
}

/// Lets one dry run pass. Organizations that do not exist must not take the place of those that do.
async fn admit(core: &Core, org: &OrgId) -> Result<()> {
    core.org(org).await?;
    core.dry_runs.admit(org, core.clock.monotonic())
}

fn saved(view: &OrgView, id: &ResourceId) -> Result<Arc<CompiledIntegration>> {
    let Some(found) = view.matching.integration(id) else {
        let message = format!("there is no integration `{id}`");
        return Err(Error::new(Code::ResourceNotFound, message));
    };
    found.clone()
}
