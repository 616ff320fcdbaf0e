//! What is configured for a lookup table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Table;
use crate::access::Area;
use crate::document::Path;
use crate::error::{Code, Error, Result, Violation};
use crate::id::ResourceId;
use crate::resource::{Compiled, Effect, Entry, OrgEntry, Spec, SpecContext, Violations};
use crate::secret::SecretVisitor;
use crate::transform::PlanSpec;

/// The most fields by which a table is searched in reverse.
pub const MAX_REVERSE: usize = 8;

const MAX_KEY: usize = 512;
const MAX_CATEGORY: usize = 64;

/// A table of values by key.
///
/// ```
/// use icp_core::lookup::LookupSpec;
///
/// let spec: LookupSpec = serde_json::from_str(
///     r#"{
///         "entries": [
///             { "key": "DE", "value": { "name": "Germany", "dial": 49 } },
///             { "key": "FR", "value": { "name": "France", "dial": 33 } }
///         ],
///         "reverse": ["dial"],
///         "on_missing": "keep"
///     }"#,
/// )
/// .unwrap();
/// assert_eq!(spec.entries.len(), 2);
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookupSpec {
    /// The entries. A unit has each key once, and so has the organization itself. As many as
    /// [`LookupLimits`] say.
    #[schemars(length(max = 100_000))]
    pub entries: Vec<LookupEntry>,
    /// Paths in the values by which entries are found in reverse, `@` for the whole value; up to
    /// 8. Only text, numbers and truth values are found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub reverse: Vec<String>,
    /// What a key that has no entry stands for, where the rule that looks it up does not say.
    /// Default `error`.
    pub on_missing: Missing,
}

/// One entry of a table.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LookupEntry {
    /// What is looked up, 1 to 512 bytes. Case matters.
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
    /// What it stands for.
    pub value: Value,
    /// The unit for whose events it stands, and for those of units below; none for the whole
    /// organization. The nearest unit that has the key wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ResourceId>,
    /// A word to sort entries by, for people; 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub category: Option<String>,
    /// Whether it is found. Default `true`.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub active: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_true(active: &bool) -> bool {
    *active
}

/// What a key stands for that has no entry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nothing: the transformation fails.
    #[default]
    Error,
    /// Itself.
    Keep,
    /// This value.
    Default(Value),
}

/// How large the tables of an engine's organizations may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LookupLimits {
    /// The most entries of a table, 1 to 100,000. Default 10,000.
    pub entries: usize,
    /// The largest table, in bytes of its entries as JSON, up to 8 MiB. Default 1 MiB.
    pub bytes: usize,
    /// The most tables of an organization, 1 to 10,000. Default 200. What several nodes make at
    /// the same moment may go beyond.
    pub tables: usize,
    /// The bytes that all tables of an organization may have together, up to 1 GiB. Default
    /// 16 MiB. As with `tables`, it is what this node knows of that counts.
    pub all_bytes: usize,
}

impl Default for LookupLimits {
    fn default() -> Self {
        Self { entries: 10_000, bytes: 1 << 20, tables: 200, all_bytes: 16 << 20 }
    }
}

impl LookupLimits {
    /// The most that can be set.
    pub const MAX: Self =
        Self { entries: 100_000, bytes: 8 << 20, tables: 10_000, all_bytes: 1 << 30 };

    /// What is wrong with `spec` beside the other tables of its organization. A table that is there
    /// may be replaced by one that is not larger, whatever the limits were then.
    fn check_beside(
        self,
        spec: &LookupSpec,
        id: &ResourceId,
        within: &OrgEntry,
    ) -> Option<Violation> {
        let bytes = |entry: &Entry| entry.compiled::<Table>().map_or(0, |table| table.bytes());
        let tables = || within.resources(LookupSpec::KIND);
        let present = within.resource(LookupSpec::KIND, id);
        if present.is_none() && tables().count() >= self.tables {
            let message = format!(
                "the organization has {} lookup tables already; delete one first",
                self.tables
            );
            return Some(Violation::new("", "too_many", message));
        }
        let own = size(&spec.entries);
        let others = tables().filter(|(other, _)| *other != id);
        let all = others.map(|(_, entry)| bytes(entry)).sum::<usize>().saturating_add(own);
        let grows = present.is_none_or(|entry| own > bytes(entry));
        (grows && all > self.all_bytes).then(|| {
            let message = format!(
                "the tables of the organization would have {all} bytes together; use at most {}",
                self.all_bytes
            );
            Violation::new("/entries", "too_large", message)
        })
    }

    /// What is wrong with `entries` as a whole.
    pub(super) fn check(self, entries: &[LookupEntry]) -> Option<Violation> {
        if entries.len() > self.entries {
            let message =
                format!("{} entries are given; use at most {}", entries.len(), self.entries);
            return Some(Violation::new("/entries", "too_many", message));
        }
        let bytes = size(entries);
        (bytes > self.bytes).then(|| {
            let message = format!("the entries have {bytes} bytes; use at most {}", self.bytes);
            Violation::new("/entries", "too_large", message)
        })
    }
}

/// The bytes of `entries` as JSON.
pub(super) fn size(entries: &[LookupEntry]) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Keys are text and counting does not fail, so all of it has a JSON form.
    let _ = serde_json::to_writer(&mut count, entries);
    count.0
}

impl LookupEntry {
    /// What is wrong with the entry by itself, with pointers that begin at it.
    pub(super) fn violations(&self) -> impl Iterator<Item = Violation> {
        let key = (!(1..=MAX_KEY).contains(&self.key.len()))
            .then(|| Violation::new("/key", "out_of_range", format!("use 1 to {MAX_KEY} bytes")));
        // An empty one could not be told from none in CSV.
        let fits = |name: &String| (1..=MAX_CATEGORY).contains(&name.chars().count());
        let category = self.category.as_ref().filter(|name| !fits(name)).map(|_| {
            let message = format!("use 1 to {MAX_CATEGORY} characters, or leave it out");
            Violation::new("/category", "out_of_range", message)
        });
        key.into_iter().chain(category)
    }

    /// What an entry is known by.
    pub(super) fn place(&self) -> (Option<&ResourceId>, &str) {
        (self.unit.as_ref(), &self.key)
    }
}

impl Spec for LookupSpec {
    const KIND: &'static str = "lookup";
    const PLURAL: &'static str = "lookups";
    const AREA: Area = Area::Lookups;
    // Tables are bounded together.
    const ASKS_ORGANIZATION: bool = true;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        match context.services.lookups.check(&self.entries) {
            Some(violation) => violations.extend("", [violation]),
            None => self.validate_entries(violations),
        }
        if let Some(within) = context.within {
            let found = context.services.lookups.check_beside(self, context.id, within);
            violations.extend("", found);
        }
        if self.reverse.len() > MAX_REVERSE {
            violations.add("/reverse", "too_many", format!("use at most {MAX_REVERSE} paths"));
        }
        for (index, text) in self.reverse.iter().enumerate() {
            if let Err(error) = Path::parse(text) {
                violations.add(format!("/reverse/{index}"), "path_malformed", error.to_string());
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
        Ok(Arc::new(self.table()?))
    }
}

impl LookupSpec {
    pub(super) fn table(&self) -> Result<Table> {
        let malformed = |error| {
            let message = "a path in `reverse` cannot be read; correct the table";
            Error::new(Code::ResourceInvalid, message).caused_by(error)
        };
        let paths = self.reverse.iter().map(|text| Path::parse(text).map_err(malformed));
        Ok(Table::new(self, paths.collect::<Result<_>>()?))
    }

    fn validate_entries(&self, violations: &mut Violations) {
        let mut seen = HashMap::with_capacity(self.entries.len());
        for (index, entry) in self.entries.iter().enumerate() {
            violations.extend(&format!("/entries/{index}"), entry.violations());
            match seen.entry(entry.place()) {
                hash_map::Entry::Occupied(first) => {
                    let message = format!("is the key of entry {} too; use each once", first.get());
                    violations.add(format!("/entries/{index}/key"), "duplicate", message);
                }
                hash_map::Entry::Vacant(place) => drop(place.insert(index)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::OrgId;
    use crate::integration::Connectors;
    use crate::resource::fixture;

    fn found(spec: Value, limits: LookupLimits) -> Vec<(String, String)> {
        let spec: LookupSpec = serde_json::from_value(spec).unwrap();
        let (org, id) = (OrgId::new("acme").unwrap(), ResourceId::new("t").unwrap());
        let mut services = fixture::services(Connectors::new());
        services.lookups = limits;
        let context = SpecContext {
            org: &org,
            kind: "lookup",
            id: &id,
            name: None,
            services: &services,
            within: None,
            grantor: None,
        };
        let mut violations = Violations::default();
        spec.validate(&context, &mut violations);
        violations.as_slice().iter().map(|v| (v.pointer.clone(), v.code.clone())).collect()
    }

    #[test]
    fn every_broken_rule_is_found() {
        let entry = |key: &str, unit: Option<&str>| json!({"key": key, "value": 1, "unit": unit});
        let long = "k".repeat(MAX_KEY + 1);
        for (spec, expected) in [
            (json!({}), vec![]),
            (json!({"entries": [entry("a", None), entry("a", Some("eu"))]}), vec![]),
            (json!({"entries": [entry("a", None), entry("A", None)]}), vec![]),
            (
                json!({"entries": [entry("a", None), entry("b", None), entry("a", None)]}),
                vec![("/entries/2/key", "duplicate")],
            ),
            (
                json!({"entries": [
                    entry("a", Some("eu")), {"key": "a", "value": null, "unit": "eu", "active": false},
                ]}),
                vec![("/entries/1/key", "duplicate")],
            ),
            (json!({"entries": [entry("", None)]}), vec![("/entries/0/key", "out_of_range")]),
            (json!({"entries": [entry(&long, None)]}), vec![("/entries/0/key", "out_of_range")]),
            (
                json!({"entries": [{"key": "a", "value": 1, "category": "é".repeat(65)}]}),
                vec![("/entries/0/category", "out_of_range")],
            ),
            (
                json!({"entries": [{"key": "a", "value": 1, "category": ""}]}),
                vec![("/entries/0/category", "out_of_range")],
            ),
            (json!({"reverse": ["@", "a..b"]}), vec![("/reverse/1", "path_malformed")]),
            (json!({"reverse": vec!["a"; 9]}), vec![("/reverse", "too_many")]),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(at, code): (&str, &str)| (at.to_owned(), code.to_owned()))
                .collect();
            assert_eq!(found(spec.clone(), LookupLimits::default()), expected, "{spec}");
        }
    }

    #[test]
    fn limits_are_exact() {
        let entries = json!([{"key": "a", "value": "é"}, {"key": "b", "value": {"c": [1]}}]);
        let bytes = entries.to_string().len();
        let spec = json!({"entries": entries});
        assert!(
            found(spec.clone(), LookupLimits { entries: 2, bytes, ..LookupLimits::default() })
                .is_empty()
        );
        for (entries, bytes, code) in [(1, bytes, "too_many"), (2, bytes - 1, "too_large")] {
            let limits = LookupLimits { entries, bytes, ..LookupLimits::default() };
            assert_eq!(found(spec.clone(), limits), [("/entries".to_owned(), code.to_owned())]);
        }
    }

    #[test]
    fn a_missing_value_is_told_from_null() {
        let read = |text| serde_json::from_str::<LookupSpec>(text);
        assert!(read(r#"{"entries": [{"key": "a", "value": null}]}"#).is_ok());
        assert!(read(r#"{"entries": [{"key": "a"}]}"#).is_err());
        assert_eq!(
            read(r#"{"on_missing": {"default": null}}"#).unwrap().on_missing,
            Missing::Default(Value::Null)
        );
        assert_eq!(read(r#"{"on_missing": "keep"}"#).unwrap().on_missing, Missing::Keep);
    }
}
