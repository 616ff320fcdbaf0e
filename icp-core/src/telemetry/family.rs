//! A registry that knows what was registered in it: one without samples is not rendered.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A metric with all of its labels, as the catalogue in docs/observability.md lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MetricFamily {
    /// The name of the family, its unit included and without `_total`.
    pub name: String,
    /// What kind of metric it is.
    pub kind: MetricKind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it tells, without a full stop.
    pub help: String,
}

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A count that grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// How many values were at most so large.
    Histogram,
}

impl MetricFamily {
    /// The names of its time series, as queries use them.
    #[must_use]
    pub fn series(&self) -> Vec<String> {
        let endings: &[&str] = match self.kind {
            MetricKind::Counter => &["_total"],
            MetricKind::Gauge => &[""],
            MetricKind::Histogram => &["_bucket", "_sum", "_count"],
        };
        endings.iter().map(|ending| format!("{}{ending}", self.name)).collect()
    }
}

/// The families of a registry.
#[derive(Debug)]
pub(crate) struct Families {
    prefix: &'static str,
    registry: Registry,
    list: Vec<MetricFamily>,
}

impl Families {
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self { prefix, registry: Registry::with_prefix(prefix), list: Vec::new() }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn list(&self) -> &[MetricFamily] {
        &self.list
    }

    pub(crate) fn counter(&mut self, name: &str, help: &str) -> Counter {
        let metric = Counter::<u64, AtomicU64>::default();
        self.registry.register(name, help, metric.clone());
        self.note(name, help, MetricKind::Counter, &[]);
        metric
    }

    pub(crate) fn family<L>(
        &mut self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> Family<L, Counter>
    where
        L: EncodeLabelSet + Clone + Hash + Eq + Send + Sync + Debug + 'static,
    {
        let metric = Family::<L, Counter>::default();
        self.registry.register(name, help, metric.clone());
        self.note(name, help, MetricKind::Counter, labels);
        metric
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let metric: Gauge = Gauge::default();
        self.registry.register(name, help, metric.clone());
        self.note(name, help, MetricKind::Gauge, &[]);
        metric
    }

    pub(crate) fn gauge_seconds(&mut self, name: &str, help: &str) -> Gauge {
        let metric: Gauge = Gauge::default();
        self.registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        self.note(&format!("{name}_seconds"), help, MetricKind::Gauge, &[]);
        metric
    }

    /// Gauges of which there is one for each set of labels, in seconds where `unit` says so.
    pub(crate) fn gauges<L>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        labels: &'static [&'static str],
        metric: &Family<L, Gauge>,
    ) where
        L: EncodeLabelSet + Clone + Hash + Eq + Send + Sync + Debug + 'static,
    {
        match unit {
            None => {
                self.registry.register(name, help, metric.clone());
                self.note(name, help, MetricKind::Gauge, labels);
            }
            Some(unit) => {
                let full = format!("{name}_{}", unit.as_str());
                self.registry.register_with_unit(name, help, unit, metric.clone());
                self.note(&full, help, MetricKind::Gauge, labels);
            }
        }
    }

    /// A histogram of times.
    pub(crate) fn histogram(&mut self, name: &str, help: &str) -> Histogram {
        let metric = Histogram::new(SECONDS);
        self.registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        self.note(&format!("{name}_seconds"), help, MetricKind::Histogram, &[]);
        metric
    }

    fn note(&mut self, name: &str, help: &str, kind: MetricKind, labels: &'static [&'static str]) {
        let name = format!("{}_{name}", self.prefix);
        self.list.push(MetricFamily { name, kind, labels, help: help.to_owned() });
    }
}
