//! Who may do what: organizations, API keys.

mod key;
mod organization;
mod store;

pub use key::ApiKey;
pub use organization::{
    MAX_UNITS, Organization, OrganizationSpec, OrganizationStatus, Unit, UnitTree,
};
pub use store::{AccessStore, ApiKeyRecord, Holder};
