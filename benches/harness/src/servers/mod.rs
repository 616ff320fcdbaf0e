//! Servers side by side, over their public APIs: this one, and others of the field.
//!
//! The server runs already, with its database. Scenarios are those that the others were measured
//! with: bodies of 1 KiB, ten tenants, and the CPU of the named processes from before the first
//! message until a second and a half after the last delivery.

mod load;
mod process;
mod product;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::ledger::Ledger;
use crate::receiver::Receiver;
use crate::report::{Goal, Part, Report, Row};
use crate::scenario::scaled;
use crate::wire::Connection;
use crate::{Result, usage};
use load::Site;
use product::Product;

const TENANTS: usize = 10;
const PUBLISHERS: u64 = 32;
const RATE: u32 = 200;
/// How long the processes are watched after the last delivery.
const AFTERWARDS: Duration = Duration::from_millis(1_500);
/// How long deliveries may take to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures a server that runs, over its public API.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Whose API it has.
    #[arg(long, value_enum)]
    product: Product,
    /// Its host and port.
    #[arg(long)]
    address: String,
    /// What is sent as the bearer token: an operator's key.
    #[arg(long, env = "ICP_API_KEY", hide_env_values = true)]
    token: String,
    /// The names of the processes whose CPU counts, the server's first.
    #[arg(long, value_delimiter = ',', default_value = "icp-server,postgres")]
    process: Vec<String>,
    /// The scenarios to run; all by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// How often each is run; the run of the median CPU is told.
    #[arg(long, default_value_t = 3)]
    turns: usize,
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Scenario {
    /// 10,000 messages to one endpoint each, 32 publishers.
    Burst,
    /// 2,000 messages to five endpoints each, 32 publishers.
    FanOut,
    /// 200 messages a second for 30 s.
    Steady,
    /// The same, while one of ten endpoints takes 5 s.
    Slow,
    /// The same, while three of ten endpoints take 20 s.
    Stalled,
}

impl Scenario {
    const ALL: [Self; 5] = [Self::Burst, Self::FanOut, Self::Steady, Self::Slow, Self::Stalled];

    fn name(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::FanOut => "fan-out",
            Self::Steady => "steady",
            Self::Slow => "slow neighbour",
            Self::Stalled => "stalled neighbours",
        }
    }

    /// How many endpoints a tenant has.
    fn endpoints(self) -> usize {
        if self == Self::FanOut { 5 } else { 1 }
    }

    /// Where the endpoint of a tenant is.
    fn path(self, tenant: usize) -> &'static str {
        match self {
            Self::Slow if tenant < 1 => "slow",
            Self::Stalled if tenant < 3 => "stall",
            _ => "ok",
        }
    }

    /// The share of the tenants whose endpoint answers at once.
    fn healthy(self) -> u64 {
        (0..TENANTS).filter(|tenant| self.path(*tenant) == "ok").count() as u64
    }

    /// CPU seconds for 1,000 deliveries that a server and its database may take.
    fn bound(self) -> Option<f64> {
        match self {
            Self::Burst => Some(0.22),
            Self::FanOut => Some(0.06),
            Self::Steady => Some(0.40),
            Self::Slow | Self::Stalled => None,
        }
    }
}

pub(crate) async fn run(arguments: &Arguments, scale: f64) -> Result<Report> {
    let mut report = Report::default();
    let wanted =
        |scenario: &Scenario| arguments.only.is_empty() || arguments.only.contains(scenario);
    let mut steady = None;
    for scenario in Scenario::ALL.into_iter().filter(wanted) {
        let mut runs = Vec::new();
        for _ in 0..arguments.turns.max(1) {
            runs.push(once(arguments, scenario, scale).await?);
        }
        runs.sort_by(|one, other| one.cpu_per_1000.total_cmp(&other.cpu_per_1000));
        let (least, most) = (runs[0].cpu_per_1000, runs[runs.len() - 1].cpu_per_1000);
        let row = runs.swap_remove(runs.len() / 2);
        let name = scenario.name();
        report.note(format!("{name}: {least:.3} to {most:.3} CPU-s per 1,000 in all processes"));
        if let Some(bound) = scenario.bound() {
            let what = format!("{name}: CPU-s per 1,000 deliveries in all processes");
            report.goal(Goal::at_most(what, row.cpu_per_1000, bound));
        }
        let [p50, _, p99] = row.latency_ms;
        match (scenario, steady) {
            (Scenario::Steady, _) => {
                report.goal(Goal::at_most("steady: p50 in ms", p50, 2.0));
                report.goal(Goal::at_most("steady: p99 in ms", p99, 10.0));
                let memory = row.memory();
                report.goal(Goal::at_most("steady: memory of the server in MiB", memory, 60.0));
                steady = Some(p99);
            }
            (Scenario::Stalled, Some(before)) => {
                let what = "stalled: p99 of healthy endpoints over steady";
                report.goal(Goal::at_most(what, p99 / before, 1.2));
            }
            _ => {}
        }
        report.row(row);
    }
    Ok(report)
}

async fn once(arguments: &Arguments, scenario: Scenario, scale: f64) -> Result<Row> {
    let receiver = Receiver::start()?;
    let site = Arc::new(prepare(arguments, scenario, &receiver).await?);
    let fan = scenario.endpoints() as u64;
    let warm = scaled(500, scale);
    site.burst(warm, PUBLISHERS).await?;
    arrived(&receiver, warm * fan * scenario.healthy() / TENANTS as u64).await?;
    receiver.reset().await?;
    let before = used(arguments)?;
    let begun = usage::now();
    let published = match scenario {
        Scenario::Burst => site.burst(scaled(10_000, scale), PUBLISHERS).await?,
        Scenario::FanOut => site.burst(scaled(2_000, scale), PUBLISHERS).await?,
        _ => {
            let length = Duration::from_secs_f64((30.0 * scale).max(3.0));
            site.steady(RATE, length).await?
        }
    };
    let expected = published * fan * scenario.healthy() / TENANTS as u64;
    arrived(&receiver, expected).await?;
    let wall = usage::now() - begun;
    tokio::time::sleep(AFTERWARDS).await;
    let after = used(arguments)?;
    let stats = receiver.stats().await?;
    let spent = || before.iter().zip(&after).map(|(before, after)| after.cpu - before.cpu);
    let parts = arguments.process.iter().zip(spent()).zip(&after);
    let parts = parts.map(|((name, cpu), after)| Part {
        name: name.clone(),
        cpu_per_1000: per_1000(cpu, expected),
        memory_mib: after.memory,
    });
    let account = Ledger {
        published: published * fan,
        delivered: stats.healthy,
        dead: 0,
        // Those to endpoints that are late.
        outstanding: published * fan - expected,
        received: stats.distinct,
        duplicates: stats.requests - stats.distinct,
        broken_invariants: stats.forged > 0,
    };
    let cpu = Duration::from_secs_f64(spent().sum());
    let row = Row::new(scenario.name(), expected, cpu, wall, &stats);
    Ok(row.with(account).of(parts.collect()))
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn per_1000(cpu: f64, count: u64) -> f64 {
    cpu * 1000.0 / count as f64
}

fn used(arguments: &Arguments) -> Result<Vec<process::Used>> {
    arguments.process.iter().map(|name| process::of(name)).collect()
}

/// Makes new tenants with new endpoints.
async fn prepare(arguments: &Arguments, scenario: Scenario, receiver: &Receiver) -> Result<Site> {
    let product = arguments.product;
    let run = usage::now().as_millis();
    let mut connection = Connection::open(&arguments.address).await?;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let tenant = format!("bench-{run}-{number}");
        let mut calls = vec![product.tenant(&tenant)];
        for endpoint in 0..scenario.endpoints() {
            let path = scenario.path(number);
            let url = format!("{}/{path}/{number}-{endpoint}", receiver.base);
            calls.push(product.endpoint(&tenant, endpoint, &url));
        }
        for call in calls {
            connection.ask(&call.wire(&arguments.address, &arguments.token)).await?;
        }
        tenants.push(tenant);
    }
    let (address, token) = (arguments.address.clone(), arguments.token.clone());
    Ok(Site { product, address, token, tenants })
}

/// Waits until `count` different messages came to endpoints that answer at once.
async fn arrived(receiver: &Receiver, count: u64) -> Result<()> {
    let deadline = usage::now() + PATIENCE;
    loop {
        let arrived = receiver.stats().await?.healthy;
        if arrived >= count {
            return Ok(());
        }
        if usage::now() > deadline {
            return Err(format!("{arrived} of {count} deliveries arrived").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
