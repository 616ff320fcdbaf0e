use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Category;
use crate::id::{DeliveryId, ResourceId};
use crate::time::Timestamp;

/// Dead letters of one integration that died of the same.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LetterGroup {
    /// The integration.
    pub integration: ResourceId,
    /// Why they ended, as in `exhausted`, `refused` or `poison`.
    pub code: String,
    /// What went wrong last, as in `status_500`.
    pub class: String,
    /// What kind of error that is.
    pub category: Category,
    /// How many they are.
    pub count: u64,
    /// How many of them were given up.
    pub abandoned: u64,
    /// When the first of them died.
    pub first_at: Timestamp,
    /// When the last of them died.
    pub last_at: Timestamp,
    /// The newest of them, to look at.
    pub sample: DeliveryId,
}

/// Dead letters by error, the largest group first.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LetterGroups {
    /// The groups.
    pub groups: Vec<LetterGroup>,
    /// Whether there are older dead letters that were not counted.
    pub more: bool,
}

/// The dead letters of one integration.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct IntegrationLetters {
    /// The integration.
    pub integration: ResourceId,
    /// How many there are.
    pub count: u64,
    /// How many of them were given up.
    pub abandoned: u64,
    /// How many there are of each category.
    pub categories: BTreeMap<Category, u64>,
    /// When the first of them died.
    pub first_at: Timestamp,
    /// When the last of them died.
    pub last_at: Timestamp,
}

impl LetterGroups {
    /// The same letters by integration, ordered by id.
    #[must_use]
    pub fn by_integration(&self) -> Vec<IntegrationLetters> {
        let mut all: BTreeMap<&ResourceId, IntegrationLetters> = BTreeMap::new();
        for group in &self.groups {
            let one = all.entry(&group.integration).or_insert_with(|| IntegrationLetters {
                integration: group.integration.clone(),
                count: 0,
                abandoned: 0,
                categories: BTreeMap::new(),
                first_at: group.first_at,
                last_at: group.last_at,
            });
            one.count += group.count;
            one.abandoned += group.abandoned;
            *one.categories.entry(group.category).or_default() += group.count;
            one.first_at = one.first_at.min(group.first_at);
            one.last_at = one.last_at.max(group.last_at);
        }
        all.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(integration: &str, class: &str, count: u64, at: i64) -> LetterGroup {
        LetterGroup {
            integration: ResourceId::new(integration).unwrap(),
            code: "exhausted".into(),
            class: class.into(),
            category: Category::of(class),
            count,
            abandoned: 1,
            first_at: Timestamp::from_millis(at),
            last_at: Timestamp::from_millis(at + 5),
            sample: DeliveryId::from_bytes([1; 16]),
        }
    }

    #[test]
    fn groups_add_up_by_integration() {
        let groups = vec![
            group("b", "status_500", 3, 100),
            group("a", "status_500", 2, 50),
            group("b", "status_503", 4, 10),
            group("b", "dns_failed", 1, 200),
        ];
        let summary = LetterGroups { groups, more: false }.by_integration();
        assert_eq!(summary.iter().map(|s| s.integration.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let b = &summary[1];
        assert_eq!((b.count, b.abandoned), (8, 3));
        assert_eq!(b.categories[&Category::ServerError], 7);
        assert_eq!(b.categories[&Category::Network], 1);
        assert_eq!((b.first_at.as_millis(), b.last_at.as_millis()), (10, 205));
    }
}
