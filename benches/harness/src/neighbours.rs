//! Organizations beside each other: one with a backlog, and all with the same.

use std::time::Duration;

use icp::store_sql::sqlite::Synchronous;

use crate::engine::Subject;
use crate::receiver::Receiver;
use crate::report::{Goal, Report, Row};
use crate::{Result, ledger, usage};

/// Events a second of the nine quiet organizations together.
const RATE: u32 = 90;
/// Events of all organizations that come first.
const WARM: u64 = 200;

/// Nine organizations publish ten events a second each: alone, and while the tenth has `backlog`
/// deliveries due.
pub(crate) async fn noisy(report: &mut Report, backlog: u64, length: Duration) -> Result<()> {
    let alone = quiet("nine quiet organizations", 0, length).await?;
    let beside = quiet(&format!("beside a backlog of {backlog}"), backlog, length).await?;
    let (before, after) = (alone.latency_ms[2], beside.latency_ms[2]);
    report.goal(Goal::at_most("noisy: p99 of quiet organizations, ms", after, 2_000.0));
    report.goal(Goal::at_most("noisy: that p99 over theirs alone", after / before, 3.0));
    report.row(alone);
    report.row(beside);
    Ok(())
}

async fn quiet(name: &str, backlog: u64, length: Duration) -> Result<Row> {
    let receiver = Receiver::start()?;
    let subject = Subject::new(&receiver.base, 0, Synchronous::Normal).await?;
    subject.fill(WARM, subject.orgs()).await?;
    subject.fill(backlog, 1).await?;
    let running = subject.start().await?;
    // Connections are made by what was there before.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, begun) = (usage::cpu(), usage::now());
    let count = subject.steady_of(1.., RATE, length).await?;
    let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
    // What is left of the backlog does not matter here; the account counts it as open.
    let published = WARM + backlog + count;
    let (account, stats) = ledger::settle(&subject, &receiver, published, backlog).await?;
    running.shutdown(Duration::from_secs(5)).await;
    Ok(Row::new(name, stats.requests, cpu, wall, &stats).with(account))
}

/// Ten organizations have a tenth of `backlog` each; how even they are served shows when half of
/// it is delivered.
pub(crate) async fn even(report: &mut Report, backlog: u64) -> Result<()> {
    let receiver = Receiver::start()?;
    let subject = Subject::new(&receiver.base, 0, Synchronous::Normal).await?;
    subject.fill(backlog, subject.orgs()).await?;
    let running = subject.start().await?;
    let served = loop {
        let stats = receiver.stats().await?;
        if stats.requests >= backlog / 2 {
            break stats.by_path;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    running.shutdown(Duration::from_secs(5)).await;
    report.note(format!("half of {backlog} equal backlogs: {served:?} deliveries"));
    report.goal(Goal::at_least("even: Jain's index of ten equal backlogs", jain(&served), 0.95));
    Ok(())
}

/// 1 where all have the same, 1/n where one has everything.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn jain(served: &[u64]) -> f64 {
    let (sum, squares) = served.iter().fold((0.0, 0.0), |(sum, squares), count| {
        let count = *count as f64;
        (sum + count, squares + count * count)
    });
    if squares > 0.0 { sum * sum / (served.len() as f64 * squares) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::jain;

    #[test]
    fn an_index_tells_how_even_shares_are() {
        for (served, index) in [(&[5, 5, 5, 5][..], 1.0), (&[8, 0, 0, 0], 0.25), (&[], 0.0)] {
            assert!((jain(served) - index).abs() < 1e-9, "{served:?}");
        }
    }
}
