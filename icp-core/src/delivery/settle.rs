//! Recording outcomes in batches, for as long as it takes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Next, Settle, Settled, Settlement};
use crate::engine::core::Core;
use crate::error::{Code, Error, Fault, Result};
use crate::telemetry::Ended;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Writes a batch of outcomes; while the store fails in a way that can pass, tries again.
///
/// Repeating is harmless: what an earlier try recorded answers as stale.
pub(crate) async fn record(core: Weak<Core>, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
    let Some(core) = core.upgrade() else {
        return Err(Error::new(Code::Internal, "the engine is gone"));
    };
    let mut pause = FIRST_PAUSE;
    let started = core.clock.monotonic();
    loop {
        let settle = Settle { settlements: settlements.clone(), now: core.clock.now() };
        match core.store.settle(settle).await {
            Ok(settled) => {
                core.metrics
                    .settle_seconds
                    .observe((core.clock.monotonic() - started).as_secs_f64());
                count(&core, &settlements, &settled);
                return Ok(settled);
            }
            Err(error) => {
                core.metrics.store_errors.inc();
                let hopeless = error.fault() == Fault::Permanent || core.give_up.is_cancelled();
                tracing::warn!(
                    icp.error = error.code().as_str(),
                    icp.outcomes = settlements.len(),
                    icp.kept = !hopeless,
                    "outcomes could not be recorded"
                );
                if hopeless {
                    return Err(error);
                }
            }
        }
        tokio::select! {
            () = core.give_up.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn count(core: &Arc<Core>, settlements: &[Settlement], settled: &[Settled]) {
    let mut due = 0;
    let mut soon = false;
    let now = core.clock.now();
    for (settlement, settled) in settlements.iter().zip(settled) {
        if *settled == Settled::Stale {
            core.metrics.stale_outcomes.inc();
            continue;
        }
        match &settlement.next {
            Next::Retry { due_at, .. } => {
                core.metrics.retried.inc();
                due += usize::from(*due_at <= now);
                soon |= core.is_soon(*due_at, now);
            }
            Next::Refund { due_at, .. } => {
                core.metrics.refunded.inc();
                due += usize::from(*due_at <= now);
                soon |= core.is_soon(*due_at, now);
            }
            next => {
                let state = next.state().as_str();
                core.metrics.ended.get_or_create(&Ended { state }).inc();
            }
        }
    }
    if due > 0 {
        core.announce(due);
    } else if soon || core.waiting.load(Ordering::Acquire) > 0 {
        core.due.notify_one();
    }
}
