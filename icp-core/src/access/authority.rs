//! What an author may let others do.

use super::organization::UnitTree;
use super::permission::{Permission, PermissionSet};
use crate::id::ResourceId;

/// What an author may do, and so the most that it may let others do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Authority {
    /// In the whole organization that it changes something in.
    pub here: PermissionSet,
    /// In units of that organization, each with the units that are part of it.
    pub in_units: Vec<(ResourceId, PermissionSet)>,
    /// In every organization.
    pub everywhere: PermissionSet,
}

impl Authority {
    /// What it may do in `unit`: there, in a unit above it, or in the whole organization.
    #[must_use]
    pub fn in_unit(&self, unit: &ResourceId, tree: &UnitTree) -> PermissionSet {
        let above = self.in_units.iter().filter(|(own, _)| tree.is_within(unit, own));
        above.fold(self.here, |set, (_, may)| set.union(*may))
    }

    /// Whether it has `permission` in the whole organization, or in `unit` where one is named.
    #[must_use]
    pub fn has(
        &self,
        permission: Permission,
        unit: Option<&ResourceId>,
        tree: Option<&UnitTree>,
    ) -> bool {
        match (unit, tree) {
            (Some(unit), Some(tree)) => self.in_unit(unit, tree).has(permission),
            _ => self.here.has(permission),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{BuiltInRole, Unit};

    #[test]
    fn authority_in_a_unit_goes_down_and_not_up() {
        let id = |text: &str| ResourceId::new(text).unwrap();
        let unit = |own: &str, parent: Option<&str>| Unit {
            id: id(own),
            name: None,
            parent: parent.map(id),
        };
        let tree = UnitTree::new(&[
            unit("eu", None),
            unit("de", Some("eu")),
            unit("berlin", Some("de")),
            unit("us", None),
        ]);
        let (look, edit) = (BuiltInRole::OrgUser, BuiltInRole::IntegrationEditor);
        let authority = Authority {
            here: look.permissions(),
            in_units: vec![(id("de"), edit.permissions())],
            everywhere: PermissionSet::NONE,
        };
        let both = look.permissions().union(edit.permissions());
        for (at, wanted) in
            [("eu", look.permissions()), ("de", both), ("berlin", both), ("us", look.permissions())]
        {
            assert_eq!(authority.in_unit(&id(at), &tree), wanted, "{at}");
        }
        let write = "integrations:write".parse::<crate::access::PermissionPattern>().unwrap();
        let write = write.permissions().iter().next().unwrap();
        assert!(authority.has(write, Some(&id("berlin")), Some(&tree)));
        assert!(!authority.has(write, Some(&id("eu")), Some(&tree)));
        assert!(!authority.has(write, None, Some(&tree)));
    }
}
