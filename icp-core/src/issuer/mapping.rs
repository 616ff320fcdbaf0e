//! Who the holder of a token is, and what they may do: from its claims, by the issuer's rules.

use super::claims::Claims;
use super::spec::Issuer;
use super::verify::{Refusal, subject};
use crate::access::{Grant, OPERATORS, PermissionPattern, PermissionSet};
use crate::id::{OrgId, ResourceId};

/// The holder of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identified {
    /// As audit rows name them.
    pub(crate) name: String,
    /// Their organization.
    pub(crate) home: OrgId,
    pub(crate) grants: Vec<Grant>,
    /// What the token is narrowed to, whatever its roles say.
    pub(crate) scopes: Option<PermissionSet>,
}

impl Issuer {
    /// Who proved claims are about; `owner` is the organization of the issuer, `id` its own.
    pub(crate) fn identify(
        &self,
        claims: &Claims,
        owner: &OrgId,
        id: &ResourceId,
    ) -> Result<Identified, Refusal> {
        let subject = subject(claims)?;
        Ok(Identified {
            name: format!("token:{owner}/{id}/{subject}"),
            home: self.home(claims, owner)?,
            grants: self.granted(claims),
            scopes: self.scope_claim.as_ref().map(|claim| scopes(claims, claim)),
        })
    }

    /// Everything that the holder of some token may be granted.
    pub(crate) fn all_grants(&self) -> Vec<Grant> {
        let mapped = self.roles.iter().flat_map(|rule| rule.map.values().flatten());
        self.grants.iter().chain(mapped).cloned().collect()
    }

    fn home(&self, claims: &Claims, owner: &OrgId) -> Result<OrgId, Refusal> {
        let Some(rule) = &self.organization else { return Ok(owner.clone()) };
        let value = claims.text_at(&rule.claim).ok_or(Refusal::Organization)?;
        if let Some(mapped) = rule.map.get(value) {
            return Ok(mapped.clone());
        }
        let named = OrgId::new(value).ok().filter(|org| rule.by_id && org.as_str() != OPERATORS);
        named.ok_or(Refusal::Organization)
    }

    fn granted(&self, claims: &Claims) -> Vec<Grant> {
        let by_role = self.roles.iter().flat_map(|rule| {
            let values = claims.texts_at(&rule.claim);
            values.into_iter().filter_map(|value| rule.map.get(value)).flatten()
        });
        let mut granted = Vec::new();
        for grant in self.grants.iter().chain(by_role) {
            if !granted.contains(grant) {
                granted.push(grant.clone());
            }
        }
        granted
    }
}

fn scopes(claims: &Claims, claim: &str) -> PermissionSet {
    let named = claims.texts_at(claim).into_iter();
    let patterns = named.filter_map(|text| text.parse::<PermissionPattern>().ok());
    patterns.fold(PermissionSet::NONE, |set, one| set.union(one.permissions()))
}
