//! What the cost of a delivery depends on: how many get an event, how large it is, how many tenants
//! there are, what is stored already, and what went wrong before.

use std::time::Duration;

use crate::engine::{Crowd, Subject};
use crate::receiver::Receiver;
use crate::report::{Curve, Goal, Report, Row};
use crate::scenario::{scaled, wait};
use crate::{Result, ledger, usage};

const PUBLISHERS: u64 = 64;
const RATE: u32 = 200;
/// How far apart the cost of a delivery may be as things grow.
pub(crate) const FLAT: f64 = 1.15;

/// The shapes: a name, who gets what, and how many events.
const SHAPES: [(&str, Crowd, u64); 9] = [
    ("1 endpoint, 1 KiB, 10 tenants", Crowd::TEN, 20_000),
    ("fan-out 10", Crowd { endpoints: 10, ..Crowd::TEN }, 2_000),
    ("fan-out 100", Crowd { endpoints: 100, ..Crowd::TEN }, 200),
    ("10 KiB", Crowd { bytes: 10 << 10, ..Crowd::TEN }, 10_000),
    ("256 KiB", Crowd { bytes: 256 << 10, ..Crowd::TEN }, 1_000),
    ("1 tenant", Crowd { orgs: 1, ..Crowd::TEN }, 20_000),
    ("100 tenants", Crowd { orgs: 100, ..Crowd::TEN }, 20_000),
    ("10,000 tenants", Crowd { orgs: 10_000, ..Crowd::TEN }, 20_000),
    ("100 tenants, one hangs", Crowd { orgs: 100, one_stalls_of: 100, ..Crowd::TEN }, 20_000),
];

/// A burst of each shape.
pub(crate) async fn shapes(report: &mut Report, scale: f64) -> Result<()> {
    let mut by_tenants = Curve::new("tenants");
    for (name, crowd, count) in SHAPES {
        let row = burst(name, crowd, scaled(count, scale)).await?;
        if crowd.endpoints == 1 && crowd.bytes == Crowd::TEN.bytes && crowd.one_stalls_of == 0 {
            by_tenants.add(crowd.orgs as u64, &row);
        }
        report.row(row);
    }
    let what = "shapes: CPU per delivery, most over least, of 1 to 10,000 tenants";
    report.goal(Goal::at_most(what, by_tenants.spread(), FLAT));
    by_tenants.sort();
    report.curve(by_tenants);
    Ok(())
}

async fn burst(name: &str, crowd: Crowd, count: u64) -> Result<Row> {
    let receiver = Receiver::start()?;
    let subject = Subject::of(&receiver.base, crowd).await?;
    let running = subject.start().await?;
    let (fan, warm) = (crowd.endpoints as u64, count / 10);
    let hanging = |count: u64| match crowd.one_stalls_of as u64 {
        0 => 0,
        of => (count * fan).div_ceil(of),
    };
    subject.burst(warm, PUBLISHERS, None).await?;
    wait(&receiver, warm * fan - hanging(warm)).await?;
    receiver.reset().await?;
    let (cpu, begun) = (usage::cpu(), usage::now());
    subject.burst(count, PUBLISHERS, None).await?;
    let healthy = count * fan - hanging(count);
    while receiver.stats().await?.healthy < healthy {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
    let stats = receiver.stats().await?;
    let open = hanging(count) + hanging(warm);
    let (mut account, _) = ledger::settle(&subject, &receiver, (count + warm) * fan, open).await?;
    account.received += warm * fan;
    running.shutdown(Duration::from_secs(1)).await;
    Ok(Row::new(name, healthy, cpu, wall, &stats).with(account))
}

/// The cost of a delivery beside ever more that were delivered before, in steps of ten up to
/// `most`.
pub(crate) async fn growth(report: &mut Report, most: u64) -> Result<()> {
    let receiver = Receiver::start()?;
    let subject = Subject::of(&receiver.base, Crowd::TEN).await?;
    let running = subject.start().await?;
    let (mut stored, mut goal, mut curve) = (0, 10_000, Curve::new("stored deliveries"));
    while goal <= most {
        deliver(&subject, &receiver, goal - stored).await?;
        let count = goal.min(20_000);
        let (cpu, begun) = (usage::cpu(), usage::now());
        let stats = deliver(&subject, &receiver, count).await?;
        let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
        let row = Row::new(&format!("beside {goal} stored"), count, cpu, wall, &stats);
        curve.add(goal, &row);
        report.row(row);
        stored = goal + count;
        goal *= 10;
    }
    let what = format!("growth: CPU per delivery, most over least, beside up to {most} stored");
    report.goal(Goal::at_most(what, curve.spread(), FLAT));
    report.curve(curve);
    running.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn deliver(
    subject: &Subject,
    receiver: &Receiver,
    count: u64,
) -> Result<crate::receiver::Stats> {
    receiver.reset().await?;
    subject.burst(count, PUBLISHERS, None).await?;
    wait(receiver, count).await?;
    receiver.stats().await
}

/// How fast a backlog of `count` is delivered that was there before the engine started.
pub(crate) async fn drain(report: &mut Report, count: u64) -> Result<()> {
    let receiver = Receiver::start()?;
    let subject = Subject::of(&receiver.base, Crowd::TEN).await?;
    subject.fill(count, subject.orgs()).await?;
    let (cpu, begun) = (usage::cpu(), usage::now());
    let running = subject.start().await?;
    wait(&receiver, count).await?;
    let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
    let (account, stats) = ledger::settle(&subject, &receiver, count, 0).await?;
    running.shutdown(Duration::from_secs(5)).await;
    report.row(Row::new("backlog drained", count, cpu, wall, &stats).with(account));
    Ok(())
}

/// The receiver refuses everything for `length`, while messages go on being published; then how
/// long it takes until all have arrived.
pub(crate) async fn recovery(report: &mut Report, length: Duration) -> Result<()> {
    let receiver = Receiver::start()?;
    let subject = Subject::of(&receiver.base, Crowd::TEN).await?;
    let running = subject.start().await?;
    receiver.down(true).await?;
    let cpu = usage::cpu();
    let count = subject.steady(RATE, length).await?;
    receiver.down(false).await?;
    let begun = usage::now();
    wait(&receiver, count).await?;
    let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
    let (account, stats) = ledger::settle(&subject, &receiver, count, 0).await?;
    running.shutdown(Duration::from_secs(5)).await;
    report.note(format!(
        "recovery: down for {} s, all {count} arrived {:.1} s after it was up",
        length.as_secs(),
        wall.as_secs_f64()
    ));
    report.row(Row::new("recovery", count, cpu, wall, &stats).with(account));
    Ok(())
}
