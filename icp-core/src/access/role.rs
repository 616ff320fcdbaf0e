//! Roles: named sets of permissions, those that are built in and those of an organization.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::grant::STRONGER;
use super::permission::{Area, PermissionPattern, PermissionSet};
use crate::error::Result;
use crate::id::ResourceId;
use crate::resource::{Compiled, Effect, Spec, SpecContext, Violations};
use crate::secret::SecretVisitor;
use crate::transform::PlanSpec;

/// A role that every organization has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BuiltInRole {
    /// Everything; meant for operators, whose grant names the organizations it is good for.
    SuperAdmin,
    /// Everything in its organization but what only operators change.
    Admin,
    /// As [`Admin`](Self::Admin), without audit rows, settings and the erasure of events.
    OrgAdmin,
    /// Builds integrations and looks after them.
    IntegrationEditor,
    /// Looks at what concerns integrations.
    Viewer,
    /// Looks at what is delivered.
    OrgUser,
    /// A program that publishes.
    ApiKey,
}

impl BuiltInRole {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::SuperAdmin,
        Self::Admin,
        Self::OrgAdmin,
        Self::IntegrationEditor,
        Self::Viewer,
        Self::OrgUser,
        Self::ApiKey,
    ];

    /// The name, as grants hold it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super_admin",
            Self::Admin => "admin",
            Self::OrgAdmin => "org_admin",
            Self::IntegrationEditor => "integration_editor",
            Self::Viewer => "viewer",
            Self::OrgUser => "org_user",
            Self::ApiKey => "api_key",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == name)
    }

    /// What it may do.
    #[must_use]
    pub fn permissions(self) -> PermissionSet {
        let (given, withheld): (&[&str], &[&str]) = match self {
            Self::SuperAdmin => (&["*:*"], &[]),
            Self::Admin => (&["*:*"], &["settings:configure"]),
            Self::OrgAdmin => (
                &["*:*"],
                &["settings:configure", "settings:write", "audit_logs:*", "events:delete"],
            ),
            Self::IntegrationEditor => (EDITOR, &[]),
            Self::Viewer => (VIEWER, &[]),
            Self::OrgUser => (
                &[
                    "dashboard:read",
                    "integrations:read",
                    "logs:read",
                    "analytics:read",
                    "system_health:read",
                ],
                &[],
            ),
            Self::ApiKey => (
                &[
                    "integrations:read",
                    "integrations:execute",
                    "events:write",
                    "system_health:read",
                ],
                &[],
            ),
        };
        union(given).difference(union(withheld))
    }
}

const EDITOR: &[&str] = &[
    "integrations:read",
    "integrations:write",
    "integrations:execute",
    "logs:read",
    "logs:execute",
    "logs:export",
    "dlq:read",
    "dlq:execute",
    "scheduled_jobs:read",
    "scheduled_jobs:write",
    "scheduled_jobs:execute",
    "lookup_tables:read",
    "lookup_tables:write",
    "lookup_tables:export",
    "templates:read",
    "templates:write",
    "event_types:read",
    "event_types:write",
    "event_sources:read",
    "event_sources:write",
    "ai:read",
    "ai:write",
    "ai:execute",
    "dashboard:read",
    "events:read",
    "events:write",
    "execution_logs:read",
    "analytics:read",
    "system_health:read",
    "alerts:read",
];

const VIEWER: &[&str] = &[
    "dashboard:read",
    "integrations:read",
    "logs:read",
    "events:read",
    "execution_logs:read",
    "dlq:read",
    "scheduled_jobs:read",
    "lookup_tables:read",
    "templates:read",
    "event_types:read",
    "event_sources:read",
    "analytics:read",
    "system_health:read",
];

fn union(patterns: &[&str]) -> PermissionSet {
    let parsed = patterns.iter().filter_map(|text| text.parse::<PermissionPattern>().ok());
    parsed.fold(PermissionSet::NONE, |set, one| set.union(one.permissions()))
}

/// A role of an organization's own making. One that is called as a built-in role takes its place
/// in this organization.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoleSpec {
    /// What it may do: `area:operation`, either of which may be `*`.
    #[schemars(length(max = 256))]
    pub permissions: Vec<PermissionPattern>,
    /// What it is for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// A role, ready for use.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// What it may do.
    pub permissions: PermissionSet,
}

impl RoleSpec {
    fn union(&self) -> PermissionSet {
        let each = self.permissions.iter().map(PermissionPattern::permissions);
        each.fold(PermissionSet::NONE, PermissionSet::union)
    }
}

impl Spec for RoleSpec {
    const KIND: &'static str = "role";
    const PLURAL: &'static str = "roles";
    const AREA: Area = Area::Roles;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        if context.id.as_str() == BuiltInRole::SuperAdmin.as_str() {
            let message = "`super_admin` is what it is in every organization; use another id";
            violations.add("", "reserved", message);
        }
        for (index, pattern) in self.permissions.iter().enumerate() {
            if let Some(beyond) = context.beyond(pattern.permissions()) {
                let message = format!("you may not give `{beyond}`, which you do not have");
                violations.add(format!("/permissions/{index}"), "not_granted", message);
            }
        }
    }

    /// A role that is called as a built-in one is also what that one is, as it was before and will
    /// be again.
    fn guard(present: Option<&Self>, context: &SpecContext<'_>, violations: &mut Violations) {
        let built_in = BuiltInRole::of(context.id.as_str()).map(BuiltInRole::permissions);
        if let Some(beyond) = built_in.and_then(|may| context.beyond(may)) {
            let message = format!("the built-in role has `{beyond}`, which you do not have");
            violations.add("", STRONGER, message);
        }
        let patterns = present.iter().flat_map(|present| present.permissions.iter().enumerate());
        for (index, pattern) in patterns {
            if let Some(beyond) = context.beyond(pattern.permissions()) {
                let message = format!("has `{beyond}`, which you do not have");
                violations.add(format!("/permissions/{index}"), STRONGER, message);
            }
        }
    }

    fn visit_secrets(&mut self, _: &mut dyn SecretVisitor) -> Result<()> {
        Ok(())
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, _: &SpecContext<'_>) -> Result<Compiled> {
        Ok(Arc::new(Role { permissions: self.union() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(role: BuiltInRole, text: &str) -> bool {
        let wanted = text.parse::<PermissionPattern>().unwrap().permissions();
        wanted.difference(role.permissions()).is_empty()
    }

    #[test]
    fn every_text_of_the_tables_is_a_permission() {
        for text in EDITOR.iter().chain(VIEWER) {
            assert!(text.parse::<PermissionPattern>().is_ok(), "{text}");
        }
    }

    #[test]
    fn each_role_has_what_its_name_says() {
        use BuiltInRole::{
            Admin, ApiKey, IntegrationEditor, OrgAdmin, OrgUser, SuperAdmin, Viewer,
        };
        for (role, has, lacks) in [
            (SuperAdmin, &["*:*"][..], &[][..]),
            (Admin, &["settings:write", "audit_logs:*", "users:*"], &["settings:configure"]),
            (OrgAdmin, &["users:*", "settings:read"], &["audit_logs:read", "events:delete"]),
            (IntegrationEditor, &["integrations:write", "dlq:execute"], &["integrations:delete"]),
            (Viewer, &["logs:read", "dlq:read"], &["users:read", "integrations:write"]),
            (OrgUser, &["integrations:read", "dashboard:read"], &["events:read", "dlq:read"]),
            (ApiKey, &["integrations:execute", "events:write"], &["logs:read", "api_keys:read"]),
        ] {
            assert!(has.iter().all(|text| may(role, text)), "{role:?}");
            assert!(lacks.iter().all(|text| !may(role, text)), "{role:?}");
            assert_eq!(BuiltInRole::of(role.as_str()), Some(role));
        }
        assert_eq!(BuiltInRole::of("root"), None);
    }

    #[test]
    fn roles_grow_from_the_least_to_the_most() {
        use BuiltInRole::{Admin, OrgAdmin, OrgUser, SuperAdmin, Viewer};
        for (less, more) in
            [(OrgUser, Viewer), (Viewer, OrgAdmin), (OrgAdmin, Admin), (Admin, SuperAdmin)]
        {
            assert!(less.permissions().difference(more.permissions()).is_empty());
            assert!(!more.permissions().difference(less.permissions()).is_empty());
        }
    }
}
