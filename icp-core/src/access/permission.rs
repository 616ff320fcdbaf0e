//! What may be done to what: `area:operation`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error, Result};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum $name { $($(#[$word_doc])* $word,)+ }

        impl $name {
            /// Every one, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$word,)+];

            /// The text form.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)+ }
            }

            fn of(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text)
            }
        }
    };
}

words! {
    /// A part of the API that permissions are given for.
    Area {
        /// Figures at a glance.
        Dashboard = "dashboard",
        /// Integrations: their configuration, their signing secrets, tests and dry runs.
        Integrations = "integrations",
        /// Deliveries, attempts and lanes.
        Deliveries = "logs",
        /// Published events.
        Events = "events",
        /// What happened to an event, step by step.
        Traces = "execution_logs",
        /// Dead letters.
        DeadLetters = "dlq",
        /// Scheduled jobs.
        Jobs = "scheduled_jobs",
        /// Lookup tables.
        Lookups = "lookup_tables",
        /// Templates of integrations.
        Templates = "templates",
        /// Users.
        Users = "users",
        /// Assistance by models.
        Ai = "ai",
        /// Settings of that assistance.
        AiConfig = "ai_config",
        /// Figures over time.
        Analytics = "analytics",
        /// The organization itself.
        Settings = "settings",
        /// The state of the process.
        System = "system_health",
        /// Who changed what.
        Audit = "audit_logs",
        /// API keys.
        Keys = "api_keys",
        /// Alerts.
        Alerts = "alerts",
        /// Daily reports.
        Reports = "daily_reports",
        /// The catalogue of event types.
        EventTypes = "event_types",
        /// Roles of the organization's own making.
        Roles = "roles",
        /// Outside issuers of tokens.
        Issuers = "issuers",
        /// Event sources and how far they have been read.
        EventSources = "event_sources",
    }
}

words! {
    /// What is done.
    Operation {
        /// Looks.
        Read = "read",
        /// Makes and changes.
        Write = "write",
        /// Removes.
        Delete = "delete",
        /// Sets work going.
        Execute = "execute",
        /// Changes what only its operator should.
        Configure = "configure",
        /// Takes many out at once.
        Export = "export",
    }
}

/// The right to do one thing in one area, as in `integrations:write`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Permission {
    /// Where.
    pub area: Area,
    /// What.
    pub operation: Operation,
}

impl Permission {
    /// The right to do `operation` in `area`.
    #[must_use]
    pub const fn new(area: Area, operation: Operation) -> Self {
        Self { area, operation }
    }

    const fn bit(self) -> usize {
        self.area as usize * Operation::ALL.len() + self.operation as usize
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.area.as_str(), self.operation.as_str())
    }
}

/// Permissions as people write them: one, or with `*` for every area or every operation.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PermissionPattern {
    area: Option<Area>,
    operation: Option<Operation>,
}

impl PermissionPattern {
    /// The permissions it stands for.
    #[must_use]
    pub fn permissions(&self) -> PermissionSet {
        let areas = Area::ALL.iter().filter(|area| self.area.is_none_or(|own| own == **area));
        areas
            .flat_map(|area| Operation::ALL.iter().map(|operation| (*area, *operation)))
            .filter(|(_, operation)| self.operation.is_none_or(|own| own == *operation))
            .map(|(area, operation)| Permission::new(area, operation))
            .collect()
    }
}

impl FromStr for PermissionPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let message = "a permission has the form `area:operation`, where either may be `*`";
            Error::new(Code::ResourceInvalid, message)
        };
        let (area, operation) = text.split_once(':').ok_or_else(refused)?;
        let area = match area {
            "*" => None,
            name => Some(Area::of(name).ok_or_else(refused)?),
        };
        let operation = match operation {
            "*" => None,
            name => Some(Operation::of(name).ok_or_else(refused)?),
        };
        Ok(Self { area, operation })
    }
}

impl fmt::Display for PermissionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let area = self.area.map_or("*", Area::as_str);
        write!(f, "{area}:{}", self.operation.map_or("*", Operation::as_str))
    }
}

impl Serialize for PermissionPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PermissionPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for PermissionPattern {
    fn schema_name() -> Cow<'static, str> {
        "Permission".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let any = |words: Vec<&str>| words.join("|");
        let areas = any(Area::ALL.iter().map(|area| area.as_str()).collect());
        let operations = any(Operation::ALL.iter().map(|known| known.as_str()).collect());
        json_schema!({
            "type": "string",
            "description": "`area:operation`, either of which may be `*`.",
            "pattern": format!("^(\\*|{areas}):(\\*|{operations})$"),
        })
    }
}

const WORDS: usize = (Area::ALL.len() * Operation::ALL.len()).div_ceil(64);

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct PermissionSet([u64; WORDS]);

impl PermissionSet {
    /// No permission.
    pub const NONE: Self = Self([0; WORDS]);

    /// Every permission.
    #[must_use]
    pub fn all() -> Self {
        PermissionPattern { area: None, operation: None }.permissions()
    }

    /// Whether `permission` is in it.
    #[must_use]
    pub const fn has(&self, permission: Permission) -> bool {
        let bit = permission.bit();
        self.0[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// Adds `permission`.
    pub const fn insert(&mut self, permission: Permission) {
        let bit = permission.bit();
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    /// What is in this and not in `other`.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !other.0[at]))
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// The permissions, by area and operation.
    pub fn iter(&self) -> impl Iterator<Item = Permission> {
        let all = Area::ALL.iter().flat_map(|area| {
            Operation::ALL.iter().map(|operation| Permission::new(*area, *operation))
        });
        all.filter(|permission| self.has(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut set = Self::NONE;
        permissions.into_iter().for_each(|permission| set.insert(permission));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PermissionPattern {
        text.parse().unwrap()
    }

    #[test]
    fn every_permission_has_a_bit_of_its_own() {
        let all: Vec<_> = PermissionSet::all().iter().collect();
        assert_eq!(all.len(), Area::ALL.len() * Operation::ALL.len());
        for permission in &all {
            let one: PermissionSet = [*permission].into_iter().collect();
            assert_eq!(one.iter().collect::<Vec<_>>(), [*permission]);
            assert_eq!(pattern(&permission.to_string()).permissions(), one);
        }
    }

    #[test]
    fn a_star_stands_for_all() {
        assert_eq!(pattern("*:*").permissions(), PermissionSet::all());
        assert_eq!(pattern("users:*").permissions().iter().count(), Operation::ALL.len());
        assert_eq!(pattern("*:read").permissions().iter().count(), Area::ALL.len());
        assert_eq!(pattern("*:read").to_string(), "*:read");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "users", "users:", ":read", "user:read", "users:READ", "a:b:c", "**"] {
            assert!(text.parse::<PermissionPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn sets_are_joined_and_parted() {
        let (users, reads) = (pattern("users:*").permissions(), pattern("*:read").permissions());
        let both = users.intersection(reads);
        assert_eq!(both.iter().map(|one| one.to_string()).collect::<Vec<_>>(), ["users:read"]);
        assert!(both.difference(users).is_empty());
        assert_eq!(users.union(reads).difference(reads).iter().count(), Operation::ALL.len() - 1);
    }
}
