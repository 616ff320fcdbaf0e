use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryStore;
use crate::analytics::{
    AnalyticsStore, Counted, Counts, FailureCount, Rollup, RollupBatch, RollupBy, RollupKey,
    RollupQuery,
};
use crate::error::Result;
use crate::id::{OrgId, SessionId};
use crate::retention::RollupCutoffs;

/// Sums by hour and day, and which batch of each session was the last.
#[derive(Debug, Default)]
pub(super) struct Rollups {
    rows: BTreeMap<RollupKey, Counted>,
    seen: BTreeMap<SessionId, u64>,
}

impl Rollups {
    pub(super) fn next_org(&self, after: Option<&OrgId>) -> Option<OrgId> {
        let orgs = self.rows.keys().map(|key| &key.org);
        orgs.filter(|org| after.is_none_or(|after| *org > after)).min().cloned()
    }

    /// Removes up to `limit` rows; answers how many.
    pub(super) fn prune(&mut self, org: &OrgId, cutoffs: &RollupCutoffs, limit: usize) -> usize {
        let old = |key: &&RollupKey| key.org == *org && key.begins < cutoffs.before(key.grain);
        let gone: Vec<_> = self.rows.keys().filter(old).take(limit).cloned().collect();
        gone.iter().for_each(|key| {
            self.rows.remove(key);
        });
        gone.len()
    }

    fn matching<'a>(
        &'a self,
        org: &'a OrgId,
        query: &'a RollupQuery,
    ) -> impl Iterator<Item = (&'a RollupKey, &'a Counted)> {
        self.rows.iter().filter(move |(key, _)| {
            key.org == *org
                && key.grain == query.grain
                && (query.since..query.until).contains(&key.begins)
                && query.integration.as_ref().is_none_or(|wanted| *wanted == key.integration)
        })
    }
}

#[async_trait]
impl AnalyticsStore for MemoryStore {
    async fn add_rollups(&self, batch: &RollupBatch) -> Result<()> {
        let rollups = &mut self.lock().rollups;
        let seen = rollups.seen.entry(batch.session).or_default();
        if *seen >= batch.sequence {
            return Ok(());
        }
        *seen = batch.sequence;
        for (key, counted) in batch.rows() {
            rollups.rows.entry(key).or_default().add(&counted);
        }
        Ok(())
    }

    async fn rollups(&self, org: &OrgId, query: &RollupQuery) -> Result<Vec<Rollup>> {
        let state = self.lock();
        let mut sums: BTreeMap<_, Counts> = BTreeMap::new();
        for (key, counted) in state.rollups.matching(org, query) {
            let by = match query.by {
                RollupBy::Time => (Some(key.begins), None),
                RollupBy::Integration => (None, Some(key.integration.clone())),
            };
            sums.entry(by).or_default().add(&counted.counts);
        }
        let rollup = |((begins, integration), counts)| Rollup { begins, integration, counts };
        Ok(sums.into_iter().map(rollup).collect())
    }

    async fn rolled_failures(
        &self,
        org: &OrgId,
        query: &RollupQuery,
        limit: usize,
    ) -> Result<Vec<FailureCount>> {
        let state = self.lock();
        let mut sums: BTreeMap<_, u64> = BTreeMap::new();
        for (key, counted) in state.rollups.matching(org, query) {
            for (class, count) in &counted.failures {
                *sums.entry((&key.integration, class)).or_default() += count;
            }
        }
        let mut found: Vec<_> = sums
            .into_iter()
            .map(|((integration, class), count)| FailureCount {
                integration: integration.clone(),
                class: class.to_string(),
                count,
            })
            .collect();
        found.sort_by_key(|failure| std::cmp::Reverse(failure.count));
        found.truncate(limit);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::Grain;
    use crate::time::Timestamp;

    #[test]
    fn hours_and_days_have_their_own_cutoffs() {
        let at = Timestamp::from_millis;
        let cutoffs = RollupCutoffs { hours: at(7), days: at(3) };
        assert_eq!((cutoffs.before(Grain::Hour), cutoffs.before(Grain::Day)), (at(7), at(3)));
    }
}
