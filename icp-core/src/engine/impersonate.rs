//! Acting as somebody else, which is told.

use std::time::Duration;

use super::Engine;
use super::access::present;
use super::sessions::{ACCESS_TOKEN, Tokens};
use crate::access::{AccessToken, Acting, BuiltInRole, Principal, Subject};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Note};

/// Who takes which role, and why.
#[derive(Clone, Debug)]
pub struct Impersonation<'a> {
    /// The organization.
    pub org: &'a OrgId,
    /// The built-in role.
    pub role: BuiltInRole,
    /// Why, for the audit log.
    pub reason: &'a str,
}

impl Engine {
    /// Lets `principal` act in a role of an organization for 15 minutes, which the audit log of
    /// the organization tells.
    ///
    /// # Errors
    ///
    /// [`Code::PermissionDenied`] where the role may do what the principal may not do everywhere,
    /// or the principal acts as somebody else already; [`Code::OrganizationUnknown`],
    /// [`Code::ResourceInvalid`] without a reason, and those of the store.
    pub async fn impersonate(
        &self,
        principal: &Principal,
        wanted: Impersonation<'_>,
        actor: &Actor,
    ) -> Result<Tokens> {
        let Impersonation { org, role, reason } = wanted;
        let given = role.permissions().difference(principal.everywhere());
        if !given.is_empty() || principal.acts_as().is_some() {
            let message = "only who may do it all everywhere, and acts as themselves, can act so";
            return Err(Error::new(Code::PermissionDenied, message));
        }
        if !(1..=500).contains(&reason.trim().chars().count()) {
            let found = Violation::new("/reason", "length", "say why, in 1 to 500 characters");
            return Err(Error::violations(Code::ResourceInvalid, vec![found]));
        }
        if present(&self.core, org).await?.is_none() {
            let message = format!("there is no organization `{org}`; create it first");
            return Err(Error::new(Code::OrganizationUnknown, message));
        }
        let now = self.now();
        let note = Note {
            org: org.clone(),
            actor: actor.clone(),
            action: "impersonate".into(),
            kind: "organization".into(),
            id: ResourceId::new(org.as_str())?,
            note: Some(format!("as {}: {}", role.as_str(), reason.trim())),
            now,
        };
        self.core.store.note(note).await?;
        let acting = Acting { org: org.clone(), role: role.as_str().to_owned() };
        let token = AccessToken {
            session: None,
            principal: Subject::Named(principal.name().to_owned()),
            began_at: now,
            expires_at: now + ACCESS_TOKEN,
            acting: Some(acting),
        };
        Ok(Tokens {
            access: self.seal_token(&token)?,
            access_for: ACCESS_TOKEN,
            refresh: None,
            refresh_for: Duration::ZERO,
        })
    }
}
