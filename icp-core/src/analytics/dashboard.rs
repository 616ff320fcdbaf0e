use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Percentiles, Totals};
use crate::delivery::{Delivery, EndReason, LaneState, LaneStatus};
use crate::id::{DeliveryId, EventId, ResourceId};
use crate::time::Timestamp;

/// How an organization is doing, at a glance.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Dashboard {
    /// From when on outcomes are summed up.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// How outcomes add up.
    pub totals: Totals,
    /// The same over the stretch of the same length before.
    pub before: Totals,
    /// How long attempts took.
    pub latency: Percentiles,
    /// What waits, and why.
    pub lanes: LaneFigures,
    /// How many dead letters nobody has given up; at least so many where `more_dead_letters`.
    pub dead_letters: u64,
    /// Whether there are older dead letters that were not counted.
    pub more_dead_letters: bool,
    /// The newest deliveries that became dead letters, up to 10.
    pub recent_failures: Vec<RecentFailure>,
}

/// What waits in the lanes of an organization.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LaneFigures {
    /// How many deliveries wait, those included that are not due.
    pub waiting: u64,
    /// How many are under way.
    pub in_flight: u64,
    /// For how many milliseconds the first of those that wait has been due.
    pub oldest_wait_ms: u64,
    /// Lanes in which something waits or is under way.
    pub busy: u64,
    /// Lanes that a person has brought to rest.
    pub paused: u64,
    /// Lanes whose breaker is not closed.
    pub broken: u64,
    /// Lanes whose rate is used up, or whose receiver asked to wait.
    pub blocked: u64,
    /// Whether there are more lanes than the 1,000 that were looked at.
    pub more: bool,
}

impl LaneFigures {
    pub(crate) fn count(&mut self, status: &LaneStatus) {
        self.waiting += status.waiting;
        self.in_flight += u64::from(status.lane.in_flight);
        let wait = status.oldest_wait.unwrap_or_default().as_millis();
        self.oldest_wait_ms = self.oldest_wait_ms.max(u64::try_from(wait).unwrap_or(u64::MAX));
        self.busy += u64::from(status.waiting > 0 || status.lane.in_flight > 0);
        match status.state {
            LaneState::Paused => self.paused += 1,
            LaneState::Open | LaneState::HalfOpen => self.broken += 1,
            LaneState::Throttled | LaneState::Blocked => self.blocked += 1,
            LaneState::Full | LaneState::Active | LaneState::Waiting | LaneState::Idle => {}
        }
    }
}

/// A delivery that became a dead letter.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RecentFailure {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its event.
    pub event: EventId,
    /// The integration.
    pub integration: ResourceId,
    /// Why it ended.
    pub reason: Option<EndReason>,
    /// When.
    pub at: Timestamp,
}

impl From<Delivery> for RecentFailure {
    fn from(delivery: Delivery) -> Self {
        Self {
            delivery: delivery.id,
            event: delivery.event,
            integration: delivery.integration,
            reason: delivery.reason,
            at: delivery.updated_at,
        }
    }
}
