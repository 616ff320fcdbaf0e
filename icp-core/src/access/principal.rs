//! Who calls, once that is proved, and what it may do where.

use std::sync::Arc;

use super::authority::Authority;
use super::limit::RateLimit;
use super::permission::{Permission, PermissionSet};
use crate::id::{OrgId, ResourceId};
use crate::resource::Actor;

/// Who calls: a key, a user, a token of an outside issuer, or the host's own code.
///
/// A host that knows its callers makes one by itself, and hands it to the HTTP API as an extension
/// of the request, before the API's router:
///
/// ```
/// use icp_core::access::{BuiltInRole, Principal};
/// use icp_core::id::OrgId;
///
/// # fn main() -> icp_core::Result<()> {
/// let org = OrgId::new("acme")?;
/// let viewer = BuiltInRole::Viewer.permissions();
/// let principal = Principal::new("session:4711").at_home_in(org.clone()).granted_in(org, viewer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    name: Arc<str>,
    home: Option<OrgId>,
    grants: Vec<Granted>,
    limit: Option<RateLimit>,
    acting_as: Option<Arc<str>>,
}

/// A set of permissions and where they are good for something.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Granted {
    /// `None` for every organization.
    org: Option<OrgId>,
    /// The unit they end at; `None` for the whole organization.
    unit: Option<ResourceId>,
    permissions: PermissionSet,
}

/// What a principal may do in one organization.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// In the whole organization.
    pub permissions: PermissionSet,
    /// In a unit and the units that are part of it.
    pub in_units: Vec<(ResourceId, PermissionSet)>,
    /// Whether the organization is another than the principal's own.
    pub crossing: bool,
}

/// Whether something may be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// In the whole organization.
    Allowed,
    /// In these units and those that are part of them.
    AllowedIn(Vec<ResourceId>),
    /// Not at all.
    Denied,
}

impl Principal {
    /// A principal that may do nothing yet, called as audit rows name it.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), home: None, grants: Vec::new(), limit: None, acting_as: None }
    }

    /// Makes `org` its own: to use another one is told in the audit log.
    #[must_use]
    pub fn at_home_in(self, org: OrgId) -> Self {
        Self { home: Some(org), ..self }
    }

    /// Lets it do this in an organization.
    #[must_use]
    pub fn granted_in(self, org: OrgId, permissions: PermissionSet) -> Self {
        self.with(Granted { org: Some(org), unit: None, permissions })
    }

    /// Lets it do this in a unit of an organization and in the units that are part of it.
    #[must_use]
    pub fn granted_in_unit(self, org: OrgId, unit: ResourceId, permissions: PermissionSet) -> Self {
        self.with(Granted { org: Some(org), unit: Some(unit), permissions })
    }

    /// Lets it do this in every organization, and where no organization is concerned.
    #[must_use]
    pub fn granted_everywhere(self, permissions: PermissionSet) -> Self {
        self.with(Granted { org: None, unit: None, permissions })
    }

    fn with(mut self, granted: Granted) -> Self {
        self.grants.push(granted);
        self
    }

    /// Takes away what is not in `permissions`, wherever it was given.
    #[must_use]
    pub fn narrowed_to(mut self, permissions: PermissionSet) -> Self {
        for granted in &mut self.grants {
            granted.permissions = granted.permissions.intersection(permissions);
        }
        self
    }

    /// Lets it send no more than this.
    #[must_use]
    pub fn limited_to(self, limit: RateLimit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Has audit rows tell as what it acts, beside who it is.
    #[must_use]
    pub fn acting_as(self, role: impl Into<Arc<str>>) -> Self {
        Self { acting_as: Some(role.into()), ..self }
    }

    /// What it may send; none where that is not bounded.
    #[must_use]
    pub fn limit(&self) -> Option<RateLimit> {
        self.limit
    }

    /// As what it acts, where that is not as itself.
    #[must_use]
    pub fn acts_as(&self) -> Option<&str> {
        self.acting_as.as_deref()
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own organization; none for the host's own code.
    #[must_use]
    pub fn home(&self) -> Option<&OrgId> {
        self.home.as_ref()
    }

    /// What it may do in every organization, and where none is concerned.
    #[must_use]
    pub fn everywhere(&self) -> PermissionSet {
        let grants = self.grants.iter().filter(|granted| granted.org.is_none());
        grants.fold(PermissionSet::NONE, |set, granted| set.union(granted.permissions))
    }

    /// What it may do in `org`; `None` where it has no business there, and must not learn whether
    /// there is such an organization.
    #[must_use]
    pub fn standing(&self, org: &OrgId) -> Option<Standing> {
        let crossing = self.home.as_ref().is_some_and(|home| home != org);
        let mut standing = Standing { crossing, ..Standing::default() };
        let mut known = self.home.as_ref() == Some(org);
        for granted in &self.grants {
            if granted.org.as_ref().is_some_and(|own| own != org) {
                continue;
            }
            known = true;
            match &granted.unit {
                Some(unit) => standing.in_units.push((unit.clone(), granted.permissions)),
                None => standing.permissions = standing.permissions.union(granted.permissions),
            }
        }
        known.then_some(standing)
    }

    /// The principal as the author of a change where it stands so: what it may do is the most
    /// that it may let others do.
    #[must_use]
    pub fn actor(&self, standing: &Standing, request_id: Option<String>) -> Actor {
        let may = Some(Authority {
            here: standing.permissions,
            in_units: standing.in_units.clone(),
            everywhere: self.everywhere(),
        });
        let acting_as = self.acts_as().map(str::to_owned);
        Actor { name: self.name.to_string(), acting_as, request_id, may }
    }
}

impl Standing {
    /// Whether this may be done, and where.
    #[must_use]
    pub fn verdict(&self, permission: Permission) -> Verdict {
        if self.permissions.has(permission) {
            return Verdict::Allowed;
        }
        let units = self.in_units.iter().filter(|(_, may)| may.has(permission));
        let units: Vec<_> = units.map(|(unit, _)| unit.clone()).collect();
        if units.is_empty() { Verdict::Denied } else { Verdict::AllowedIn(units) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Area, BuiltInRole, Operation};

    const LOOK: Permission = Permission::new(Area::Deliveries, Operation::Read);
    const MAKE: Permission = Permission::new(Area::Integrations, Operation::Write);

    fn org(id: &str) -> OrgId {
        OrgId::new(id).unwrap()
    }

    fn viewer() -> PermissionSet {
        BuiltInRole::Viewer.permissions()
    }

    #[test]
    fn a_member_stands_in_its_own_organization_only() {
        let ann = Principal::new("user:ann").at_home_in(org("acme"));
        let ann = ann.granted_in(org("acme"), viewer());
        let standing = ann.standing(&org("acme")).unwrap();
        assert_eq!(standing.verdict(LOOK), Verdict::Allowed);
        assert_eq!(standing.verdict(MAKE), Verdict::Denied);
        assert!(!standing.crossing);
        assert_eq!(ann.standing(&org("other")), None);
        assert!(ann.everywhere().is_empty());
    }

    #[test]
    fn who_has_no_role_is_known_at_home_and_may_do_nothing() {
        let ann = Principal::new("user:ann").at_home_in(org("acme"));
        assert_eq!(ann.standing(&org("acme")).unwrap().verdict(LOOK), Verdict::Denied);
    }

    #[test]
    fn an_operator_stands_everywhere_and_crosses() {
        let op = Principal::new("user:op").at_home_in(org("ops"));
        let op = op.granted_everywhere(viewer());
        assert!(op.standing(&org("acme")).unwrap().crossing);
        assert!(!op.standing(&org("ops")).unwrap().crossing);
        assert!(op.everywhere().has(LOOK));
    }

    #[test]
    fn a_unit_bounds_what_is_allowed() {
        let (eu, all) = (ResourceId::new("eu").unwrap(), BuiltInRole::Admin.permissions());
        let ann = Principal::new("user:ann").at_home_in(org("acme"));
        let ann =
            ann.granted_in(org("acme"), viewer()).granted_in_unit(org("acme"), eu.clone(), all);
        let standing = ann.standing(&org("acme")).unwrap();
        assert_eq!(standing.verdict(LOOK), Verdict::Allowed);
        assert_eq!(standing.verdict(MAKE), Verdict::AllowedIn(vec![eu]));
        let narrow = ann.narrowed_to(viewer()).standing(&org("acme")).unwrap();
        assert_eq!(narrow.verdict(MAKE), Verdict::Denied);
    }
}
