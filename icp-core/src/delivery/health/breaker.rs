use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::error::Violation;
use crate::integration::retry::mix;
use crate::time::Timestamp;

/// When a lane stops asking a receiver that fails, and for how long.
///
/// Timeouts, connection errors, 429 and answers from 500 on are failures; other answers show that
/// the receiver is there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSpec {
    /// Whether it ever opens. Default `true`.
    pub enabled: bool,
    /// After how many failures in a row it opens, 1 to 1,000. Default 5.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// With which share of failures within a window it opens, in percent, 1 to 100. Default 50.
    #[schemars(range(min = 1, max = 100))]
    pub failure_percent: u32,
    /// How many outcomes a window needs before their share counts, 1 to 10,000. Default 20.
    #[schemars(range(min = 1, max = 10000))]
    pub min_outcomes: u32,
    /// How many seconds a window lasts from its first failure on, 1 to 3,600. Default 60.
    #[schemars(range(min = 1, max = 3600))]
    pub window_seconds: u32,
    /// For how many seconds it opens first, 1 to 86,400; each probe that fails doubles it.
    /// Default 30.
    #[schemars(range(min = 1, max = 86400))]
    pub open_seconds: u32,
    /// The most seconds it stays open before the next probe, 1 to 86,400. Default 3,600.
    #[schemars(range(min = 1, max = 86400))]
    pub max_open_seconds: u32,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            failure_percent: 50,
            min_outcomes: 20,
            window_seconds: 60,
            open_seconds: 30,
            max_open_seconds: 3_600,
        }
    }
}

impl BreakerSpec {
    /// Lists what is wrong, with pointers that begin at `at`.
    #[must_use]
    pub fn validate(&self, at: &str) -> Vec<Violation> {
        let fields = [
            ("failures", self.failures, 1_000),
            ("failure_percent", self.failure_percent, 100),
            ("min_outcomes", self.min_outcomes, 10_000),
            ("window_seconds", self.window_seconds, 3_600),
            ("open_seconds", self.open_seconds, 86_400),
            ("max_open_seconds", self.max_open_seconds, 86_400),
        ];
        let wrong = fields.into_iter().filter(|(_, value, most)| !(1..=*most).contains(value));
        let mut violations: Vec<_> = wrong
            .map(|(field, _, most)| {
                Violation::new(format!("{at}/{field}"), "out_of_range", format!("use 1 to {most}"))
            })
            .collect();
        if self.max_open_seconds < self.open_seconds {
            let message = "must not be less than `open_seconds`";
            violations.push(Violation::new(
                format!("{at}/max_open_seconds"),
                "out_of_range",
                message,
            ));
        }
        violations
    }

    /// How long the breaker stays open when it opens for the `trip`th time in a row, from 1:
    /// twice as long each time, up to the most, and then up to a fifth less, so that receivers
    /// that failed together are not probed together.
    #[must_use]
    pub fn open_time(&self, trip: u32, seed: u64) -> Duration {
        let doubled = u64::from(self.open_seconds) << trip.saturating_sub(1).min(20);
        let millis = doubled.min(self.max_open_seconds.into()) * 1_000;
        Duration::from_millis(millis - mix(seed, trip) % (millis / 5 + 1))
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Deliveries go.
    Closed,
    /// Nothing goes.
    Open,
    /// One delivery goes, as the probe; the receiver's answer to it decides.
    HalfOpen,
}

/// What a breaker remembers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Breaker {
    /// Failures since the last sign of life.
    pub failures: u32,
    /// The outcomes since the first failure of a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Window {
    since: i64,
    good: u32,
    bad: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Open {
    until: i64,
    trip: u32,
}

impl Breaker {
    /// The breaker after an attempt that began at `started` and ended by `now`.
    ///
    /// While it is not closed, only an attempt that began after the open time was over is the
    /// probe; what was under way when it opened changes nothing.
    #[must_use]
    pub fn after(
        self,
        spec: &BreakerSpec,
        verdict: Verdict,
        started: Timestamp,
        now: Timestamp,
        seed: u64,
    ) -> Self {
        if !spec.enabled {
            return Self::default();
        }
        let failed = verdict.is_failure();
        match self.open {
            Some(open) if started.as_millis() < open.until => self,
            Some(open) if failed => self.opened(spec, open.trip.saturating_add(1), now, seed),
            Some(_) => Self::default(),
            None => self.counted(spec, failed, now, seed),
        }
    }

    fn counted(mut self, spec: &BreakerSpec, failed: bool, now: Timestamp, seed: u64) -> Self {
        let length = i64::from(spec.window_seconds) * 1_000;
        let now_ms = now.as_millis();
        let window = self.window.filter(|window| now_ms < window.since.saturating_add(length));
        if !failed {
            self.failures = 0;
            self.window = window.map(|w| Window { good: w.good.saturating_add(1), ..w });
            return self;
        }
        let mut window = window.unwrap_or(Window { since: now_ms, good: 0, bad: 0 });
        window.bad = window.bad.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        self.window = Some(window);
        let (bad, all) = (u64::from(window.bad), u64::from(window.bad) + u64::from(window.good));
        let many =
            all >= spec.min_outcomes.into() && bad * 100 >= all * u64::from(spec.failure_percent);
        if many || self.failures >= spec.failures {
            return self.opened(spec, 1, now, seed);
        }
        self
    }

    fn opened(self, spec: &BreakerSpec, trip: u32, now: Timestamp, seed: u64) -> Self {
        let until = (now + spec.open_time(trip, seed)).as_millis();
        Self { failures: self.failures, window: None, open: Some(Open { until, trip }) }
    }

    /// Whether it is open or half-open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Until when nothing goes, where it opened; in the past once a probe may go.
    #[must_use]
    pub fn open_until(&self) -> Option<Timestamp> {
        self.open.map(|open| Timestamp::from_millis(open.until))
    }

    /// How often in a row it opened.
    #[must_use]
    pub fn trips(&self) -> u32 {
        self.open.map_or(0, |open| open.trip)
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.open_until() {
            None => BreakerState::Closed,
            Some(until) if until > now => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    pub(super) fn is_untouched(&self) -> bool {
        *self == Self::default()
    }
}
