//! The scenarios and their goals.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use icp::store::Store;
use icp::store_sql::sqlite::{SqliteStore, Synchronous};

use crate::engine::Subject;
use crate::receiver::Receiver;
use crate::report::{Goal, Report, Row};
use crate::{
    Result, api, bare, ledger, neighbours, nodes, shapes, stores, timing, transforms, usage,
};

/// A scenario.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Name {
    /// 64 publishers as fast as they are answered, SQLite NORMAL.
    Burst,
    /// The same with FULL: durable through power loss.
    BurstFull,
    /// 200 events a second, every endpoint healthy.
    Steady,
    /// 200 events a second, three of ten endpoints take 20 seconds.
    Stalled,
    /// Claims beside a backlog of 1,000 and of 100,000.
    Backlog,
    /// Memory beside a backlog of 1,000,000.
    Memory,
    /// Nine quiet organizations beside one with a backlog of 100,000, and ten equal backlogs.
    Noisy,
    /// How fan-out, size, the number of tenants and hanging endpoints change the cost of a delivery.
    Shapes,
    /// The cost of a delivery beside 10,000 to 10,000,000 stored ones.
    Growth,
    /// A backlog of 1,000,000, delivered.
    Drain,
    /// The receiver is down for ten minutes.
    Recovery,
    /// One, two and three nodes on each store that is given.
    Nodes,
    /// Claims and settles of each store, without an engine around it.
    Stores,
    /// Requests to the HTTP API beside a bare handler.
    Api,
    /// Whether the time that the checks of keys and signatures take tells of what is guessed.
    Timing,
    /// Programs in transformations: engines, workers, kills, neighbours, a thousand organizations.
    Transforms,
}

const RATE: u32 = 200;
/// How often bursts and the bare client take turns.
const TURNS: usize = 7;

pub(crate) async fn run(only: &[Name], scale: f64, databases: &[String]) -> Result<Report> {
    let wanted = |name| only.is_empty() || only.contains(&name);
    let mut report = Report::default();
    let count = scaled(20_000, scale);
    let seconds = Duration::from_secs_f64((30.0 * scale).max(3.0));
    if wanted(Name::Burst) || wanted(Name::BurstFull) {
        bursts(&mut report, count, wanted(Name::Burst), wanted(Name::BurstFull)).await?;
    }
    if wanted(Name::Steady) || wanted(Name::Stalled) {
        let steady = steady("steady", 0, seconds).await?;
        if wanted(Name::Stalled) {
            let stalled = self::steady("stalled neighbours", 3, seconds).await?;
            let ratio = stalled.latency_ms[2] / steady.latency_ms[2];
            report.goal(Goal::at_most("stalled: p99 of healthy endpoints over steady", ratio, 1.2));
            report.row(stalled);
        }
        report.row(steady);
    }
    if wanted(Name::Backlog) {
        backlog(&mut report, scale).await?;
    }
    if wanted(Name::Memory) {
        memory(&mut report, scale).await?;
    }
    if wanted(Name::Noisy) {
        neighbours::noisy(&mut report, scaled(100_000, scale), seconds).await?;
        neighbours::even(&mut report, scaled(20_000, scale)).await?;
    }
    if wanted(Name::Shapes) {
        shapes::shapes(&mut report, scale).await?;
    }
    if wanted(Name::Growth) {
        shapes::growth(&mut report, scaled(10_000_000, scale)).await?;
    }
    if wanted(Name::Drain) {
        shapes::drain(&mut report, scaled(1_000_000, scale)).await?;
    }
    if wanted(Name::Recovery) {
        shapes::recovery(&mut report, Duration::from_secs_f64(600.0 * scale)).await?;
    }
    if wanted(Name::Nodes) {
        for url in databases {
            nodes::nodes(&mut report, url, scaled(20_000, scale)).await?;
        }
    }
    if wanted(Name::Stores) {
        stores(&mut report, scaled(100_000, scale), databases).await?;
    }
    if wanted(Name::Api) {
        api::run(&mut report, scale).await?;
    }
    if wanted(Name::Timing) {
        let samples = usize::try_from(scaled(1_000_000, scale)).unwrap_or(usize::MAX);
        tokio::task::block_in_place(|| timing::run(&mut report, samples))?;
    }
    if wanted(Name::Transforms) {
        transforms::run(&mut report, scale).await?;
    }
    Ok(report)
}

/// Bursts beside the bare client in turns, as a machine's speed changes from second to second;
/// reported is the turn of the median ratio.
async fn bursts(report: &mut Report, count: u64, normal: bool, full: bool) -> Result<()> {
    let receiver = Receiver::start()?;
    bare::run(&receiver, count / 4).await?;
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let anchor = bare::run(&receiver, count * 2).await?;
        let rows = [
            if normal { Some(burst("burst", Synchronous::Normal, count).await?) } else { None },
            if full { Some(burst("burst, FULL", Synchronous::Full, count).await?) } else { None },
        ];
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        let ratio = rows[0].cpu_per_1000 / anchor.cpu_per_1000;
        turns.push((ratio, rows, anchor));
    }
    turns.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (least, most) = (turns[0].0, turns[TURNS - 1].0);
    let (ratio, rows, anchor) = turns.swap_remove(TURNS / 2);
    if normal {
        report.goal(Goal::at_most("burst: CPU of the engine over the bare client", ratio, 5.0));
        report.note(format!("that ratio in {TURNS} turns: {least:.2} to {most:.2}"));
    }
    for row in rows {
        report.row(row);
    }
    report.row(anchor);
    Ok(())
}

pub(crate) fn scaled(count: u64, scale: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts are small and positive"
    )]
    let scaled = (count as f64 * scale) as u64;
    scaled.max(100)
}

async fn burst(name: &str, mode: Synchronous, count: u64) -> Result<Row> {
    let receiver = Receiver::start()?;
    let subject = Subject::new(&receiver.base, 0, mode).await?;
    let running = subject.start().await?;
    let warm = count / 10;
    subject.burst(warm, 64, None).await?;
    ledger::settle(&subject, &receiver, warm, 0).await?;
    receiver.reset().await?;
    let (cpu, begun) = (usage::cpu(), usage::now());
    subject.burst(count, 64, None).await?;
    wait(&receiver, count).await?;
    let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
    let (mut account, stats) = ledger::settle(&subject, &receiver, count + warm, 0).await?;
    account.received += warm;
    running.shutdown(Duration::from_secs(5)).await;
    Ok(Row::new(name, count, cpu, wall, &stats).with(account))
}

async fn steady(name: &str, stalled: usize, length: Duration) -> Result<Row> {
    let receiver = Receiver::start()?;
    let subject = Subject::new(&receiver.base, stalled, Synchronous::Normal).await?;
    let running = subject.start().await?;
    subject.steady(RATE, Duration::from_secs(2)).await?;
    receiver.reset().await?;
    let (cpu, begun) = (usage::cpu(), usage::now());
    let count = subject.steady(RATE, length).await?;
    let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
    let stats = receiver.stats().await?;
    let healthy = (10 - stalled) as u64;
    let expected = count * healthy / 10;
    let row = Row::new(name, expected, cpu, wall, &stats);
    let warm = u64::from(RATE) * 2;
    let (mut account, _) = ledger::settle(&subject, &receiver, count + warm, 0).await?;
    account.received += warm;
    running.shutdown(Duration::from_secs(5)).await;
    Ok(row.with(account))
}

/// Waits until the receiver has seen `count` requests.
pub(crate) async fn wait(receiver: &Receiver, count: u64) -> Result<()> {
    while receiver.stats().await?.requests < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn backlog(report: &mut Report, scale: f64) -> Result<()> {
    let (small, large) = (1_000, scaled(100_000, scale));
    let before = claims(small).await?;
    let after = claims(large).await?;
    report.note(format!("a claim beside {small} due deliveries: {:.3} ms (median)", before * 1e3));
    report.note(format!("a claim beside {large} due deliveries: {:.3} ms (median)", after * 1e3));
    report.goal(Goal::at_most("backlog: claim time, large over small", after / before, 1.3));
    Ok(())
}

/// The median duration of a claim of 50 beside `count` due deliveries, in seconds.
async fn claims(count: u64) -> Result<f64> {
    use icp::delivery::{Claim, DeliveryStore, Lease, Next, Settle, Settlement};
    use icp::id::{ClockIds, SessionId};
    use icp::time::{Clock, SystemClock};

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("icp.db");
    let subject = Subject::at(&path, "http://127.0.0.1:9").await?;
    subject.burst(count, 64, None).await?;
    let store = SqliteStore::builder(&path).synchronous(Synchronous::Normal).open().await?;
    let session = SessionId::generate(&ClockIds::new(SystemClock)?);
    store.open_session(session, SystemClock.now()).await?;
    let mut times = Vec::new();
    for round in 0..200 {
        let now = SystemClock.now();
        let begun = usage::now();
        let claim = Claim {
            session,
            now,
            lease_until: now + Duration::from_secs(60),
            limit: 50,
            per_lane: 5,
            without: [].into(),
        };
        let claimed = store.claim(claim).await?;
        if round >= 20 {
            times.push((usage::now() - begun).as_secs_f64());
        }
        let settlements = claimed.deliveries.iter().map(|claimed| Settlement {
            lease: Lease { delivery: claimed.delivery.id, epoch: claimed.delivery.epoch },
            lane: claimed.delivery.lane,
            attempt: None,
            next: Next::Refund { due_at: now, throttled: false },
            block_lane_until: None,
            notice: None,
        });
        store.settle(Settle { settlements: settlements.collect(), now }).await?;
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

async fn memory(report: &mut Report, scale: f64) -> Result<()> {
    let count = scaled(1_000_000, scale);
    let receiver = Receiver::start()?;
    let subject = Subject::new(&receiver.base, 0, Synchronous::Normal).await?;
    let running = subject.start().await?;
    subject.burst(count, 64, Some(Duration::from_secs(86_400))).await?;
    receiver.reset().await?;
    subject.burst(2_000, 64, None).await?;
    wait(&receiver, 2_000).await?;
    let resident = usage::resident_mib();
    report.goal(Goal::at_most(
        format!("memory beside {count} waiting deliveries, MiB"),
        resident,
        150.0,
    ));
    running.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn stores(report: &mut Report, count: u64, databases: &[String]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (mode, name, goal) in
        [(Synchronous::Normal, "sqlite, NORMAL", 60e3), (Synchronous::Full, "sqlite, FULL", 5e3)]
    {
        let path = folder.path().join(name);
        let store = SqliteStore::builder(path).synchronous(mode).open().await?;
        let done = stores::claim_and_settle(&(Arc::new(store) as Arc<dyn Store>), count).await?;
        report.goal(Goal::at_least(
            format!("stores: claimed and settled per second, {name}"),
            done,
            goal,
        ));
    }
    for url in databases {
        let (name, store, goal) = stores::open(url).await?;
        let done = stores::claim_and_settle(&store, count).await?;
        report.goal(Goal::at_least(
            format!("stores: claimed and settled per second, {name}"),
            done,
            goal,
        ));
    }
    Ok(())
}
