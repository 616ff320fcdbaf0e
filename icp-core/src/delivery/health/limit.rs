use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Violation;
use crate::time::Timestamp;

/// The shortest time between two requests, in microseconds.
const SHORTEST: u64 = 100;

/// The longest period, in seconds.
const LONGEST: u32 = 86_400;

/// How many requests an integration sends in a time, over all of its lanes and all nodes.
///
/// The requests are spread evenly over the period, but for a burst (the generic cell rate
/// algorithm of ITU-T I.371): in any span of `per_seconds` there are at most `requests` plus
/// `burst` minus one. A delivery that has to wait costs no try.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many requests, from 1; at most 10,000 for each second.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// In how many seconds, 1 to 86,400. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 86400))]
    pub per_seconds: u32,
    /// How many may go at once after a rest, 1 to `requests`. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

impl RateLimit {
    /// Lists what is wrong, with pointers that begin at `at`.
    #[must_use]
    pub fn validate(&self, at: &str) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut check = |fine: bool, field: &str, message: String| {
            if !fine {
                violations.push(Violation::new(format!("{at}/{field}"), "out_of_range", message));
            }
        };
        let per = (1..=LONGEST).contains(&self.per_seconds);
        check(per, "per_seconds", format!("use 1 to {LONGEST}"));
        let most = u64::from(self.per_seconds.max(1)) * 1_000_000 / SHORTEST;
        let requests = (1..=most.max(1)).contains(&u64::from(self.requests));
        check(requests, "requests", format!("use 1 to {}", most.max(1)));
        let burst = (1..=self.requests.max(1)).contains(&self.burst);
        check(burst, "burst", format!("use 1 to {}, as `requests`", self.requests.max(1)));
        violations
    }

    /// The time from one request to the next, in microseconds, rounded up: never too many.
    fn interval(&self) -> i64 {
        let per = u64::from(self.per_seconds.max(1)) * 1_000_000;
        per.div_ceil(u64::from(self.requests.max(1))).cast_signed()
    }

    /// For how long a lane waits for its rate at the longest before it is asked again.
    pub(crate) fn longest_wait(&self) -> Duration {
        Duration::from_millis(self.interval().unsigned_abs().div_ceil(1_000))
    }

    /// How far the meter may run ahead of the time.
    fn tolerance(&self) -> i64 {
        self.interval() * i64::from(self.burst.max(1) - 1)
    }
}

/// What an integration has used of its rate: the time at which the next request would come if
/// requests came evenly. One small number, kept by the store for each limited integration.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Meter(i64);

/// What is left of a rate.
///
/// `limit` within `per_seconds` is the quota and its window, as in the IETF draft on RateLimit
/// header fields. As requests are spread over the window, what may go at a moment is bounded by
/// `burst` and not by what is left of the quota.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RateStatus {
    /// How many requests the integration may send in `per_seconds`.
    pub limit: u32,
    /// The window, in seconds.
    pub per_seconds: u32,
    /// How many may go at once after a rest.
    pub burst: u32,
    /// How many of `burst` may go now.
    pub remaining: u32,
    /// When all of `burst` may go at once again.
    pub reset: Timestamp,
}

impl Meter {
    /// From the microseconds that stores keep.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The microseconds that stores keep.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How many requests may go at `now`.
    #[must_use]
    pub fn room(self, limit: &RateLimit, now: Timestamp) -> u32 {
        let now = micros(now);
        let free = now.saturating_add(limit.tolerance()).saturating_sub(self.0.max(now));
        if free < 0 {
            return 0;
        }
        u32::try_from(free / limit.interval() + 1).unwrap_or(u32::MAX)
    }

    /// The meter after `count` requests at `now`.
    #[must_use]
    pub fn used(self, limit: &RateLimit, count: u32, now: Timestamp) -> Self {
        if count == 0 {
            return self;
        }
        let used = limit.interval().saturating_mul(count.into());
        Self(self.0.max(micros(now)).saturating_add(used))
    }

    /// When the next request may go; in the past where one may go now.
    #[must_use]
    pub fn next(self, limit: &RateLimit) -> Timestamp {
        ceiling(self.0.saturating_sub(limit.tolerance()))
    }

    /// Until when the integration's lanes wait for their rate; `None` where one may go now.
    #[must_use]
    pub fn blocks_until(self, limit: &RateLimit, now: Timestamp) -> Option<Timestamp> {
        Some(self.next(limit)).filter(|next| *next > now)
    }

    /// What is left at `now`.
    #[must_use]
    pub fn status(self, limit: &RateLimit, now: Timestamp) -> RateStatus {
        let reset = ceiling(self.0).max(now);
        RateStatus {
            limit: limit.requests,
            per_seconds: limit.per_seconds,
            burst: limit.burst.max(1),
            remaining: self.room(limit, now),
            reset,
        }
    }
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}

fn ceiling(micros: i64) -> Timestamp {
    Timestamp::from_millis(micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) > 0))
}
