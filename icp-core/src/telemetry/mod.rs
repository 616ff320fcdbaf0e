//! The names of metrics and spans, and the counters behind them.
//!
//! Every engine has a registry of its own, so that two engines in one process do not mix.

pub(crate) mod lane;
mod log;
mod process;
mod redact;

use std::sync::atomic::AtomicU64;

pub use log::{LOG_LINES, LogLevel, LogLine, LogLines, SystemLog};
pub use process::resident_bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The content type of [`Metrics::render`] and of an engine's lane metrics.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// One bounded label: how something ended.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct Ended {
    pub(crate) state: &'static str,
}

/// One bounded label: which duty.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct Duty {
    pub(crate) duty: &'static str,
}

/// One bounded label: which kind of record.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct Removed {
    pub(crate) kind: &'static str,
}

/// What an engine counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) published: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) schema_mismatches: Counter,
    pub(crate) fanned_out: Counter,
    pub(crate) handed_over: Counter,
    pub(crate) claimed: Counter,
    pub(crate) probes: Counter,
    pub(crate) throttled: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) attempts: Counter,
    pub(crate) ended: Family<Ended, Counter>,
    pub(crate) retried: Counter,
    pub(crate) refunded: Counter,
    pub(crate) stale_outcomes: Counter,
    pub(crate) rescued: Counter,
    pub(crate) poisoned: Counter,
    pub(crate) asleep: Counter,
    pub(crate) panics: Counter,
    pub(crate) store_errors: Counter,
    pub(crate) relayed: Counter,
    pub(crate) letters_retried: Counter,
    pub(crate) letters_abandoned: Counter,
    pub(crate) erased: Counter,
    pub(crate) pruned: Family<Removed, Counter>,
    pub(crate) uncounted: Counter,
    pub(crate) duty_restarts: Family<Duty, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) lanes: Lanes,
    pub(crate) unsettled: Gauge,
    pub(crate) attempt_seconds: Histogram,
    pub(crate) first_attempt_seconds: Histogram,
    pub(crate) claim_seconds: Histogram,
    pub(crate) ingest_seconds: Histogram,
    pub(crate) settle_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("icp");
        let r = &mut registry;
        Self {
            published: counter(r, "events_published", "Events that were accepted"),
            duplicates: counter(r, "events_duplicate", "Events that were there already"),
            schema_mismatches: counter(
                r,
                "event_schema_mismatches",
                "Events that were accepted although they do not fit the schema of their type",
            ),
            fanned_out: counter(r, "deliveries_created", "Deliveries that were made"),
            handed_over: counter(r, "deliveries_handed_over", "Deliveries leased while published"),
            claimed: counter(r, "deliveries_claimed", "Deliveries leased by claims"),
            probes: counter(r, "breaker_probes", "Deliveries claimed as probes of a receiver"),
            throttled: counter(r, "lanes_throttled", "Waits of lanes for their rate limit"),
            unreadable: counter(
                r,
                "deliveries_unreadable",
                "Deliveries ended because the store cannot read them",
            ),
            attempts: counter(r, "attempts", "Attempts that were made"),
            ended: family(r, "deliveries_ended", "Deliveries that ended, by state"),
            retried: counter(r, "deliveries_retried", "Failed attempts that are tried again"),
            refunded: counter(r, "deliveries_refunded", "Tries that were given back"),
            stale_outcomes: counter(
                r,
                "stale_outcomes",
                "Outcomes refused because the lease was lost",
            ),
            rescued: counter(r, "deliveries_rescued", "Leases taken away from dead workers"),
            poisoned: counter(
                r,
                "deliveries_poisoned",
                "Deliveries that took too many workers down",
            ),
            asleep: counter(r, "lanes_asleep", "Lanes found sleeping on due deliveries; always 0"),
            panics: counter(r, "panics", "Panics caught in attempts and duties"),
            store_errors: counter(r, "store_errors", "Failed calls of the store"),
            relayed: counter(r, "outbox_relayed", "Events taken over from the outbox"),
            letters_retried: counter(
                r,
                "dead_letters_retried",
                "Deliveries made by automatic rounds",
            ),
            letters_abandoned: counter(r, "dead_letters_abandoned", "Dead letters given up"),
            erased: counter(r, "events_erased", "Events whose content was erased"),
            pruned: family(r, "rows_pruned", "Records removed because of their age, by kind"),
            uncounted: counter(
                r,
                "outcomes_uncounted",
                "Outcomes left out of analytics because a node could keep no more sums",
            ),
            duty_restarts: family(r, "duty_restarts", "Restarts of background duties"),
            in_flight: gauge(r, "attempts_in_flight", "Attempts under way"),
            lanes: Lanes::new(r),
            unsettled: gauge(r, "outcomes_unsettled", "Outcomes not yet recorded"),
            attempt_seconds: histogram(r, "attempt", "Duration of attempts"),
            first_attempt_seconds: histogram(
                r,
                "first_attempt_delay",
                "From due to the first attempt",
            ),
            claim_seconds: histogram(r, "claim", "Duration of claims"),
            ingest_seconds: histogram(r, "ingest", "Duration of ingest commits"),
            settle_seconds: histogram(r, "settle", "Duration of settle commits"),
            registry,
        }
    }

    /// The metrics in OpenMetrics text form, which Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        text(&self.registry)
    }
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

/// How the lanes of all nodes are doing; every node tells the same.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(crate) open: Gauge,
    pub(crate) half_open: Gauge,
    pub(crate) narrowed: Gauge,
    pub(crate) blocked: Gauge,
    pub(crate) oldest_wait: Gauge,
}

impl Lanes {
    fn new(r: &mut Registry) -> Self {
        let oldest = "For how long the first of all waiting deliveries has been due";
        let oldest_wait: Gauge = Gauge::default();
        r.register_with_unit("lanes_oldest_wait", oldest, Unit::Seconds, oldest_wait.clone());
        Self {
            open: gauge(r, "lanes_open", "Lanes whose breaker is open"),
            half_open: gauge(r, "lanes_half_open", "Lanes whose breaker waits for a probe"),
            narrowed: gauge(r, "lanes_narrowed", "Lanes of overloaded receivers"),
            blocked: gauge(r, "lanes_blocked", "Lanes that wait, for whatever reason"),
            oldest_wait,
        }
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let metric = Counter::<u64, AtomicU64>::default();
    registry.register(name, help, metric.clone());
    metric
}

fn family<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
{
    let metric = Family::<L, Counter>::default();
    registry.register(name, help, metric.clone());
    metric
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let metric: Gauge = Gauge::default();
    registry.register(name, help, metric.clone());
    metric
}

fn histogram(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let metric = Histogram::new(SECONDS);
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_do_not_mix() {
        let (one, two) = (Metrics::new(), Metrics::new());
        one.published.inc();
        assert!(one.render().contains("icp_events_published_total 1"));
        assert!(two.render().contains("icp_events_published_total 0"));
    }
}
