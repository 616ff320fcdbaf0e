//! What the lanes of one organization are doing, in the form that metrics have.
//!
//! Lanes are as many as integrations and ordering keys, too many for the metrics of an engine. So
//! they are asked for organization by organization, and only by who wants them.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::family::{Families, MetricFamily};
use super::text;
use crate::delivery::LaneStatus;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    org: String,
    integration: String,
    lane: String,
}

#[derive(Default)]
struct Gauges {
    waiting: Family<Labels, Gauge>,
    in_flight: Family<Labels, Gauge>,
    allowed: Family<Labels, Gauge>,
    resting: Family<Labels, Gauge>,
    oldest_wait: Family<Labels, Gauge>,
    drained_in: Family<Labels, Gauge>,
}

/// Writes `lanes` as OpenMetrics text.
pub(crate) fn render(lanes: &[LaneStatus]) -> String {
    let gauges = Gauges::default();
    for status in lanes {
        gauges.set(status);
    }
    text(gauges.families().registry())
}

/// What is told of lanes.
pub(super) fn families() -> Vec<MetricFamily> {
    Gauges::default().families().list().to_vec()
}

/// Whether a lane is told of: those of ordering keys are left out while they have nothing to do.
pub(crate) fn is_shown(status: &LaneStatus) -> bool {
    status.lane.order_key.is_none() || status.waiting > 0 || status.lane.in_flight > 0
}

impl Gauges {
    fn set(&self, status: &LaneStatus) {
        let lane = &status.lane;
        let labels = Labels {
            org: lane.org.to_string(),
            integration: lane.integration.to_string(),
            lane: lane.id.to_string(),
        };
        let set = |family: &Family<Labels, Gauge>, value: u64| {
            family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.waiting, status.waiting);
        set(&self.in_flight, lane.in_flight.into());
        set(&self.allowed, lane.allowed().into());
        set(&self.resting, status.rests().into());
        set(&self.oldest_wait, status.oldest_wait.unwrap_or_default().as_secs());
        if let Some(time) = status.drained_in {
            set(&self.drained_in, whole_seconds(time));
        }
    }

    #[cfg(test)]
    fn all(&self) -> [&Family<Labels, Gauge>; 6] {
        let Self { waiting, in_flight, allowed, resting, oldest_wait, drained_in } = self;
        [waiting, in_flight, allowed, resting, oldest_wait, drained_in]
    }

    fn families(&self) -> Families {
        let mut families = Families::new("icp_lane");
        let mut add =
            |name: &str, help: &str, unit: Option<Unit>, family: &Family<Labels, Gauge>| {
                families.gauges(name, help, unit, &["org", "integration", "lane"], family);
            };
        add("waiting", "Deliveries that wait, due or not", None, &self.waiting);
        add("in_flight", "Deliveries under way", None, &self.in_flight);
        add("allowed_in_flight", "How many may be under way at once", None, &self.allowed);
        add("resting", "1 while nothing is claimed, for whatever reason", None, &self.resting);
        let oldest = "For how long the first waiting delivery has been due";
        add("oldest_wait", oldest, Some(Unit::Seconds), &self.oldest_wait);
        let drained = "In how long nothing waits at the present pace; absent where none is known";
        add("drained_in", drained, Some(Unit::Seconds), &self.drained_in);
        families
    }
}

/// Every metric with one sample.
#[cfg(test)]
pub(super) fn rendered() -> String {
    let gauges = Gauges::default();
    let [org, integration, lane] = ["acme", "orders", "1"].map(str::to_owned);
    let labels = Labels { org, integration, lane };
    for family in gauges.all() {
        family.get_or_create(&labels).set(1);
    }
    text(gauges.families().registry())
}

/// A part of a second counts as a whole one: only what is done takes 0 seconds.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_takes_no_time() {
        for (millis, seconds) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
