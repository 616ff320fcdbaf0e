//! The health of a lane: what its attempts say of the receiver, and what follows from it.
//!
//! Everything here is a pure function of small values. A store keeps a lane's [`LaneRules`] and
//! [`LaneHealth`], and an integration's [`Meter`], and asks these functions within the writes it
//! makes anyway; all nodes and all stores so come to the same end.

mod adaptive;
mod breaker;
mod limit;
mod pace;

use serde::{Deserialize, Serialize};

pub use adaptive::Narrowed;
pub use breaker::{Breaker, BreakerSpec, BreakerState};
pub use limit::{Meter, RateLimit, RateStatus};
pub use pace::Pace;

use super::{Attempt, AttemptOutcome, Lane, LaneMode};
use crate::time::Timestamp;

/// How a lane treats its receiver; a copy of what its integration says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LaneRules {
    /// When to stop asking a receiver that fails.
    pub breaker: BreakerSpec,
    /// Whether fewer deliveries go side by side while the receiver is overloaded.
    pub adaptive: bool,
    /// How many requests the receiver takes.
    pub rate_limit: Option<RateLimit>,
}

impl Default for LaneRules {
    fn default() -> Self {
        Self { breaker: BreakerSpec::default(), adaptive: true, rate_limit: None }
    }
}

impl LaneRules {
    /// Nothing is held back.
    #[must_use]
    pub fn off() -> Self {
        let breaker = BreakerSpec { enabled: false, ..BreakerSpec::default() };
        Self { breaker, adaptive: false, rate_limit: None }
    }
}

/// What an attempt says of its receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It took the delivery.
    Delivered,
    /// It answered and refused: nothing is wrong with the receiver as a whole.
    Refused,
    /// It failed.
    Failed,
    /// It failed for want of strength: by a timeout, 429 or 503.
    Overloaded,
}

impl Verdict {
    /// What the attempt says; nothing where no request was made, as when a transformation failed
    /// or took all the time there was, or an address was denied.
    ///
    /// Answers from 500 on, 429, and whatever brought no answer count as failures; every other
    /// answer shows that the receiver is there.
    #[must_use]
    pub fn of(attempt: &Attempt) -> Option<Self> {
        let class = match &attempt.outcome {
            AttemptOutcome::Delivered => return Some(Self::Delivered),
            AttemptOutcome::Skipped => return None,
            AttemptOutcome::Failed(class) => class.as_str(),
        };
        if class.starts_with("timeout") && !is_untimed(attempt) {
            return Some(Self::Overloaded);
        }
        match attempt.status {
            Some(429 | 503) => Some(Self::Overloaded),
            Some(500..) => Some(Self::Failed),
            Some(_) => Some(Self::Refused),
            None if is_unsent(attempt, class) => None,
            None => Some(Self::Failed),
        }
    }

    /// Whether it counts against the receiver.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Overloaded)
    }
}

/// Whether the failure lies on this side: nothing reached the receiver.
fn is_unsent(attempt: &Attempt, class: &str) -> bool {
    is_untimed(attempt) || matches!(class, "url_invalid" | "address_denied" | "overloaded")
}

fn is_untimed(attempt: &Attempt) -> bool {
    attempt.exchange.is_none() && attempt.timings.total == 0
}

/// What is remembered of a lane's receiver. The default, which is nothing, means that it is well;
/// stores keep only what differs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LaneHealth {
    /// The breaker.
    #[serde(skip_serializing_if = "Breaker::is_untouched")]
    pub breaker: Breaker,
    /// To how many deliveries at once the lane is narrowed; `None` where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<Narrowed>,
}

impl LaneHealth {
    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_well(&self) -> bool {
        *self == Self::default()
    }
}

impl Lane {
    /// How many of its deliveries may be leased at once as things are: one while its breaker is
    /// not closed, which is the probe once its block is over.
    #[must_use]
    pub fn allowed(&self) -> u32 {
        if self.mode == LaneMode::Fifo || self.health.breaker.is_open() {
            return 1;
        }
        let narrowed = self.health.narrowed.map_or(self.max_in_flight, |narrowed| narrowed.limit);
        narrowed.min(self.max_in_flight)
    }

    /// How many more of its deliveries may be leased.
    #[must_use]
    pub fn room(&self) -> u32 {
        self.allowed().saturating_sub(self.in_flight)
    }

    /// Whether `attempt` changes what is remembered of a lane that is well. Where no attempt of
    /// a batch does, a store need not look at the health of a lane that has none.
    #[must_use]
    pub fn is_troubled_by(attempt: &Attempt) -> bool {
        Verdict::of(attempt).is_some_and(Verdict::is_failure)
    }

    /// Takes in what an attempt says of the receiver; a breaker that opens blocks the lane.
    ///
    /// Every store judges by this function, in the write that settles the attempt.
    pub fn observe(&mut self, attempt: &Attempt, now: Timestamp) {
        let Some(verdict) = Verdict::of(attempt) else { return };
        let started = attempt.started_at;
        let rules = self.rules;
        if rules.adaptive && self.mode == LaneMode::Parallel {
            let ceiling = self.max_in_flight;
            self.health.narrowed =
                Narrowed::after(self.health.narrowed, ceiling, verdict, started, now);
        } else {
            self.health.narrowed = None;
        }
        let before = self.health.breaker;
        let after = before.after(&rules.breaker, verdict, started, now, seed(self));
        self.health.breaker = after;
        if let Some(until) = after.open_until().filter(|_| after != before) {
            self.blocked_until = self.blocked_until.max(Some(until));
        }
    }

    /// Takes over changed rules. What was remembered is forgotten, and what the lane waited for
    /// is over: whoever changes the rules asks for a fresh start.
    pub fn change_rules(&mut self, rules: LaneRules) {
        if self.rules != rules {
            self.rules = rules;
            self.health = LaneHealth::default();
            self.blocked_until = None;
        }
    }
}

fn seed(lane: &Lane) -> u64 {
    let id = u128::from_be_bytes(lane.id.to_bytes());
    u64::try_from(id >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests;
