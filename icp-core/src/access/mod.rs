//! Who may do what: organizations, principals, roles and permissions.

mod api_key;
mod authority;
mod grant;
mod key;
mod limit;
mod organization;
mod password;
mod permission;
mod principal;
mod reach;
mod role;
mod session;
mod store;
mod user;

pub use api_key::{ApiKeySpec, PreviousKey};
pub(crate) use api_key::{KeyHolder, Verifier, handle_of};
pub use authority::Authority;
pub use grant::{Grant, MAX_GRANTS, OPERATORS};
pub(crate) use grant::{
    GrantPlace, gained, grants_in_units, guard as guard_grants, resolve,
    validate as validate_grants,
};
pub use key::ApiKey;
pub(crate) use limit::Buckets;
pub use limit::{Quota, RateLimit};
pub use organization::{
    MAX_UNITS, Organization, OrganizationSpec, OrganizationStatus, Unit, UnitTree,
};
pub(crate) use password::Passwords;
pub use password::{MAX_PASSWORD, MIN_PASSWORD};
pub use permission::{Area, Operation, Permission, PermissionPattern, PermissionSet};
pub use principal::{Principal, Standing, Verdict};
pub use reach::Reach;
pub use role::{BuiltInRole, Role, RoleSpec};
pub(crate) use session::{
    ACCESS, AccessToken, Acting, Presented, RefreshToken, Session, Subject, slot_of,
};
pub use store::{AccessStore, Holder};
pub use user::{Identity, MAX_EMAIL, UserSpec};
pub(crate) use user::{User, handle_of_email, handle_of_identity};
