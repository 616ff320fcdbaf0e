//! Users as resources of an organization.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::grant::{self, Grant, GrantPlace};
use super::password::PasswordHash;
use super::permission::Area;
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::{Compiled, Effect, Spec, SpecContext, Violations};
use crate::secret::{Place, Secret, SecretString, SecretVisitor};
use crate::time::Timestamp;
use crate::transform::PlanSpec;

/// The most bytes of an email address.
pub const MAX_EMAIL: usize = 240;

/// The most outside identities of a user.
const MAX_IDENTITIES: usize = 16;

/// What is configured for a user.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// The email address the user logs in with, unique in the organization; case does not count.
    #[schemars(length(min = 3, max = 240))]
    pub email: String,
    /// The roles that the user has.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// Whether the user may log in, and what was logged in before is good for anything. Default
    /// `true`.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The hash of the password, in the PHC form of argon2id; set by the routes for passwords, or
    /// brought along from elsewhere. Default none: the user logs in by an outside identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Who the user is to outside issuers of tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Identity>,
    /// Sessions that began before are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_since: Option<Timestamp>,
}

/// Who a user is to an outside issuer.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The issuer, as the claim `iss` of its tokens names it.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// The user, as the claim `sub` names them.
    #[schemars(length(min = 1, max = 255))]
    pub subject: String,
}

fn yes() -> bool {
    true
}

impl Spec for UserSpec {
    const KIND: &'static str = "user";
    const PLURAL: &'static str = "users";
    const AREA: Area = Area::Users;
    const ASKS_ORGANIZATION: bool = true;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        if !is_email(&self.email) {
            let message =
                format!("use an address of up to {MAX_EMAIL} bytes, as in ann@example.com");
            violations.add("/email", "email", message);
        }
        if self.identities.len() > MAX_IDENTITIES {
            violations.add("/identities", "too_many", format!("use at most {MAX_IDENTITIES}"));
        }
        let plain = self.password.as_ref().and_then(Secret::as_plain);
        if plain.is_some_and(|plain| PasswordHash::parse(plain.clone()).is_err()) {
            let message =
                "this is the hash, as in `$argon2id$v=19$…`; set passwords by their route";
            violations.add("/password", "password_hash", message);
        }
        grant::validate("/grants", GrantPlace::Home, &self.grants, context, violations);
    }

    fn guard(present: Option<&Self>, context: &SpecContext<'_>, violations: &mut Violations) {
        if let Some(present) = present {
            grant::guard("/grants", GrantPlace::Home, &present.grants, None, context, violations);
        }
    }

    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
        match &mut self.password {
            Some(password) => visitor.secret(Place::new(PASSWORD, "/password"), password),
            None => Ok(()),
        }
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn handles(&self, org: &OrgId, _: &ResourceId) -> Option<Vec<String>> {
        let identities = self
            .identities
            .iter()
            .map(|identity| handle_of_identity(org, &identity.issuer, &identity.subject));
        let handles = std::iter::once(handle_of_email(org, &self.email)).chain(identities);
        Some(handles.collect())
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, context: &SpecContext<'_>) -> Result<Compiled> {
        let password = match &self.password {
            Some(password) => {
                let text: SecretString = context.opener().open(PASSWORD, password)?;
                Some(PasswordHash::parse(text)?)
            }
            None => None,
        };
        Ok(Arc::new(User {
            grants: self.grants.clone(),
            enabled: self.enabled,
            password,
            sessions_since: self.sessions_since,
        }))
    }
}

const PASSWORD: &str = "password";

/// A user, ready for use.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) grants: Vec<Grant>,
    pub(crate) enabled: bool,
    pub(crate) password: Option<PasswordHash>,
    pub(crate) sessions_since: Option<Timestamp>,
}

/// The handle of the user with this address in `org`.
pub(crate) fn handle_of_email(org: &OrgId, email: &str) -> String {
    format!("user:{org}:{}", email.to_lowercase())
}

/// The handle of the user of `org` with this identity. It is hashed, as issuers may be long.
pub(crate) fn handle_of_identity(org: &OrgId, issuer: &str, subject: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(issuer);
    hash.update([0]);
    hash.update(subject);
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("identity:{org}:{hash}")
}

/// Whether the text can be an address; whether mail arrives there is not known before some does.
fn is_email(text: &str) -> bool {
    let fine = |part: &str| {
        !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || c == '@')
    };
    text.len() <= MAX_EMAIL
        && text.split_once('@').is_some_and(|(local, host)| fine(local) && fine(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_two_parts() {
        for (text, is) in [
            ("ann@example.com", true),
            ("ann+tag@localhost", true),
            ("änn@exämple.de", true),
            ("ann", false),
            ("@example.com", false),
            ("ann@", false),
            ("a@b@c", false),
            ("a n@b", false),
            ("a\n@b", false),
        ] {
            assert_eq!(is_email(text), is, "{text:?}");
        }
        assert!(!is_email(&format!("{}@b", "a".repeat(MAX_EMAIL))));
    }

    #[test]
    fn handles_fit_and_tell_users_apart() {
        let long = OrgId::new("o".repeat(64)).unwrap();
        let email = format!("{}@b", "a".repeat(MAX_EMAIL - 2));
        assert!(handle_of_email(&long, &email).len() <= crate::resource::MAX_HANDLE);
        let issuer = "https://issuer.example/".repeat(80);
        assert!(handle_of_identity(&long, &issuer, "s").len() <= crate::resource::MAX_HANDLE);
        let org = OrgId::new("acme").unwrap();
        assert_eq!(handle_of_email(&org, "Ann@B"), handle_of_email(&org, "ann@b"));
        assert_ne!(handle_of_identity(&org, "ab", "c"), handle_of_identity(&org, "a", "bc"));
    }
}
