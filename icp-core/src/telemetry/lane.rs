//! What the lanes of one organization are doing, in the form that metrics have.
//!
//! Lanes are as many as integrations and ordering keys, too many for the metrics of an engine. So
//! they are asked for organization by organization, and only by who wants them.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

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
    text(&gauges.registry())
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

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("icp_lane");
        let r = &mut registry;
        let mut plain = |name: &str, help: &str, family: &Family<Labels, Gauge>| {
            r.register(name, help, family.clone());
        };
        plain("waiting", "Deliveries that wait, due or not", &self.waiting);
        plain("in_flight", "Deliveries under way", &self.in_flight);
        plain("allowed_in_flight", "How many may be under way at once", &self.allowed);
        plain("resting", "1 while nothing is claimed, for whatever reason", &self.resting);
        let mut seconds = |name: &str, help: &str, family: &Family<Labels, Gauge>| {
            r.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        let oldest = "For how long the first waiting delivery has been due";
        seconds("oldest_wait", oldest, &self.oldest_wait);
        let drained = "In how long nothing waits at the present pace; absent where none is known";
        seconds("drained_in", drained, &self.drained_in);
        registry
    }
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
