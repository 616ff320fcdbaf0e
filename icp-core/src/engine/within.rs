//! An organization as far as somebody reaches.

mod delivery;
mod event;
mod integration;
mod source;

use std::sync::Arc;

pub use delivery::{LetterPage, LetterQuery};
pub use event::EventPage;

use super::Engine;
use crate::access::Reach;
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::Resources;

/// One organization as somebody has it who reaches so far: what is beyond is answered as what is
/// not there, and lists pass over it.
///
/// An event belongs to the unit that it names; its deliveries, their attempts and its dead letters
/// belong with it, whichever integration they go to. An integration belongs to its own unit. What
/// names no unit is the whole organization's.
///
/// It is made for one request: units that are moved later are where they were.
#[derive(Clone, Debug)]
pub struct Within {
    engine: Engine,
    org: OrgId,
    reach: Reach,
    resources: Resources,
}

impl Engine {
    /// An organization as far as `reach` goes.
    #[must_use]
    pub fn within(&self, org: OrgId, reach: Reach) -> Within {
        let resources = self.resources().within(reach.clone());
        Within { engine: self.clone(), org, reach, resources }
    }

    /// How far somebody reaches in an organization who may do something in these units.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`](crate::Code::OrganizationUnknown), and those of the store.
    pub async fn reach(&self, org: &OrgId, units: Vec<ResourceId>) -> Result<Reach> {
        let view = self.core.org(org).await?;
        Ok(Reach::of(units, Arc::clone(&view.organization)))
    }
}

impl Within {
    /// The organization.
    #[must_use]
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// Whether it is the whole organization.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.reach.is_whole()
    }

    /// Its resources, as far as they are within reach.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }
}
