//! Outside issuers of tokens: whose tokens are good here, for whom, and for what.
//!
//! An [`IssuerSpec`] is a resource like any other. A JSON Web Token names its issuer and audience,
//! by which the resource is found; the token is then read strictly (RFC 7515, RFC 7519, with the
//! advice of RFC 8725), its signature is checked with a key that the resource leads to, and its
//! claims say who calls and what they may do.

mod algorithm;
mod claims;
mod client;
mod fetch;
mod introspection;
mod jwks;
mod jws;
mod keyring;
mod login;
mod mapping;
mod signature;
mod spec;
mod strict;
mod verify;

pub use algorithm::{Algorithm, TokenType};
pub(crate) use claims::Claims;
pub use introspection::IntrospectionSpec;
pub(crate) use introspection::is_opaque;
pub(crate) use jws::{Jws, MAX_TOKEN};
pub(crate) use keyring::{Keyring, Keys, Wanted};
pub(crate) use login::LoginBy;
pub use login::LoginSpec;
pub(crate) use login::{Begun, most_by_login};
pub(crate) use mapping::Identified;
pub(crate) use spec::{Issuer, handle_of};
pub use spec::{IssuerSpec, MAX_AUDIENCES, OrganizationRule, RoleRule};
pub(crate) use verify::Refusal;

#[cfg(test)]
mod tests;
