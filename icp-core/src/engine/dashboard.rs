//! What an engine shows of an organization at a glance.

use std::time::Duration;

use super::{Engine, sight};
use crate::analytics::{AnalyticsQuery, Dashboard, Grain, LaneFigures, RecentFailure, Span};
use crate::delivery::DeliveryQuery;
use crate::error::{Code, Error, Result, Violation};
use crate::id::OrgId;
use crate::store::PageQuery;

/// The longest stretch, so that the one before it is told by hour too: 14 days.
const MOST_HOURS: u32 = 14 * 24;

const LANES: usize = 1_000;
const FAILURES: usize = 10;

impl Engine {
    /// How an organization is doing: the outcomes of its last `hours`, 1 to 336, beside those of
    /// as many before; what waits and why; what failed last.
    ///
    /// # Errors
    ///
    /// [`Code::QueryInvalid`] for another number of hours, and those of the store.
    pub async fn dashboard(&self, org: &OrgId, hours: u32) -> Result<Dashboard> {
        if !(1..=MOST_HOURS).contains(&hours) {
            let message = format!("use 1 to {MOST_HOURS}");
            let violation = Violation::new("/hours", "out_of_range", message);
            return Err(Error::violations(Code::QueryInvalid, vec![violation]));
        }
        let length = Duration::from_secs(3_600) * hours;
        let until = Grain::Hour.ceil(self.now());
        let now = Span { grain: Grain::Hour, since: until - length, until };
        let before = Span { since: now.since - length, until: now.since, ..now };
        let all = AnalyticsQuery::default();
        let counts = self.summed(org, &all, now).await?;
        let earlier = self.summed(org, &all, before).await?;
        let letters = self.letter_groups(org, None).await?;
        let page = PageQuery { after: None, limit: FAILURES };
        let newest = DeliveryQuery { page, ..DeliveryQuery::default() };
        let failures = self.dead_letters(org, &newest).await?.items;
        Ok(Dashboard {
            since: now.since,
            until,
            totals: (&counts).into(),
            before: (&earlier).into(),
            latency: (&counts.latency).into(),
            lanes: self.lane_figures(org).await?,
            dead_letters: letters.groups.iter().map(|group| group.count - group.abandoned).sum(),
            more_dead_letters: letters.more,
            recent_failures: failures.into_iter().map(RecentFailure::from).collect(),
        })
    }

    async fn lane_figures(&self, org: &OrgId) -> Result<LaneFigures> {
        let page = PageQuery { after: None, limit: LANES };
        let lanes = sight::statuses(&self.core, org, page).await?;
        let mut figures = LaneFigures { more: lanes.more, ..LaneFigures::default() };
        lanes.items.iter().for_each(|status| figures.count(status));
        Ok(figures)
    }
}
