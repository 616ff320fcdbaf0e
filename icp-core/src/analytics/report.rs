//! What the sums say, for people.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, FailureCount, Grain, HOURS_KEPT, Latency, Rollup, RollupBy, RollupQuery};
use crate::error::{Code, Error, Result, Violation};
use crate::id::ResourceId;
use crate::letter::Category;
use crate::time::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// What is told of where nothing says so.
const DEFAULT_DAYS: u32 = 30;

/// The longest time that is told of at once, in days.
const MOST_DAYS: u32 = 400;

/// Up to which time hours are told apart where nothing says so.
const BY_HOUR: Duration = Duration::from_secs(7 * 86_400);

/// What analytics are asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AnalyticsQuery {
    /// From when on. Default 30 days before `until`; at most 400 days before it.
    pub since: Option<Timestamp>,
    /// Until when. Default now.
    pub until: Option<Timestamp>,
    /// By hour, which goes back 35 days, or by day. Default by hour for up to seven days.
    pub interval: Option<Grain>,
    /// Only those of this integration.
    pub integration: Option<ResourceId>,
}

/// A stretch of whole hours or days.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    pub(crate) grain: Grain,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

impl Span {
    /// What `query` asks for, in whole hours or days.
    pub(crate) fn of(query: &AnalyticsQuery, now: Timestamp) -> Result<Self> {
        let until = query.until.unwrap_or(now);
        let since = query.since.unwrap_or(until - DAY * DEFAULT_DAYS);
        if since >= until {
            return Err(refused("since", "must be before `until`"));
        }
        if until.since(since) > DAY * MOST_DAYS {
            return Err(refused("since", format!("use at most {MOST_DAYS} days before `until`")));
        }
        let hours_from = now - HOURS_KEPT;
        let short = until.since(since) <= BY_HOUR && since >= hours_from;
        let grain = query.interval.unwrap_or(if short { Grain::Hour } else { Grain::Day });
        if grain == Grain::Hour && since < hours_from {
            let days = HOURS_KEPT.as_secs() / DAY.as_secs();
            let message = format!("hours go back {days} days; use `day`");
            return Err(refused("interval", message));
        }
        Ok(Self { grain, since: grain.floor(since), until: grain.ceil(until) })
    }

    pub(crate) fn query(self, integration: Option<ResourceId>, by: RollupBy) -> RollupQuery {
        let Self { grain, since, until } = self;
        RollupQuery { grain, since, until, integration, by }
    }
}

fn refused(field: &str, message: impl Into<String>) -> Error {
    let violation = Violation::new(format!("/{field}"), "out_of_range", message);
    Error::violations(Code::QueryInvalid, vec![violation])
}

/// How outcomes add up.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Totals {
    /// Attempts that were made.
    pub attempts: u64,
    /// Deliveries that the receiver took.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Failed attempts that are tried again.
    pub retried: u64,
    /// Deliveries that became dead letters.
    pub dead: u64,
    /// Deliveries that were dropped on purpose.
    pub skipped: u64,
    /// Tries that were given back because the receiver asked to wait.
    pub throttled: u64,
    /// `delivered` in proportion to `delivered` and `dead`, 0 to 1; `null` where none ended.
    pub success_rate: Option<f64>,
}

impl From<&Counts> for Totals {
    fn from(counts: &Counts) -> Self {
        Self {
            attempts: counts.attempts,
            delivered: counts.delivered,
            failed: counts.failed,
            retried: counts.retried,
            dead: counts.dead,
            skipped: counts.skipped,
            throttled: counts.throttled,
            success_rate: counts.success_rate(),
        }
    }
}

/// How long attempts took, in milliseconds; told from buckets, so to within a fraction.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many attempts were measured.
    pub measured: u64,
    /// What half of them did not exceed.
    pub p50_ms: Option<f64>,
    /// What nine in ten did not exceed.
    pub p90_ms: Option<f64>,
    /// What 95 in a hundred did not exceed.
    pub p95_ms: Option<f64>,
    /// What 99 in a hundred did not exceed.
    pub p99_ms: Option<f64>,
}

impl From<&Latency> for Percentiles {
    fn from(latency: &Latency) -> Self {
        let ms = |rank| latency.per_mille(rank).map(|time| time.as_secs_f64() * 1_000.0);
        Self {
            measured: latency.count(),
            p50_ms: ms(500),
            p90_ms: ms(900),
            p95_ms: ms(950),
            p99_ms: ms(990),
        }
    }
}

/// How it went over a stretch of time.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Overview {
    /// When the first hour or day begins.
    pub since: Timestamp,
    /// When the last one ends.
    pub until: Timestamp,
    /// Whether it is told from hours or days.
    pub interval: Grain,
    /// The sums.
    pub totals: Totals,
    /// How long attempts took.
    pub latency: Percentiles,
}

/// How it went hour by hour, or day by day.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Series {
    /// When the first hour or day begins.
    pub since: Timestamp,
    /// When the last one ends.
    pub until: Timestamp,
    /// Hours or days.
    pub interval: Grain,
    /// Every hour or day, also those without an outcome.
    pub points: Vec<Point>,
}

/// One hour or day.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Point {
    /// When it begins.
    pub begins: Timestamp,
    /// The sums.
    #[serde(flatten)]
    pub totals: Totals,
    /// What half of the attempts did not exceed, in milliseconds.
    pub p50_ms: Option<f64>,
    /// What 95 in a hundred attempts did not exceed, in milliseconds.
    pub p95_ms: Option<f64>,
}

impl Point {
    fn of(begins: Timestamp, counts: &Counts) -> Self {
        let Percentiles { p50_ms, p95_ms, .. } = Percentiles::from(&counts.latency);
        Self { begins, totals: counts.into(), p50_ms, p95_ms }
    }
}

/// Every hour or day of `span`, with zeroes for those that `rollups` lack.
pub(crate) fn filled(span: Span, rollups: Vec<Rollup>) -> Series {
    let Span { grain, since, until } = span;
    let found: BTreeMap<Timestamp, Counts> =
        rollups.into_iter().filter_map(|found| Some((found.begins?, found.counts))).collect();
    let mut points = Vec::new();
    let mut begins = since;
    while begins < until {
        points.push(Point::of(begins, found.get(&begins).unwrap_or(&Counts::default())));
        begins = begins + grain.length();
    }
    Series { since, until, interval: grain, points }
}

/// How attempts failed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Errors {
    /// When the first hour or day begins.
    pub since: Timestamp,
    /// When the last one ends.
    pub until: Timestamp,
    /// How many attempts failed, by the kind of error.
    pub categories: BTreeMap<Category, u64>,
    /// The most frequent failures by integration, up to 1,000.
    pub groups: Vec<ErrorGroup>,
}

/// Attempts to one integration that failed in the same way.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ErrorGroup {
    /// The integration.
    pub integration: ResourceId,
    /// The kind of error.
    pub category: Category,
    /// What went wrong, as in `status_503`.
    pub class: String,
    /// How many attempts.
    pub count: u64,
}

impl Errors {
    pub(crate) fn of(span: Span, failures: Vec<FailureCount>) -> Self {
        let mut categories = BTreeMap::new();
        let group = |FailureCount { integration, class, count }| {
            let category = Category::of(&class);
            *categories.entry(category).or_default() += count;
            ErrorGroup { integration, category, class, count }
        };
        let groups = failures.into_iter().map(group).collect();
        Self { since: span.since, until: span.until, categories, groups }
    }
}

/// How long attempts took, by integration.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Latencies {
    /// When the first hour or day begins.
    pub since: Timestamp,
    /// When the last one ends.
    pub until: Timestamp,
    /// The integrations, ordered by id.
    pub integrations: Vec<IntegrationLatency>,
}

/// How long attempts to one integration took.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct IntegrationLatency {
    /// The integration.
    pub integration: ResourceId,
    /// How its outcomes add up.
    pub totals: Totals,
    /// How long attempts took.
    pub latency: Percentiles,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);

    fn span(days_back: u32, interval: Option<Grain>) -> Result<Span> {
        let since = Some(NOW - DAY * days_back);
        Span::of(&AnalyticsQuery { since, interval, ..AnalyticsQuery::default() }, NOW)
    }

    #[test]
    fn a_short_time_is_told_by_hour_and_a_long_one_by_day() {
        for (days, interval, grain) in [
            (7, None, Some(Grain::Hour)),
            (8, None, Some(Grain::Day)),
            (35, Some(Grain::Hour), Some(Grain::Hour)),
            (36, Some(Grain::Hour), None),
            (400, None, Some(Grain::Day)),
            (401, None, None),
            (0, None, None),
        ] {
            let found = span(days, interval);
            assert_eq!(found.as_ref().ok().map(|span| span.grain), grain, "{days} {found:?}");
        }
    }

    #[test]
    fn a_span_is_of_whole_hours_or_days_and_has_no_gaps() {
        let span = span(7, None).unwrap();
        assert!(span.since <= NOW - DAY * 7 && span.until >= NOW);
        let counts = Counts { delivered: 3, ..Counts::default() };
        let begins = Some(Grain::Hour.floor(NOW));
        let series = filled(span, vec![Rollup { begins, integration: None, counts }]);
        assert_eq!(series.points.len(), 7 * 24 + 1);
        assert_eq!(series.points.last().map(|point| point.totals.delivered), Some(3));
        assert_eq!(series.points[0].totals, Totals::default());
    }

    #[test]
    fn errors_add_up_by_category() {
        let failure = |class: &str, count| FailureCount {
            integration: ResourceId::new("crm").unwrap(),
            class: class.to_owned(),
            count,
        };
        let found =
            vec![failure("status_500", 5), failure("status_503", 2), failure("dns_failed", 1)];
        let errors = Errors::of(span(7, None).unwrap(), found);
        assert_eq!(errors.categories[&Category::ServerError], 7);
        assert_eq!(errors.categories[&Category::Network], 1);
        assert_eq!(errors.groups.len(), 3);
    }
}
