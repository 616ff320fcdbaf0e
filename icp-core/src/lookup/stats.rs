//! What is in a table, in numbers.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LookupSpec;
use super::spec::size;
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::Resources;

/// How many categories are told apart.
const MAX_CATEGORIES: usize = 1_000;

/// What is in a table, in numbers.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LookupStats {
    /// How many entries there are.
    pub entries: usize,
    /// How many of them are found.
    pub active: usize,
    /// How many stand for a unit alone.
    pub of_units: usize,
    /// For how many units there are any.
    pub units: usize,
    /// How many entries have each category; the first 1,000 categories.
    pub categories: BTreeMap<String, usize>,
    /// The bytes of the entries as JSON.
    pub bytes: usize,
}

impl Resources {
    /// What is in a table, in numbers.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`](crate::Code::ResourceNotFound), and those of the store.
    pub async fn lookup_stats(&self, org: &OrgId, id: &ResourceId) -> Result<LookupStats> {
        Ok(self.get_typed::<LookupSpec>(org, id).await?.spec.stats())
    }
}

impl LookupSpec {
    /// What is in the table, in numbers.
    #[must_use]
    pub fn stats(&self) -> LookupStats {
        let mut stats = LookupStats {
            entries: self.entries.len(),
            bytes: size(&self.entries),
            ..LookupStats::default()
        };
        let mut units = BTreeSet::new();
        for entry in &self.entries {
            stats.active += usize::from(entry.active);
            stats.of_units += usize::from(entry.unit.is_some());
            units.extend(&entry.unit);
            let Some(category) = &entry.category else { continue };
            let room = stats.categories.len() < MAX_CATEGORIES;
            if room || stats.categories.contains_key(category) {
                *stats.categories.entry(category.clone()).or_default() += 1;
            }
        }
        stats.units = units.len();
        stats
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_counted_by_what_they_are() {
        let spec = json!({"entries": [
            {"key": "a", "value": 1, "category": "west"},
            {"key": "a", "value": 1, "unit": "eu", "category": "west", "active": false},
            {"key": "b", "value": 1, "unit": "eu"},
        ]});
        let bytes = spec["entries"].to_string().len();
        let spec: LookupSpec = serde_json::from_value(spec).unwrap();
        let stats = spec.stats();
        assert_eq!((stats.entries, stats.active, stats.of_units, stats.units), (3, 2, 2, 1));
        assert_eq!(stats.categories, BTreeMap::from([("west".to_owned(), 2)]));
        assert_eq!(stats.bytes, bytes);
        let many = (0..1_500)
            .map(|n| json!({"key": format!("{n}"), "value": n, "category": format!("c{n}")}));
        let spec = json!({"entries": many.collect::<Vec<_>>()});
        let spec: LookupSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(spec.stats().categories.len(), MAX_CATEGORIES);
    }
}
