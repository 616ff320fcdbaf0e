//! What an engine tells of how deliveries went.

use super::Engine;
use crate::analytics::{
    AnalyticsQuery, Counts, Errors, IntegrationLatency, Latencies, Overview, RollupBy, Series,
    Span, filled,
};
use crate::error::Result;
use crate::id::OrgId;

/// How many groups of errors are told.
const GROUPS: usize = 1_000;

impl Engine {
    /// How the deliveries of an organization went over a stretch of time, in sums.
    ///
    /// What nodes have counted in their last ten seconds is not in it.
    ///
    /// # Errors
    ///
    /// [`Code::QueryInvalid`](crate::Code::QueryInvalid) where the time is too long or goes back
    /// too far, and those of the store.
    pub async fn analytics(&self, org: &OrgId, query: &AnalyticsQuery) -> Result<Overview> {
        let span = Span::of(query, self.now())?;
        let counts = self.summed(org, query, span).await?;
        Ok(Overview {
            since: span.since,
            until: span.until,
            interval: span.grain,
            totals: (&counts).into(),
            latency: (&counts.latency).into(),
        })
    }

    pub(super) async fn summed(
        &self,
        org: &OrgId,
        query: &AnalyticsQuery,
        span: Span,
    ) -> Result<Counts> {
        let asked = span.query(query.integration.clone(), RollupBy::Time);
        let mut counts = Counts::default();
        for rollup in self.core.store.rollups(org, &asked).await? {
            counts.add(&rollup.counts);
        }
        Ok(counts)
    }

    /// The same hour by hour or day by day.
    ///
    /// # Errors
    ///
    /// As [`analytics`](Self::analytics).
    pub async fn analytics_series(&self, org: &OrgId, query: &AnalyticsQuery) -> Result<Series> {
        let span = Span::of(query, self.now())?;
        let asked = span.query(query.integration.clone(), RollupBy::Time);
        Ok(filled(span, self.core.store.rollups(org, &asked).await?))
    }

    /// How attempts failed, the most frequent failures first.
    ///
    /// # Errors
    ///
    /// As [`analytics`](Self::analytics).
    pub async fn analytics_errors(&self, org: &OrgId, query: &AnalyticsQuery) -> Result<Errors> {
        let span = Span::of(query, self.now())?;
        let asked = span.query(query.integration.clone(), RollupBy::Time);
        Ok(Errors::of(span, self.core.store.rolled_failures(org, &asked, GROUPS).await?))
    }

    /// How long attempts took, by integration.
    ///
    /// # Errors
    ///
    /// As [`analytics`](Self::analytics).
    pub async fn analytics_latency(
        &self,
        org: &OrgId,
        query: &AnalyticsQuery,
    ) -> Result<Latencies> {
        let span = Span::of(query, self.now())?;
        let asked = span.query(query.integration.clone(), RollupBy::Integration);
        let rollups = self.core.store.rollups(org, &asked).await?;
        let integrations = rollups.into_iter().filter_map(|rollup| {
            Some(IntegrationLatency {
                integration: rollup.integration?,
                totals: (&rollup.counts).into(),
                latency: (&rollup.counts.latency).into(),
            })
        });
        Ok(Latencies { since: span.since, until: span.until, integrations: integrations.collect() })
    }
}
