//! The names of metrics and spans, and the counters behind them.
//!
//! Every engine has a registry of its own, so that two engines in one process do not mix.

mod family;
pub(crate) mod lane;
mod log;
mod organization;
mod panic;
mod parent;
mod process;
mod redact;

pub use log::{LOG_LINES, LogLevel, LogLine, LogLines, SystemLog};
pub use panic::{log_panics, panic_words};
pub use process::resident_bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::family::Families;
pub use self::family::{MetricFamily, MetricKind};
use self::organization::Organizations;
pub(crate) use self::parent::SpanParent;

/// The content type of [`Metrics::render`] and of an engine's lane metrics.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
    families: Families,
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
    pub(crate) source_events: Counter,
    pub(crate) source_refused: Counter,
    pub(crate) source_failures: Counter,
    pub(crate) pruned: Family<Removed, Counter>,
    pub(crate) uncounted: Counter,
    pub(crate) duty_restarts: Family<Duty, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) lanes: Lanes,
    pub(crate) unsettled: Gauge,
    pub(crate) sources: Gauge,
    pub(crate) dozing: Gauge,
    pub(crate) attempt_seconds: Histogram,
    pub(crate) first_attempt_seconds: Histogram,
    pub(crate) claim_seconds: Histogram,
    pub(crate) ingest_seconds: Histogram,
    pub(crate) settle_seconds: Histogram,
    pub(crate) organizations: Organizations,
}

impl Metrics {
    /// Those of an engine, for up to `organizations` of which there are counters apart.
    pub(crate) fn new(organizations: usize) -> Self {
        let mut families = Families::new("icp");
        let r = &mut families;
        Self {
            published: r.counter("events_published", "Events that were accepted"),
            duplicates: r.counter("events_duplicate", "Events that were there already"),
            schema_mismatches: r.counter(
                "event_schema_mismatches",
                "Events that were accepted although they do not fit the schema of their type",
            ),
            fanned_out: r.counter("deliveries_created", "Deliveries that were made"),
            handed_over: r.counter("deliveries_handed_over", "Deliveries leased while published"),
            claimed: r.counter("deliveries_claimed", "Deliveries leased by claims"),
            probes: r.counter("breaker_probes", "Deliveries claimed as probes of a receiver"),
            throttled: r.counter("lanes_throttled", "Waits of lanes for their rate limit"),
            unreadable: r.counter(
                "deliveries_unreadable",
                "Deliveries ended because the store cannot read them",
            ),
            attempts: r.counter("attempts", "Attempts that were made"),
            ended: r.family("deliveries_ended", "Deliveries that ended, by state", &["state"]),
            retried: r.counter("deliveries_retried", "Failed attempts that are tried again"),
            refunded: r.counter("deliveries_refunded", "Tries that were given back"),
            stale_outcomes: r
                .counter("stale_outcomes", "Outcomes refused because the lease was lost"),
            rescued: r.counter("deliveries_rescued", "Leases taken away from dead workers"),
            poisoned: r
                .counter("deliveries_poisoned", "Deliveries that took too many workers down"),
            asleep: r.counter("lanes_asleep", "Lanes found sleeping on due deliveries; always 0"),
            panics: r.counter("panics", "Panics caught in attempts and duties"),
            store_errors: r.counter("store_errors", "Failed calls of the store"),
            relayed: r.counter("outbox_relayed", "Events taken over from the outbox"),
            letters_retried: r
                .counter("dead_letters_retried", "Deliveries made by automatic rounds"),
            letters_abandoned: r.counter("dead_letters_abandoned", "Dead letters given up"),
            erased: r.counter("events_erased", "Events whose content was erased"),
            source_events: r.counter("source_events", "Events of sources that were published"),
            source_refused: r
                .counter("source_events_refused", "Events of sources that can never be published"),
            source_failures: r
                .counter("source_failures", "Rounds of event sources that did not go well"),
            pruned: r.family(
                "rows_pruned",
                "Records removed because of their age, by kind",
                &["kind"],
            ),
            uncounted: r.counter(
                "outcomes_uncounted",
                "Outcomes left out of analytics because a node could keep no more sums",
            ),
            duty_restarts: r.family("duty_restarts", "Restarts of background duties", &["duty"]),
            in_flight: r.gauge("attempts_in_flight", "Attempts under way"),
            lanes: Lanes::new(r),
            unsettled: r.gauge("outcomes_unsettled", "Outcomes not yet recorded"),
            sources: r.gauge("sources", "Event sources that this node follows or waits for"),
            dozing: r.gauge(
                "dozing",
                "Whether this node has nothing to do and asks its store for almost nothing",
            ),
            attempt_seconds: r.histogram("attempt", "Duration of attempts"),
            first_attempt_seconds: r
                .histogram("first_attempt_delay", "From due to the first attempt"),
            claim_seconds: r.histogram("claim", "Duration of claims"),
            ingest_seconds: r.histogram("ingest", "Duration of ingest commits"),
            settle_seconds: r.histogram("settle", "Duration of settle commits"),
            organizations: Organizations::new(r, organizations),
            families,
        }
    }

    /// The metrics in OpenMetrics text form, which Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        text(self.families.registry())
    }
}

/// Every metric that [`Metrics::render`] and the lane metrics of an engine may show, in order.
///
/// Those with the label `org` are there where an engine was told to count for organizations.
#[must_use]
pub fn catalogue() -> Vec<MetricFamily> {
    let metrics = Metrics::new(0);
    metrics.families.list().iter().cloned().chain(lane::families()).collect()
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
    fn new(r: &mut Families) -> Self {
        let oldest = "For how long the first of all waiting deliveries has been due";
        let oldest_wait = r.gauge_seconds("lanes_oldest_wait", oldest);
        Self {
            open: r.gauge("lanes_open", "Lanes whose breaker is open"),
            half_open: r.gauge("lanes_half_open", "Lanes whose breaker waits for a probe"),
            narrowed: r.gauge("lanes_narrowed", "Lanes of overloaded receivers"),
            blocked: r.gauge("lanes_blocked", "Lanes that wait, for whatever reason"),
            oldest_wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_do_not_mix() {
        let (one, two) = (Metrics::new(0), Metrics::new(0));
        one.published.inc();
        assert!(one.render().contains("icp_events_published_total 1"));
        assert!(two.render().contains("icp_events_published_total 0"));
    }

    #[test]
    fn what_is_rendered_is_in_the_catalogue() {
        let metrics = Metrics::new(1);
        metrics.ended.get_or_create(&Ended { state: "dead" }).inc();
        metrics.pruned.get_or_create(&Removed { kind: "event" }).inc();
        metrics.duty_restarts.get_or_create(&Duty { duty: "claim" }).inc();
        metrics.organizations.touch();
        let rendered = metrics.render() + &lane::rendered();
        let shown: Vec<&str> = rendered
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let listed = catalogue();
        let names: Vec<&str> = listed.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(shown, names);
        for family in &listed {
            assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{family:?}");
            let sample = family.series()[0].clone();
            let line = rendered.lines().find(|line| {
                line.strip_prefix(&sample).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            let line = line.unwrap_or_else(|| panic!("{sample} is not rendered"));
            for label in family.labels {
                assert!(line.contains(&format!("{label}=\"")), "{line}");
            }
        }
    }
}
