//! Who may do what: organizations, API keys.

mod key;
mod organization;
mod permission;
mod principal;
mod role;
mod store;

pub use key::ApiKey;
pub use organization::{
    MAX_UNITS, Organization, OrganizationSpec, OrganizationStatus, Unit, UnitTree,
};
pub use permission::{Area, Operation, Permission, PermissionPattern, PermissionSet};
pub use principal::{Principal, Standing, Verdict};
pub use role::{BuiltInRole, Role, RoleSpec};
pub use store::{AccessStore, ApiKeyRecord, Holder};
