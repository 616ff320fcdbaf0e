//! A thousand organizations on one host.

use icp::sandbox::Limits;
use tokio::task::JoinSet;

use super::{USUAL, call, job, order, plan, quantile, sandbox, sorted};
use crate::report::{Goal, Report};
use crate::{Result, usage};

const ORGS: usize = 1_000;

/// With the default number of workers, which are started anew for nearly each call, and with one
/// for each fourth organization.
pub(crate) async fn run(report: &mut Report, scale: f64) -> Result<()> {
    let calls = if scale < 0.5 { 1 } else { 3 };
    for workers in [None, Some(ORGS / 4)] {
        crowd(report, workers, calls).await?;
    }
    Ok(())
}

async fn crowd(report: &mut Report, workers: Option<usize>, calls: usize) -> Result<()> {
    let (sandbox, _) = sandbox(workers, Limits::default())?;
    let (plan, input) = (plan(job("javascript"))?, order(USUAL));
    let begun = usage::now();
    let mut orgs: JoinSet<Result<Vec<f64>>> = JoinSet::new();
    for number in 0..ORGS {
        let org = icp::id::OrgId::new(format!("org-{number}"))?;
        let (sandbox, plan, input) = (sandbox.clone(), plan.clone(), input.clone());
        orgs.spawn(async move {
            let mut took = Vec::new();
            for _ in 0..calls {
                let begun = usage::now();
                call(&sandbox, &org, &plan, &input).await?;
                took.push((usage::now() - begun).as_secs_f64());
            }
            Ok(took)
        });
    }
    let (mut took, mut served, mut most, mut memory) = (Vec::new(), 0, 0, 0.0_f64);
    while let Some(org) = orgs.join_next().await {
        if let Ok(found) = org? {
            served += 1;
            took.extend(found);
        }
        if served % 50 == 0 {
            let idle = sandbox.idle_workers();
            most = most.max(idle.len());
            let own = idle.iter().filter_map(|(_, pid)| *pid).map(usage::own_mib_of);
            memory = memory.max(own.sum());
        }
    }
    let took = sorted(took);
    let wall = (usage::now() - begun).as_secs_f64();
    let workers = workers.map_or_else(|| "default".to_owned(), |most| most.to_string());
    report.note(format!(
        "{ORGS} organizations at once, {calls} calls each, {workers} workers: {:.1} s, p50 {:.0} ms, p99 \
         {:.0} ms, at most {most} idle workers with {memory:.0} MiB of their own together, host {:.0} MiB",
        wall,
        quantile(&took, 0.5) * 1e3,
        quantile(&took, 0.99) * 1e3,
        usage::resident_mib(),
    ));
    let what = format!("transforms: organizations that got all answers, {workers} workers");
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    report.goal(Goal::at_least(what, served as f64, ORGS as f64));
    Ok(())
}
