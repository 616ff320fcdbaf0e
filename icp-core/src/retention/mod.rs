//! How long what happened is kept.

mod store;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use store::{Cutoffs, Prune, Pruned, RetentionStore, RollupCutoffs, What};

use crate::analytics::HOURS_KEPT;
use crate::error::Violation;
use crate::time::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// The longest time an organization can ask for, in days.
const LONGEST: u32 = 3_660;

/// How long each kind of record is kept. Nothing is removed that a delivery which has not ended
/// still needs, whatever these say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Retention {
    /// Events with their bodies, from when they were received. Default 30 days. An event stays
    /// for as long as one of its deliveries or its idempotency key does.
    pub events: Duration,
    /// Deliveries that were delivered, skipped, cancelled or expired, with their attempts, from
    /// their end. Default 30 days.
    pub deliveries: Duration,
    /// Dead letters with their attempts and notes, from their end. Default 90 days.
    pub dead_letters: Duration,
    /// Rows of the audit log, the oldest first. Default for ever, which is [`Duration::MAX`].
    pub audit: Duration,
    /// Versions of resources, from when a newer one took their place. Default 365 days. The
    /// present version stays, also that of a deletion.
    pub history: Duration,
    /// Sums of outcomes by day, for analytics. Default 400 days, or until the organization is
    /// deleted. Hours are told apart for 35 of them.
    pub analytics: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: DAY * 30,
            deliveries: DAY * 30,
            dead_letters: DAY * 90,
            audit: Duration::MAX,
            history: DAY * 365,
            analytics: DAY * 400,
        }
    }
}

impl Retention {
    /// Every setting with its name.
    #[must_use]
    pub const fn fields(&self) -> [(&'static str, Duration); 6] {
        [
            ("events", self.events),
            ("deliveries", self.deliveries),
            ("dead_letters", self.dead_letters),
            ("audit", self.audit),
            ("history", self.history),
            ("analytics", self.analytics),
        ]
    }

    /// How long replays are kept from their end, with which deliveries they made: as long as what
    /// they are about.
    #[must_use]
    pub fn replays(&self) -> Duration {
        self.events.max(self.deliveries)
    }

    /// The moments before which sums of outcomes are removed.
    #[must_use]
    pub fn rollups(&self, now: Timestamp) -> RollupCutoffs {
        let hours = self.analytics.min(HOURS_KEPT);
        RollupCutoffs { hours: now - hours, days: now - self.analytics }
    }

    /// The moments before which records are removed.
    #[must_use]
    pub fn cutoffs(&self, now: Timestamp) -> Cutoffs {
        Cutoffs {
            events: now - self.events,
            deliveries: now - self.deliveries,
            dead_letters: now - self.dead_letters,
        }
    }
}

/// How long an organization's records are kept, where it differs from the engine's setting; each
/// 1 to 3,660 days.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSpec {
    /// Events with their bodies, from when they were received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3660))]
    pub events_days: Option<u32>,
    /// Deliveries that ended but for dead letters, with their attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3660))]
    pub deliveries_days: Option<u32>,
    /// Dead letters with their attempts and notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3660))]
    pub dead_letters_days: Option<u32>,
    /// Rows of the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3660))]
    pub audit_days: Option<u32>,
    /// Versions of resources that a newer one took the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3660))]
    pub history_days: Option<u32>,
    /// Sums of outcomes by day, for analytics.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3660))]
    pub analytics_days: Option<u32>,
}

impl RetentionSpec {
    /// Whether it asks for nothing of its own.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Lists what is wrong, with pointers that begin with a slash.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        let fields = [
            ("events_days", self.events_days),
            ("deliveries_days", self.deliveries_days),
            ("dead_letters_days", self.dead_letters_days),
            ("audit_days", self.audit_days),
            ("history_days", self.history_days),
            ("analytics_days", self.analytics_days),
        ];
        fields
            .into_iter()
            .filter(|(_, days)| days.is_some_and(|days| !(1..=LONGEST).contains(&days)))
            .map(|(field, _)| {
                let message = format!("use 1 to {LONGEST}");
                Violation::new(format!("/{field}"), "out_of_range", message)
            })
            .collect()
    }

    /// What holds, where `default` is the engine's setting.
    #[must_use]
    pub fn over(&self, default: &Retention) -> Retention {
        let pick = |days: Option<u32>, default| days.map_or(default, |days| DAY * days);
        Retention {
            events: pick(self.events_days, default.events),
            deliveries: pick(self.deliveries_days, default.deliveries),
            dead_letters: pick(self.dead_letters_days, default.dead_letters),
            audit: pick(self.audit_days, default.audit),
            history: pick(self.history_days, default.history),
            analytics: pick(self.analytics_days, default.analytics),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organization_overrides_what_it_names() {
        let spec = RetentionSpec { events_days: Some(7), ..RetentionSpec::default() };
        let kept = spec.over(&Retention::default());
        assert_eq!((kept.events, kept.deliveries), (DAY * 7, DAY * 30));
        assert_eq!((kept.dead_letters, kept.audit), (DAY * 90, Duration::MAX));
        let now = Timestamp::EPOCH + DAY * 1_000;
        assert_eq!(kept.cutoffs(now).events, Timestamp::EPOCH + DAY * 993);
    }

    #[test]
    fn days_are_bounded() {
        let spec = RetentionSpec {
            audit_days: Some(0),
            history_days: Some(3_661),
            events_days: Some(3_660),
            ..RetentionSpec::default()
        };
        let found: Vec<_> = spec.validate().into_iter().map(|v| v.pointer).collect();
        assert_eq!(found, ["/audit_days", "/history_days"]);
    }
}
