//! The units of an organization, one at a time: what its own people may change of it.

use super::{Expect, ORGANIZATION, Resources, Spec};
use crate::access::{MAX_UNITS, OrganizationSpec, Unit, UnitTree, gained, grants_in_units};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::integration::{CompiledIntegration, IntegrationSpec};
use crate::resource::{Actor, OrgEntry, Resource, Revision};
use crate::source::{CompiledSource, SourceSpec};

/// How often a change is made anew because the organization was changed meanwhile.
const MAX_ROUNDS: usize = 5;

/// The longest name of a unit, in characters.
const MAX_NAME: usize = 128;

/// A unit, and the version of its organization that it was read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlacedUnit {
    /// The unit.
    pub unit: Unit,
    /// The revision of the organization, which is also that of each of its units.
    pub revision: Revision,
}

impl Resources {
    /// The units of an organization, ordered by id.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], and those of the store.
    pub async fn units(&self, org: &OrgId) -> Result<Vec<PlacedUnit>> {
        let organization = self.organization(org).await?;
        let revision = organization.revision;
        let placed = |unit| PlacedUnit { unit, revision };
        let mut units: Vec<_> = organization.spec.units.into_iter().map(placed).collect();
        units.sort_by(|a, b| a.unit.id.cmp(&b.unit.id));
        Ok(units)
    }

    /// One unit.
    ///
    /// # Errors
    ///
    /// [`Code::UnitNotFound`], and as [`units`](Self::units).
    pub async fn unit(&self, org: &OrgId, id: &ResourceId) -> Result<PlacedUnit> {
        let units = self.units(org).await?;
        units.into_iter().find(|placed| placed.unit.id == *id).ok_or_else(|| no_unit(id))
    }

    /// Makes a unit, or changes it: its name, and what it is part of. The rest of the organization
    /// stays as it is. What `expect` names is the revision of the organization.
    ///
    /// Whoever has a role in a unit above has it in this one too, so that nobody can move a unit to
    /// where somebody would have more in it than the author has.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] with every field at fault, [`Code::OrganizationUnknown`],
    /// [`Code::RevisionConflict`], and those of the store.
    pub async fn put_unit(
        &self,
        org: &OrgId,
        unit: Unit,
        expect: Expect,
        actor: &Actor,
    ) -> Result<PlacedUnit> {
        let within = self.index.org(org).await?;
        let change = |spec: &mut OrganizationSpec| {
            let before = UnitTree::new(&spec.units);
            match spec.units.iter_mut().find(|known| known.id == unit.id) {
                Some(known) => *known = unit.clone(),
                None => spec.units.push(unit.clone()),
            }
            let after = UnitTree::new(&spec.units);
            check(&unit, &spec.units, &after)?;
            let Some(author) = &actor.may else { return Ok(()) };
            match gained(&within, &unit.id, (&before, &after), author) {
                None => Ok(()),
                Some((holder, gained)) => {
                    let message =
                        format!("the {holder} would have `{gained}` in it, which you do not have");
                    Err(invalid(vec![Violation::new("/parent", "not_granted", message)]))
                }
            }
        };
        let revision = self.change_units(org, ("put_unit", expect), actor, change).await?;
        Ok(PlacedUnit { unit, revision })
    }

    /// Deletes a unit that nothing belongs to: no other unit, no integration, no role of anybody.
    /// Its events stay.
    ///
    /// # Errors
    ///
    /// [`Code::UnitNotFound`], [`Code::UnitInUse`], and as [`put_unit`](Self::put_unit).
    pub async fn remove_unit(
        &self,
        org: &OrgId,
        id: &ResourceId,
        expect: Expect,
        actor: &Actor,
    ) -> Result<()> {
        let within = self.index.org(org).await?;
        let change = |spec: &mut OrganizationSpec| {
            let before = spec.units.len();
            spec.units.retain(|unit| unit.id != *id);
            if spec.units.len() == before {
                return Err(no_unit(id));
            }
            match user(id, &spec.units, &within) {
                None => Ok(()),
                Some(user) => {
                    let message = format!("the unit `{id}` is named by the {user}; change that");
                    Err(Error::new(Code::UnitInUse, message))
                }
            }
        };
        self.change_units(org, ("delete_unit", expect), actor, change).await.map(drop)
    }

    async fn change_units(
        &self,
        org: &OrgId,
        (action, expect): (&str, Expect),
        actor: &Actor,
        change: impl Fn(&mut OrganizationSpec) -> Result<()> + Send + Sync,
    ) -> Result<Revision> {
        self.whole()?;
        let own = ResourceId::new(org.as_str())?;
        let guarded = matches!(expect, Expect::Revision(_));
        let mut rounds = 0;
        loop {
            rounds += 1;
            let edit = |spec: &mut OrganizationSpec, _: &super::Editing<'_>| change(spec);
            match self.amend(org, &own, (action, expect), actor, edit).await {
                Err(error)
                    if error.code() == Code::RevisionConflict
                        && !guarded
                        && rounds < MAX_ROUNDS => {}
                other => return other.map(|(document, ())| document.revision),
            }
        }
    }

    async fn organization(&self, org: &OrgId) -> Result<Resource<OrganizationSpec>> {
        self.whole()?;
        let own = ResourceId::new(org.as_str())?;
        let found = self.store.resource(org, ORGANIZATION, &own).await?;
        let found = found.ok_or_else(|| {
            let message = format!("there is no organization `{org}`; create it first");
            Error::new(Code::OrganizationUnknown, message)
        })?;
        Resource::from_record(&found)
    }
}

/// Refuses a unit that does not fit in with the others.
fn check(unit: &Unit, units: &[Unit], tree: &UnitTree) -> Result<()> {
    let mut found = Vec::new();
    if units.len() > MAX_UNITS {
        found.push(Violation::new("", "too_many", format!("use at most {MAX_UNITS} units")));
    }
    if unit.name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME) {
        let message = format!("use at most {MAX_NAME} characters");
        found.push(Violation::new("/name", "max_length", message));
    }
    if let Some(parent) = &unit.parent {
        if !tree.contains(parent) {
            let message = format!("there is no unit `{parent}`");
            found.push(Violation::new("/parent", "unknown", message));
        } else if tree.is_within(parent, &unit.id) {
            let message = format!("`{}` would be part of itself", unit.id);
            found.push(Violation::new("/parent", "cycle", message));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(invalid(found)) }
}

/// What names the unit, in words.
fn user(id: &ResourceId, units: &[Unit], within: &OrgEntry) -> Option<String> {
    let part = units.iter().find(|unit| unit.parent.as_ref() == Some(id));
    let integration = || {
        let mut all = within.compiled::<CompiledIntegration>(IntegrationSpec::KIND);
        let names = |one: &CompiledIntegration| {
            one.unit.as_ref() == Some(id) || one.excluded_units.contains(id)
        };
        all.find(|(_, one)| one.as_ref().is_ok_and(|one| names(one)))
    };
    let source = || {
        let mut all = within.compiled::<CompiledSource>(SourceSpec::KIND);
        all.find(|(_, one)| one.as_ref().is_ok_and(|one| one.unit.as_ref() == Some(id)))
    };
    let holder = || grants_in_units(within).find(|(_, grant)| grant.unit.as_ref() == Some(id));
    part.map(|unit| format!("unit `{}`", unit.id))
        .or_else(|| integration().map(|(id, _)| format!("{} `{id}`", IntegrationSpec::KIND)))
        .or_else(|| source().map(|(id, _)| format!("{} `{id}`", SourceSpec::KIND)))
        .or_else(|| holder().map(|(holder, _)| holder))
}

fn no_unit(id: &ResourceId) -> Error {
    Error::new(Code::UnitNotFound, format!("the organization has no unit `{id}`"))
}

fn invalid(found: Vec<Violation>) -> Error {
    Error::violations(Code::ResourceInvalid, found)
}
