//! How far somebody reaches in an organization.

use std::sync::Arc;

use super::organization::{Organization, UnitTree};
use crate::id::ResourceId;

/// How far somebody reaches in an organization: all of it, which is the default, or some of its
/// units, each with the units that are part of it.
#[derive(Clone, Debug, Default)]
pub struct Reach(Option<Arc<Part>>);

#[derive(Debug)]
struct Part {
    units: Vec<ResourceId>,
    organization: Arc<Organization>,
}

impl Reach {
    /// All of an organization.
    pub const WHOLE: Self = Self(None);

    /// These units of an organization, each with the units that are part of it.
    #[must_use]
    pub fn of(units: Vec<ResourceId>, organization: Arc<Organization>) -> Self {
        Self(Some(Arc::new(Part { units, organization })))
    }

    /// Whether it is all of an organization.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    /// Whether what belongs to `unit` is within it; what belongs to no unit is everybody's in the
    /// organization, and so within the whole of it only.
    #[must_use]
    pub fn covers(&self, unit: Option<&ResourceId>) -> bool {
        let (Some(part), Some(unit)) = (&self.0, unit) else { return self.is_whole() };
        part.units.iter().any(|own| part.organization.units.is_within(unit, own))
    }

    /// The units of the organization, where it is not all of it.
    pub(crate) fn tree(&self) -> Option<&UnitTree> {
        self.0.as_ref().map(|part| &part.organization.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{OrganizationSpec, Unit};
    use crate::resource::{Spec, SpecContext};

    fn organization(units: Vec<Unit>) -> Arc<Organization> {
        let services = crate::resource::fixture::services(crate::integration::Connectors::new());
        let (org, id) = (crate::id::OrgId::new("acme").unwrap(), ResourceId::new("acme").unwrap());
        let context = SpecContext {
            org: &org,
            kind: OrganizationSpec::KIND,
            id: &id,
            name: None,
            services: &services,
            within: None,
            grantor: None,
        };
        let spec = OrganizationSpec { units, ..OrganizationSpec::default() };
        spec.compile(&context).unwrap().downcast().unwrap()
    }

    #[test]
    fn a_unit_reaches_down_and_never_to_what_is_everybodys() {
        let id = |text: &str| ResourceId::new(text).unwrap();
        let unit = |own: &str, parent: Option<&str>| Unit {
            id: id(own),
            name: None,
            parent: parent.map(id),
        };
        let organization =
            organization(vec![unit("eu", None), unit("de", Some("eu")), unit("us", None)]);
        let reach = Reach::of(vec![id("eu")], organization);
        for (at, covered) in
            [(None, false), (Some("eu"), true), (Some("de"), true), (Some("us"), false)]
        {
            assert_eq!(reach.covers(at.map(id).as_ref()), covered, "{at:?}");
            assert!(Reach::WHOLE.covers(at.map(id).as_ref()));
        }
        assert!(!reach.covers(Some(&id("gone"))));
    }
}
