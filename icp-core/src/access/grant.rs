//! Which roles a principal has, and where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api_key::{ApiKeySpec, KeyHolder};
use super::authority::Authority;
use super::organization::{Organization, UnitTree};
use super::permission::{Permission, PermissionSet};
use super::principal::Principal;
use super::role::{BuiltInRole, Role, RoleSpec};
use super::user::{User, UserSpec};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::issuer::{Issuer, IssuerSpec};
use crate::resource::{OrgEntry, Spec, SpecContext, Violations};

/// The organization of those who operate the installation: its principals may be granted roles in
/// other organizations.
pub const OPERATORS: &str = "_operators";

/// The most grants of one principal.
pub const MAX_GRANTS: usize = 64;

const EVERYWHERE: &str = "*";

/// The rule that is broken where an author is weaker than what it is to change.
pub(super) const STRONGER: &str = "stronger";

/// A role that a principal has.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The role: one that is built in (`super_admin`, `admin`, `org_admin`, `integration_editor`,
    /// `viewer`, `org_user`, `api_key`), or one of the organization.
    pub role: ResourceId,
    /// Where, for principals of the operators' organization: another organization, or `*` for all
    /// of them. Default their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub organization: Option<String>,
    /// The unit of the organization that the role ends at; it holds in the units that are part of
    /// it. Default the whole organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ResourceId>,
}

impl Grant {
    /// The role in the principal's whole organization.
    #[must_use]
    pub fn of(role: ResourceId) -> Self {
        Self { role, organization: None, unit: None }
    }
}

/// Where the grants of a principal are good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GrantPlace {
    /// In the organization they are written in, and where operators' name another one.
    Home,
    /// In an organization that is known when somebody comes.
    Mapped,
}

/// Adds every rule that `grants` break; `at` is the pointer to them.
pub(crate) fn validate(
    at: &str,
    reach: GrantPlace,
    grants: &[Grant],
    context: &SpecContext<'_>,
    violations: &mut Violations,
) {
    if grants.len() > MAX_GRANTS {
        violations.add(at, "too_many", format!("use at most {MAX_GRANTS} grants"));
        return;
    }
    for (index, grant) in grants.iter().enumerate() {
        let mut refuse = |field: &str, code: &str, message: String| {
            violations.add(format!("{at}/{index}{field}"), code, message);
        };
        if let Some((field, code, message)) = reach.misplaced(grant, context) {
            refuse(field, code, message);
        }
        let within = context.within.filter(|_| reach == GrantPlace::Home);
        match permissions(&grant.role, within) {
            None => refuse("/role", "unknown", format!("there is no role `{}`", grant.role)),
            Some(given) => {
                if let Some(beyond) = reach.beyond(grant, context, given) {
                    let message = format!("you may not give `{beyond}`, which you do not have");
                    refuse("/role", "not_granted", message);
                }
            }
        }
    }
}

/// Adds every grant that lets its holder do what the author of a change may not do; a holder is
/// narrowed to `scopes` where there are some.
pub(crate) fn guard(
    at: &str,
    reach: GrantPlace,
    grants: &[Grant],
    scopes: Option<PermissionSet>,
    context: &SpecContext<'_>,
    violations: &mut Violations,
) {
    let within = context.within.filter(|_| reach == GrantPlace::Home);
    for (index, grant) in grants.iter().enumerate() {
        let Some(may) = permissions(&grant.role, within) else { continue };
        let may = scopes.map_or(may, |scopes| may.intersection(scopes));
        if let Some(beyond) = reach.beyond(grant, context, may) {
            let message = format!("has `{beyond}`, which you do not have");
            violations.add(format!("{at}/{index}/role"), STRONGER, message);
        }
    }
}

/// Who would have what in `unit` that the author does not have there, once units are part of each
/// other as `after` says.
pub(crate) fn gained(
    within: &OrgEntry,
    unit: &ResourceId,
    (before, after): (&UnitTree, &UnitTree),
    author: &Authority,
) -> Option<(String, Permission)> {
    let own = author.in_unit(unit, before);
    let gains = |at: &ResourceId| after.is_within(unit, at) && !before.is_within(unit, at);
    grants_in_units(within).find_map(|(holder, grant)| {
        grant.unit.as_ref().filter(|at| gains(at))?;
        let given = permissions(&grant.role, Some(within))?;
        Some((holder, given.difference(own).iter().next()?))
    })
}

/// Every grant for a unit, with who holds it.
pub(crate) fn grants_in_units(within: &OrgEntry) -> impl Iterator<Item = (String, Grant)> {
    let users = within.compiled::<User>(UserSpec::KIND).filter_map(|(id, user)| {
        Some((format!("{} `{id}`", UserSpec::KIND), user.ok()?.grants.clone()))
    });
    let keys = within.compiled::<KeyHolder>(ApiKeySpec::KIND).filter_map(|(id, key)| {
        Some((format!("{} `{id}`", ApiKeySpec::KIND), key.ok()?.grants.clone()))
    });
    let issuers = within.compiled::<Issuer>(IssuerSpec::KIND).filter_map(|(id, issuer)| {
        Some((format!("{} `{id}`", IssuerSpec::KIND), issuer.ok()?.all_grants()))
    });
    users.chain(keys).chain(issuers).flat_map(|(holder, grants)| {
        let of_units = grants.into_iter().filter(|grant| grant.unit.is_some());
        of_units.map(move |grant| (holder.clone(), grant))
    })
}

impl GrantPlace {
    /// What is wrong about where a grant is good.
    fn misplaced(
        self,
        grant: &Grant,
        context: &SpecContext<'_>,
    ) -> Option<(&'static str, &'static str, String)> {
        if self == Self::Mapped && (grant.organization.is_some() || grant.unit.is_some()) {
            let field = if grant.unit.is_some() { "/unit" } else { "/organization" };
            let message = "a grant is for the whole organization that a token is for".to_owned();
            return Some((field, "foreign", message));
        }
        if let Some(organization) = &grant.organization {
            if context.org.as_str() != OPERATORS {
                let message = format!("only principals of `{OPERATORS}` have roles elsewhere");
                return Some(("/organization", "foreign", message));
            }
            if organization != EVERYWHERE && OrgId::new(organization).is_err() {
                let message = "use `*`, or the id of an organization".to_owned();
                return Some(("/organization", "unknown", message));
            }
        }
        let unit = grant.unit.as_ref()?;
        let organization = context.within.and_then(|within| within.organization().ok());
        if grant.organization.is_some() {
            let message = "a grant elsewhere is for whole organizations".to_owned();
            return Some(("/unit", "foreign", message));
        }
        let known = organization.is_some_and(|known: _| has_unit(&known, unit));
        (!known).then(|| ("/unit", "unknown", format!("there is no unit `{unit}`")))
    }

    /// A permission that a grant gives and its author does not have.
    fn beyond(
        self,
        grant: &Grant,
        context: &SpecContext<'_>,
        given: PermissionSet,
    ) -> Option<Permission> {
        let authority = context.grantor?;
        let organization = || context.within.and_then(|within| within.organization().ok());
        let own = match (self, &grant.organization, &grant.unit) {
            (Self::Mapped, ..) | (_, Some(_), _) => authority.everywhere,
            (_, None, None) => authority.here,
            (_, None, Some(unit)) => match organization() {
                Some(organization) => authority.in_unit(unit, &organization.units),
                None => authority.here,
            },
        };
        given.difference(own).iter().next()
    }
}

fn has_unit(organization: &Organization, unit: &ResourceId) -> bool {
    organization.units.contains(unit)
}

/// What the role of this name may do: the organization's own, or else the one that is built in.
fn permissions(role: &ResourceId, within: Option<&OrgEntry>) -> Option<PermissionSet> {
    let own = within.and_then(|within| within.resource(RoleSpec::KIND, role));
    match own {
        Some(own) => own.compiled::<Role>().ok().map(|role| role.permissions),
        None => BuiltInRole::of(role.as_str()).map(BuiltInRole::permissions),
    }
}

/// `principal` with what `grants` let it do; a role that is gone lets it do nothing.
///
/// # Errors
///
/// Where a granted organization has no possible id.
pub(crate) fn resolve(
    principal: Principal,
    grants: &[Grant],
    home: &OrgEntry,
) -> Result<Principal> {
    let mut principal = principal.at_home_in(home.org().clone());
    for grant in grants {
        let Some(may) = permissions(&grant.role, Some(home)) else { continue };
        principal = match (grant.organization.as_deref(), &grant.unit) {
            (Some(EVERYWHERE), _) => principal.granted_everywhere(may),
            (Some(org), _) => principal.granted_in(OrgId::new(org)?, may),
            (None, Some(unit)) => principal.granted_in_unit(home.org().clone(), unit.clone(), may),
            (None, None) => principal.granted_in(home.org().clone(), may),
        };
    }
    Ok(principal)
}
