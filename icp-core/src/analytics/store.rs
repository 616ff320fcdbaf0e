use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Counts, Grain};
use crate::error::Result;
use crate::id::{OrgId, ResourceId, SessionId};
use crate::time::Timestamp;

/// Keeps sums of outcomes by organization, integration and hour or day.
///
/// They are statistics: nothing else depends on them. What is too old is removed by
/// [`RetentionStore::prune`](crate::retention::RetentionStore::prune).
#[async_trait]
pub trait AnalyticsStore: Debug + Send + Sync + 'static {
    /// Adds the sums of a node to those of their hours and days.
    ///
    /// A call may be repeated, as each batch counts once: batches of one session come in the order
    /// of their sequences, and one whose sequence is not above the last adds nothing. Where the
    /// store has no transactions, a call that breaks off may have added some of the sums, and its
    /// repetition adds the others.
    async fn add_rollups(&self, batch: &RollupBatch) -> Result<()>;

    /// Sums over hours or days, in the order of what they are told by.
    async fn rollups(&self, org: &OrgId, query: &RollupQuery) -> Result<Vec<Rollup>>;

    /// How attempts failed, the most frequent first, ties by integration and class.
    async fn rolled_failures(
        &self,
        org: &OrgId,
        query: &RollupQuery,
        limit: usize,
    ) -> Result<Vec<FailureCount>>;
}

/// What a node counted for one integration within one hour.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// How outcomes add up.
    pub counts: Counts,
    /// How many attempts failed of each class, as in `status_503`.
    pub failures: BTreeMap<Arc<str>, u64>,
}

impl Counted {
    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (class, count) in &other.failures {
            *self.failures.entry(Arc::clone(class)).or_default() += count;
        }
    }
}

/// What a node counted since its last batch.
#[derive(Clone, Debug)]
pub struct RollupBatch {
    /// Which node, for as long as it runs.
    pub session: SessionId,
    /// From 1, one more for each batch.
    pub sequence: u64,
    /// What was counted, by the hour in which it was.
    pub counted: BTreeMap<(OrgId, ResourceId, Timestamp), Counted>,
    /// The engine's time.
    pub now: Timestamp,
}

impl RollupBatch {
    /// The rows to add to, each once, in one order for all nodes: those of hours, and of the days
    /// that the hours are part of.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<RollupKey, Counted> {
        let mut rows: BTreeMap<RollupKey, Counted> = BTreeMap::new();
        for ((org, integration, at), counted) in &self.counted {
            for grain in Grain::ALL {
                let key = RollupKey {
                    org: org.clone(),
                    grain,
                    begins: grain.floor(*at),
                    integration: integration.clone(),
                };
                rows.entry(key).or_default().add(counted);
            }
        }
        rows
    }
}

/// What a row of sums is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RollupKey {
    /// The organization.
    pub org: OrgId,
    /// Whether it is an hour or a day.
    pub grain: Grain,
    /// When that begins.
    pub begins: Timestamp,
    /// The integration.
    pub integration: ResourceId,
}

/// Which sums to read.
#[derive(Clone, Debug)]
pub struct RollupQuery {
    /// Of hours or of days.
    pub grain: Grain,
    /// Those that begin at or after this.
    pub since: Timestamp,
    /// Those that begin before this.
    pub until: Timestamp,
    /// Only those of this integration.
    pub integration: Option<ResourceId>,
    /// By what they are told apart.
    pub by: RollupBy,
}

/// By what sums are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RollupBy {
    /// By hour or day, over all integrations.
    Time,
    /// By integration, over all hours or days.
    Integration,
}

/// Sums of one hour or day, or of one integration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rollup {
    /// When the hour or day begins, where sums are told by time.
    pub begins: Option<Timestamp>,
    /// The integration, where sums are told by that.
    pub integration: Option<ResourceId>,
    /// The sums.
    pub counts: Counts,
}

/// How often attempts of one integration failed in one way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailureCount {
    /// The integration.
    pub integration: ResourceId,
    /// What went wrong, as in `status_503`.
    pub class: String,
    /// How often.
    pub count: u64,
}
