//! How deliveries went: sums by integration and hour or day, kept long after their records.
//!
//! Each node counts in memory what it records, and writes the sums every ten seconds and when it
//! is shut down. A node that is killed loses the sums of its last ten seconds at the most, and
//! never a record.

mod counts;
mod dashboard;
mod latency;
mod report;
mod store;
pub(crate) mod tally;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use counts::{Counts, LATENCIES};
pub use dashboard::{Dashboard, LaneFigures, RecentFailure};
pub use latency::{LATENCY_BOUNDS, Latency};
pub use report::{
    AnalyticsQuery, ErrorGroup, Errors, IntegrationLatency, Latencies, Overview, Percentiles,
    Point, Series, Totals,
};
pub(crate) use report::{Span, filled};
pub use store::{
    AnalyticsStore, Counted, FailureCount, Rollup, RollupBatch, RollupBy, RollupKey, RollupQuery,
};

use crate::error::{Code, Error};
use crate::time::Timestamp;

/// How long hours are told apart; days are kept as long as
/// [`Retention::analytics`](crate::retention::Retention::analytics) says.
pub const HOURS_KEPT: Duration = Duration::from_secs(35 * 86_400);

/// The span of time that one sum is over.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// An hour.
    Hour,
    /// A day in UTC.
    Day,
}

impl Grain {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// How long it is.
    #[must_use]
    pub const fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(3_600),
            Self::Day => Duration::from_secs(86_400),
        }
    }

    /// The text form, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// When the hour or day begins that `at` is in.
    #[must_use]
    pub fn floor(self, at: Timestamp) -> Timestamp {
        let length = i64::try_from(self.length().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(at.as_millis().div_euclid(length).saturating_mul(length))
    }

    /// When the first hour or day begins that is not before `at`.
    #[must_use]
    pub fn ceil(self, at: Timestamp) -> Timestamp {
        let floor = self.floor(at);
        if floor == at { at } else { floor + self.length() }
    }
}

impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Grain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|grain| grain.as_str() == text).ok_or_else(|| {
            let message = format!("`{text}` is not an interval; use `hour` or `day`");
            Error::new(Code::QueryInvalid, message)
        })
    }
}
