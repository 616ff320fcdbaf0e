//! Who may do what: organizations, principals, roles and permissions.

mod api_key;
mod grant;
mod key;
mod limit;
mod organization;
mod password;
mod permission;
mod principal;
mod role;
mod store;
mod user;

pub use api_key::{ApiKeySpec, PreviousKey};
pub(crate) use api_key::{KeyHolder, Verifier, handle_of};
pub(crate) use grant::resolve;
pub use grant::{Authority, Grant, MAX_GRANTS, OPERATORS};
pub use key::ApiKey;
pub(crate) use limit::Buckets;
pub use limit::{Quota, RateLimit};
pub use organization::{
    MAX_UNITS, Organization, OrganizationSpec, OrganizationStatus, Unit, UnitTree,
};
pub use password::{MAX_PASSWORD, MIN_PASSWORD};
pub(crate) use password::{PasswordHash, Passwords};
pub use permission::{Area, Operation, Permission, PermissionPattern, PermissionSet};
pub use principal::{Principal, Standing, Verdict};
pub use role::{BuiltInRole, Role, RoleSpec};
pub use store::{AccessStore, ApiKeyRecord, Holder};
pub use user::{Identity, MAX_EMAIL, UserSpec};
pub(crate) use user::{User, handle_of_email, handle_of_identity};
