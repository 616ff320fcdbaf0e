//! Organizations and their units: the tenants of a host.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::grant::OPERATORS;
use super::permission::Area;
use crate::egress::{AddressPolicy, PolicySpec};
use crate::error::Result;
use crate::id::ResourceId;
use crate::resource::{Compiled, Effect, Spec, SpecContext, Violations};
use crate::retention::RetentionSpec;
use crate::secret::SecretVisitor;
use crate::transform::PlanSpec;

/// The most units of an organization.
pub const MAX_UNITS: usize = 10_000;

/// What is configured for an organization.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrganizationSpec {
    /// Whether it takes events. Default `active`.
    pub status: OrganizationStatus,
    /// Its share of the deliveries when organizations compete, 1 to 100. Default 1.
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
    /// Its units: a forest of at most 10,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
    /// Where it may send to.
    pub egress: PolicySpec,
    /// Whether its programs may send HTTP requests of their own, within `egress`. Default
    /// `false`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub program_http: bool,
    /// How long its records are kept, where that differs from the engine's setting.
    #[serde(skip_serializing_if = "RetentionSpec::is_default")]
    pub retention: RetentionSpec,
}

impl Default for OrganizationSpec {
    fn default() -> Self {
        Self {
            status: OrganizationStatus::Active,
            weight: 1,
            units: Vec::new(),
            egress: PolicySpec::default(),
            program_http: false,
            retention: RetentionSpec::default(),
        }
    }
}

/// Whether an organization takes events.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationStatus {
    /// It does.
    Active,
    /// It does not; what was accepted before is still delivered.
    Suspended,
}

/// A part of an organization.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Its id, unique in the organization.
    pub id: ResourceId,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    /// The unit it is part of; none for a unit directly below the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ResourceId>,
}

impl Spec for OrganizationSpec {
    const KIND: &'static str = "organization";
    const PLURAL: &'static str = "organizations";
    const AREA: Area = Area::Settings;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        if context.org.as_str() == OPERATORS && self.status == OrganizationStatus::Suspended {
            let message = "the operators' own organization stays active: nobody could undo it";
            violations.add("/status", "operators", message);
        }
        if !(1..=100).contains(&self.weight) {
            violations.add("/weight", "out_of_range", "use 1 to 100");
        }
        if self.units.len() > MAX_UNITS {
            violations.add("/units", "too_many", format!("use at most {MAX_UNITS} units"));
        } else {
            self.validate_units(violations);
        }
        violations.extend("/egress", self.egress.validate());
        violations.extend("/retention", self.retention.validate());
    }

    fn visit_secrets(&mut self, _: &mut dyn SecretVisitor) -> Result<()> {
        Ok(())
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        vec![Effect::Weight { weight: self.weight }]
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, _: &SpecContext<'_>) -> Result<Compiled> {
        Ok(Arc::new(Organization {
            active: self.status == OrganizationStatus::Active,
            weight: self.weight,
            units: UnitTree::new(&self.units),
            policy: Arc::new(self.egress.policy()?),
            program_http: self.program_http,
            retention: self.retention.clone(),
        }))
    }
}

impl OrganizationSpec {
    fn validate_units(&self, violations: &mut Violations) {
        let mut seen = HashSet::new();
        for (index, unit) in self.units.iter().enumerate() {
            if !seen.insert(&unit.id) {
                let message = format!("the unit `{}` is there twice", unit.id);
                violations.add(format!("/units/{index}/id"), "duplicate", message);
            }
        }
        let circular = UnitTree::new(&self.units).circular();
        for (index, unit) in self.units.iter().enumerate() {
            let Some(parent) = &unit.parent else { continue };
            let pointer = format!("/units/{index}/parent");
            if !seen.contains(parent) {
                violations.add(pointer, "unknown", format!("there is no unit `{parent}`"));
            } else if circular.contains(&unit.id) {
                violations.add(pointer, "cycle", format!("`{}` would be part of itself", unit.id));
            }
        }
    }
}

/// An organization, ready for use.
#[derive(Debug)]
pub struct Organization {
    /// Whether it takes events.
    pub active: bool,
    /// Its share.
    pub weight: u32,
    /// Its units.
    pub units: UnitTree,
    /// Where it may send to.
    pub policy: Arc<AddressPolicy>,
    /// Whether its programs may send requests.
    pub program_http: bool,
    /// How long its records are kept.
    pub retention: RetentionSpec,
}

/// Which unit is part of which.
#[derive(Clone, Debug, Default)]
pub struct UnitTree(HashMap<ResourceId, Option<ResourceId>>);

impl UnitTree {
    /// The tree of `units`.
    #[must_use]
    pub fn new(units: &[Unit]) -> Self {
        Self(units.iter().map(|unit| (unit.id.clone(), unit.parent.clone())).collect())
    }

    /// Whether the organization has this unit.
    #[must_use]
    pub fn contains(&self, unit: &ResourceId) -> bool {
        self.0.contains_key(unit)
    }

    /// Whether `unit` is `ancestor` or a part of it.
    #[must_use]
    pub fn is_within(&self, unit: &ResourceId, ancestor: &ResourceId) -> bool {
        self.ancestors(unit).any(|above| above == ancestor)
    }

    /// Every unit that is above itself. Each unit is visited once, however deep the tree is.
    fn circular(&self) -> HashSet<ResourceId> {
        let mut circular = HashSet::new();
        let mut visited = HashSet::new();
        for start in self.0.keys() {
            let mut walk = Vec::new();
            let mut at = Some(start);
            while let Some(unit) = at.filter(|unit| visited.insert(*unit)) {
                walk.push(unit);
                at = self.0.get(unit).and_then(Option::as_ref);
            }
            // The walk ended at a unit visited before: on this walk, or on an earlier one.
            let met = at.and_then(|unit| walk.iter().position(|walked| *walked == unit));
            if let Some(met) = met {
                circular.extend(walk[met..].iter().map(|unit| (*unit).clone()));
            }
        }
        circular
    }

    /// `unit`, its parent, and so on; ends where a cycle would begin again.
    pub(crate) fn ancestors<'a>(
        &'a self,
        unit: &'a ResourceId,
    ) -> impl Iterator<Item = &'a ResourceId> {
        std::iter::successors(Some(unit), |unit| self.0.get(*unit)?.as_ref()).take(self.0.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, parent: Option<&str>) -> Unit {
        Unit {
            id: ResourceId::new(id).unwrap(),
            name: None,
            parent: parent.map(|p| ResourceId::new(p).unwrap()),
        }
    }

    fn found(units: Vec<Unit>) -> Vec<(String, String)> {
        let mut violations = Violations::at("");
        OrganizationSpec { units, ..OrganizationSpec::default() }.validate_units(&mut violations);
        violations.as_slice().iter().map(|v| (v.pointer.clone(), v.code.clone())).collect()
    }

    #[test]
    fn units_form_a_forest() {
        assert!(found(vec![unit("eu", None), unit("de", Some("eu")), unit("us", None)]).is_empty());
        let case = |units, pointer: &str, code: &str| {
            assert!(found(units).contains(&(pointer.to_owned(), code.to_owned())), "{pointer}");
        };
        case(vec![unit("a", None), unit("a", None)], "/units/1/id", "duplicate");
        case(vec![unit("a", Some("b"))], "/units/0/parent", "unknown");
        case(vec![unit("a", Some("a"))], "/units/0/parent", "cycle");
        case(vec![unit("a", Some("b")), unit("b", Some("a"))], "/units/1/parent", "cycle");
        let leads_into_a_cycle =
            vec![unit("a", Some("b")), unit("b", Some("c")), unit("c", Some("b"))];
        let cycles = [("/units/1/parent", "cycle"), ("/units/2/parent", "cycle")];
        assert_eq!(found(leads_into_a_cycle), cycles.map(|(at, code)| (at.into(), code.into())));
    }

    #[test]
    fn the_deepest_forest_is_checked_in_one_pass() {
        let name = |n: usize| format!("u{n}");
        let mut units: Vec<_> =
            (1..MAX_UNITS).map(|n| unit(&name(n), Some(&name(n - 1)))).collect();
        units.push(unit("u0", None));
        assert!(found(units.clone()).is_empty());
        units.pop();
        units.push(unit("u0", Some(&name(MAX_UNITS - 1))));
        assert_eq!(found(units).len(), MAX_UNITS);
    }

    #[test]
    fn each_part_is_checked_even_where_another_is_wrong() {
        use crate::integration::Connectors;
        let org = crate::id::OrgId::new("acme").unwrap();
        let id = ResourceId::new("acme").unwrap();
        let services = crate::resource::fixture::services(Connectors::new());
        let services = &services;
        let context = SpecContext {
            org: &org,
            kind: "organization",
            id: &id,
            name: None,
            services,
            within: None,
            grantor: None,
        };
        let spec = OrganizationSpec {
            weight: 0,
            units: vec![unit("a", None); MAX_UNITS + 1],
            egress: PolicySpec { ports: vec![0], ..PolicySpec::default() },
            ..OrganizationSpec::default()
        };
        let mut violations = Violations::at("/spec");
        spec.validate(&context, &mut violations);
        let pointers: Vec<_> = violations.as_slice().iter().map(|v| v.pointer.as_str()).collect();
        assert_eq!(pointers, ["/spec/weight", "/spec/units", "/spec/egress/ports/0"]);
    }

    #[test]
    fn membership_goes_up_the_tree() {
        let tree = UnitTree::new(&[unit("eu", None), unit("de", Some("eu")), unit("us", None)]);
        let id = |text: &str| ResourceId::new(text).unwrap();
        assert!(tree.is_within(&id("de"), &id("eu")));
        assert!(tree.is_within(&id("eu"), &id("eu")));
        assert!(!tree.is_within(&id("eu"), &id("de")));
        assert!(!tree.is_within(&id("us"), &id("eu")));
    }
}
