//! Who may do what: organizations, API keys.

mod organization;
mod store;

pub use organization::{
    MAX_UNITS, Organization, OrganizationSpec, OrganizationStatus, Unit, UnitTree,
};
pub use store::{AccessStore, ApiKeyRecord};
