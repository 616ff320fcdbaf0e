//! What is printed and kept.

use std::time::Duration;

use serde::Serialize;

use crate::ledger::Ledger;
use crate::receiver::Stats;

/// The result of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    curves: Vec<Curve>,
    goals: Vec<Goal>,
    notes: Vec<String>,
}

/// One scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    count: u64,
    /// CPU seconds of this process per 1,000 deliveries.
    pub(crate) cpu_per_1000: f64,
    pub(crate) per_second: f64,
    /// From scheduled to received: p50, p95, p99.
    pub(crate) latency_ms: [f64; 3],
    receiver_cpu_per_1000: f64,
    /// The processes that the CPU is the sum of, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    ledger: Option<Ledger>,
}

/// What the processes of one name took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) cpu_per_1000: f64,
    /// Resident at the end of the run, in MiB.
    pub(crate) memory_mib: f64,
}

/// How many deliveries a CPU second is enough for, as something grows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curve {
    /// What grows.
    pub(crate) of: &'static str,
    /// How many there are of it, and deliveries per CPU second beside them.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A figure and its bound.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    what: String,
    measured: f64,
    bound: Bound,
    /// Whether `--gate` fails where it is missed.
    gates: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    pub(crate) fn at_most(what: impl Into<String>, measured: f64, at_most: f64) -> Self {
        Self { what: what.into(), measured, bound: Bound::AtMost(at_most), gates: true }
    }

    pub(crate) fn at_least(what: impl Into<String>, measured: f64, at_least: f64) -> Self {
        Self { what: what.into(), measured, bound: Bound::AtLeast(at_least), gates: true }
    }

    pub(crate) fn named(self, subject: &str) -> Self {
        Self { what: format!("{subject}: {}", self.what), ..self }
    }

    /// Only told: a figure that swings with what else a machine does.
    pub(crate) fn ungated(self) -> Self {
        Self { gates: false, ..self }
    }

    fn met(&self, slack: f64) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.measured <= most * slack,
            Bound::AtLeast(least) => self.measured >= least / slack,
        }
    }
}

impl Row {
    pub(crate) fn new(
        name: &str,
        count: u64,
        cpu: Duration,
        wall: Duration,
        stats: &Stats,
    ) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let thousands = count as f64 / 1000.0;
        Self {
            name: name.to_owned(),
            count,
            cpu_per_1000: cpu.as_secs_f64() / thousands,
            per_second: thousands * 1000.0 / wall.as_secs_f64(),
            latency_ms: stats.latency_ms,
            receiver_cpu_per_1000: stats.cpu / thousands,
            parts: Vec::new(),
            ledger: None,
        }
    }

    /// A scenario of requests that were answered, where a receiver has no part.
    pub(crate) fn of_requests(
        name: &str,
        count: u64,
        cpu: Duration,
        wall: Duration,
        latency_ms: [f64; 3],
    ) -> Self {
        Self::new(name, count, cpu, wall, &Stats { latency_ms, ..Stats::default() })
    }

    pub(crate) fn with(mut self, ledger: Ledger) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Says whose CPU it is.
    pub(crate) fn of(mut self, parts: Vec<Part>) -> Self {
        self.parts = parts;
        self
    }

    /// The memory of the first of its processes, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.parts.first().map(|part| part.memory_mib).unwrap_or_default()
    }

    fn account(&self) -> String {
        self.ledger.as_ref().map_or_else(String::new, |l| {
            let state = if l.closes() { "closes" } else { "VOID" };
            format!(
                "{state}: {} = {} delivered + {} dead + {} open; {} duplicates",
                l.published, l.delivered, l.dead, l.outstanding, l.duplicates
            )
        })
    }
}

impl Curve {
    pub(crate) fn new(of: &'static str) -> Self {
        Self { of, points: Vec::new() }
    }

    /// Adds what was measured beside `many`.
    pub(crate) fn add(&mut self, many: u64, row: &Row) {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        self.points.push((many as f64, 1000.0 / row.cpu_per_1000));
    }

    /// Puts the points in the order of what grows.
    pub(crate) fn sort(&mut self) {
        self.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }

    /// The highest point over the lowest.
    pub(crate) fn spread(&self) -> f64 {
        self.most() / self.rates().fold(f64::INFINITY, f64::min)
    }

    /// The highest point.
    pub(crate) fn most(&self) -> f64 {
        self.rates().fold(0.0, f64::max)
    }

    fn rates(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|(_, rate)| *rate)
    }
}

impl Report {
    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn curve(&mut self, curve: Curve) {
        self.curves.push(curve);
    }

    pub(crate) fn goal(&mut self, goal: Goal) {
        self.goals.push(goal);
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn curves(&self) -> &[Curve] {
        &self.curves
    }

    /// Whether a ledger does not close.
    pub(crate) fn is_void(&self) -> bool {
        self.rows.iter().filter_map(|row| row.ledger.as_ref()).any(|ledger| !ledger.closes())
    }

    /// Whether a figure is beyond its bound by more than the factor `slack`.
    pub(crate) fn misses_a_goal(&self, slack: f64) -> bool {
        self.goals.iter().any(|goal| goal.gates && !goal.met(slack))
    }

    #[expect(clippy::print_stdout, reason = "the result of the program")]
    pub(crate) fn print(&self) {
        println!(
            "| scenario | deliveries | CPU-s per 1000 | per second | p50 ms | p95 ms | p99 ms | ledger |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for row in &self.rows {
            let [p50, p95, p99] = row.latency_ms;
            println!(
                "| {} | {} | {:.4} | {:.0} | {p50:.2} | {p95:.2} | {p99:.2} | {} |",
                row.name,
                row.count,
                row.cpu_per_1000,
                row.per_second,
                row.account()
            );
        }
        for row in &self.rows {
            for part in &row.parts {
                println!(
                    "{}: {}: {:.4} CPU-s per 1000, {:.0} MiB",
                    row.name, part.name, part.cpu_per_1000, part.memory_mib
                );
            }
        }
        println!();
        for note in &self.notes {
            println!("{note}");
        }
        for goal in &self.goals {
            let verdict = if goal.met(1.0) { "met" } else { "MISSED" };
            let bound = match goal.bound {
                Bound::AtMost(most) => format!("at most {most:.2}"),
                Bound::AtLeast(least) => format!("at least {least:.2}"),
            };
            println!("{verdict}: {}: {:.2} ({bound})", goal.what, goal.measured);
        }
    }
}

/// Says why a run broke off.
#[expect(clippy::print_stderr, reason = "the result of the program")]
pub(crate) fn failed(error: &(dyn std::error::Error + Send + Sync)) {
    eprintln!("the run broke off: {error}");
}
