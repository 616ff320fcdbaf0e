//! What workers cost: the way there and back, kills, neighbours, memory.

use std::time::Duration;

use icp::id::OrgId;
use icp::sandbox::{Limits, Sandbox};
use tokio::task::JoinSet;

use super::{USUAL, call, javascript, job, order, plan, quantile, sandbox, sorted};
use crate::report::{Goal, Report};
use crate::{Result, usage};

/// How often the quiet and the attacked take turns.
const TURNS: usize = 7;
const KILLS: usize = 20;

/// The time between two calls of an organization that is not busy.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) async fn run(report: &mut Report, n: f64, scale: f64) -> Result<()> {
    let (sandbox, program) = sandbox(None, Limits::default())?;
    report.note(format!("workers are {program}"));
    let turn = Duration::from_secs_f64(scale.clamp(0.1, 3.0));
    let alone = Caller::new(sandbox.clone(), "alone")?;
    alone.calls(turn).await?;
    let spaced = alone.calls_after(PAUSE, turn).await?;
    let what = "transforms: JavaScript, round trip through a warm worker, best case in N";
    report.goal(Goal::at_most(what, spaced[0] / n, 6.0));
    let took = alone.calls(turn).await?;
    report.note(format!(
        "a round trip with a pause before: p50 {:.0} µs, best {:.0} µs",
        quantile(&spaced, 0.5) * 1e6,
        spaced[0] * 1e6
    ));
    report.note(format!(
        "a round trip right after another: p50 {:.0} µs, best {:.0} µs",
        quantile(&took, 0.5) * 1e6,
        took[0] * 1e6
    ));
    let per_second = count(took.len()) / took.iter().sum::<f64>();
    report.note(format!("{per_second:.0} calls a second of one worker, one after the other"));
    let what = "transforms: calls a second of one worker, times N";
    report.goal(Goal::at_least(what, per_second * n, 0.05));
    kills(report, &sandbox).await?;
    neighbours(report, &sandbox, turn).await?;
    memory(report, &sandbox).await
}

/// One organization that maps orders.
#[derive(Clone)]
struct Caller {
    sandbox: Sandbox,
    org: OrgId,
    plan: icp::transform::Plan,
    input: String,
}

impl Caller {
    fn new(sandbox: Sandbox, name: &str) -> Result<Self> {
        let plan = plan(job("javascript"))?;
        Ok(Self { sandbox, org: OrgId::new(name)?, plan, input: order(USUAL) })
    }

    /// Calls one after the other; how many seconds each took, the shortest first.
    async fn calls(&self, length: Duration) -> Result<Vec<f64>> {
        self.calls_after(Duration::ZERO, length).await
    }

    /// The same with a pause before each, in which the worker can prepare. In a task, as an engine
    /// calls: what waits beside the runtime is woken by another thread.
    async fn calls_after(&self, pause: Duration, length: Duration) -> Result<Vec<f64>> {
        let caller = self.clone();
        let mut calls: JoinSet<Result<Vec<f64>>> = JoinSet::new();
        calls.spawn(async move {
            let begun = usage::now();
            let mut took = Vec::new();
            while usage::now() - begun < length {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let begun = usage::now();
                call(&caller.sandbox, &caller.org, &caller.plan, &caller.input).await?;
                took.push((usage::now() - begun).as_secs_f64());
            }
            Ok(sorted(took))
        });
        calls.join_next().await.ok_or("no task was spawned")??
    }
}

/// Programs that never return, each another.
struct Villain {
    sandbox: Sandbox,
    org: OrgId,
    programs: usize,
}

impl Villain {
    async fn attack(&mut self) -> Result<()> {
        self.programs += 1;
        let source =
            format!("Array.prototype.reverse.call({{ length: 2 ** 53 - 1 }}) // {}", self.programs);
        match call(&self.sandbox, &self.org, &javascript(&source)?, "{}").await {
            Err(error) if error.to_string().contains("was killed") => Ok(()),
            other => Err(format!("a program that hangs was not killed: {other:?}").into()),
        }
    }
}

async fn kills(report: &mut Report, sandbox: &Sandbox) -> Result<()> {
    let limits = sandbox.limits();
    let hard = f64::from(limits.deadline_ms + limits.grace_ms) / 1e3;
    let mut villain = Villain { sandbox: sandbox.clone(), org: OrgId::new("killed")?, programs: 0 };
    let (mut late, mut again) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        let trivial = javascript("return 1")?;
        let begun = usage::now();
        call(sandbox, &villain.org, &trivial, "1").await?;
        let fresh = usage::now();
        call(sandbox, &villain.org, &trivial, "1").await?;
        let warm = usage::now();
        again.push(((fresh - begun).as_secs_f64() - (warm - fresh).as_secs_f64()) * 1e3);
        let begun = usage::now();
        villain.attack().await?;
        late.push(((usage::now() - begun).as_secs_f64() - hard) * 1e3);
    }
    let (late, again) = (quantile(&sorted(late), 0.5), quantile(&sorted(again), 0.5));
    let what = "transforms: a hang is reaped after its hard deadline, median in ms";
    report.goal(Goal::at_most(what, late, 25.0));
    let what = "transforms: a first call beyond a second one, so the new worker, median in ms";
    report.goal(Goal::at_most(what, again, 10.0));
    Ok(())
}

/// Another organization hangs without a pause, in turns with quiet.
async fn neighbours(report: &mut Report, sandbox: &Sandbox, turn: Duration) -> Result<()> {
    let neighbour = Caller::new(sandbox.clone(), "neighbour")?;
    neighbour.calls(turn).await?;
    let mut ratios: [Vec<f64>; 3] = Default::default();
    for number in 0..TURNS {
        let quiet = neighbour.calls(turn).await?;
        let mut villain = Villain {
            sandbox: sandbox.clone(),
            org: OrgId::new("villain")?,
            programs: number * 1_000,
        };
        let mut attack: JoinSet<Result<()>> = JoinSet::new();
        attack.spawn(async move {
            loop {
                villain.attack().await?;
            }
        });
        let attacked = neighbour.calls(turn).await?;
        if let Some(Ok(Err(error))) = attack.try_join_next() {
            return Err(error);
        }
        attack.shutdown().await;
        ratios[0].push(quantile(&attacked, 0.5) / quantile(&quiet, 0.5));
        ratios[1].push(quantile(&attacked, 0.99) / quantile(&quiet, 0.99));
        let rate = |took: &[f64]| count(took.len()) / took.iter().sum::<f64>();
        ratios[2].push(rate(&attacked) / rate(&quiet));
    }
    let [p50, p99, rate] = ratios.map(|ratios| quantile(&sorted(ratios), 0.5));
    let beside = "transforms: beside an organization that hangs,";
    report.goal(Goal::at_most(format!("{beside} p50 over quiet"), p50, 1.5));
    report.goal(Goal::at_most(format!("{beside} p99 over quiet"), p99, 5.0));
    report.goal(Goal::at_least(format!("{beside} throughput over quiet"), rate, 0.95));
    Ok(())
}

async fn memory(report: &mut Report, sandbox: &Sandbox) -> Result<()> {
    let fresh = Caller::new(sandbox.clone(), "fresh")?;
    call(sandbox, &fresh.org, &fresh.plan, &fresh.input).await?;
    let workers = sandbox.idle_workers();
    let worker = workers.iter().find(|(org, _)| *org == fresh.org).and_then(|(_, pid)| *pid);
    let mib = worker.map_or(0.0, usage::resident_mib_of);
    let what = "transforms: an idle worker after one call, all engines in it, MiB";
    report.goal(Goal::at_most(what, mib, 8.0));
    let own = worker.map_or(0.0, usage::own_mib_of);
    report.note(format!("{own:.1} MiB of an idle worker are its own, the rest is its program"));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn count(of: usize) -> f64 {
    of as f64
}
