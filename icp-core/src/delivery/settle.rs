//! Recording outcomes in batches, for as long as it takes.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tracing::Instrument;

use super::room::Room;
use super::{Next, Settle, Settled, Settlement};
use crate::analytics::tally::Target;
use crate::engine::core::Core;
use crate::error::{Code, Error, Fault, Result};
use crate::telemetry::{Ended, panic_words};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// An outcome on its way into the store.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) settlement: Settlement,
    /// Whose it is, for analytics; none where no attempt was made.
    pub(crate) target: Option<Target>,
    /// The attempt's room on this node, given back when the outcome is recorded; none where no
    /// attempt was made.
    pub(crate) room: Option<Room>,
    /// Whether the delivery waited in the store before, so that others of its lane may wait
    /// behind it.
    pub(crate) waited: bool,
}

/// Writes a batch of outcomes, and gives back what their attempts held.
///
/// Where they cannot be written at all, the leases would stay with this node for ever, as it
/// still shows life: so it gives up its session, and whoever reaps that takes them over.
pub(crate) async fn record(core: Weak<Core>, outcomes: Vec<Outcome>) -> Result<Vec<()>> {
    let Some(core) = core.upgrade() else {
        return Err(Error::new(Code::Internal, "the engine is gone"));
    };
    let waited = outcomes.iter().any(|outcome| outcome.waited);
    let mut targets = Vec::with_capacity(outcomes.len());
    let (settlements, rooms): (Vec<_>, Vec<_>) = outcomes
        .into_iter()
        .map(|outcome| {
            targets.push(outcome.target);
            (outcome.settlement, outcome.room)
        })
        .unzip();
    let settlements: Arc<[Settlement]> = settlements.into();
    let span = tracing::debug_span!("settle", icp.outcomes = settlements.len());
    let written = write(&core, &settlements).instrument(span);
    let recorded = AssertUnwindSafe(written).catch_unwind().await;
    let recorded = recorded.unwrap_or_else(|panic| {
        core.metrics.panics.inc();
        tracing::error!(panic = panic_words(&*panic), "recording outcomes panicked");
        Err(Error::new(Code::Internal, "recording outcomes broke off"))
    });
    match &recorded {
        Ok(settled) => {
            core.metrics.organizations.settled(&targets, &settlements, settled);
            core.tally.count(&targets, &settlements, settled, core.clock.now());
            core.live.tell(&targets, &settlements, settled);
        }
        Err(_) => core.session.renounce(),
    }
    let mut leases = core.leases();
    for (settlement, room) in settlements.iter().zip(&rooms) {
        if room.is_none() {
            continue;
        }
        core.metrics.unsettled.dec();
        // The delivery may have been taken away meanwhile, and be leased again.
        if leases.get(&settlement.lease.delivery).is_some_and(|held| held.lease == settlement.lease)
        {
            leases.remove(&settlement.lease.delivery);
        }
        if recorded.is_ok() {
            let released = matches!(settlement.next, Next::Refund { throttled: false, .. });
            let counter = if released { &core.released } else { &core.finished };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    drop(leases);
    drop(rooms);
    if waited || core.rooms.were_passed_over() {
        // Their lanes or organizations have room again. Without this, a lane with a backlog would move on with
        // each poll only.
        core.due.notify_one();
    }
    if settlements.iter().any(|settlement| settlement.notice.is_some()) {
        core.outbox.notify_one();
    }
    recorded.map(|settled| vec![(); settled.len()])
}

/// While the store fails in a way that can pass, tries again. Repeating is harmless: what an
/// earlier try recorded answers as stale.
async fn write(core: &Arc<Core>, settlements: &Arc<[Settlement]>) -> Result<Vec<Settled>> {
    let mut pause = FIRST_PAUSE;
    let started = core.clock.monotonic();
    loop {
        let settle = Settle { settlements: Arc::clone(settlements), now: core.clock.now() };
        match core.store.settle(settle).await {
            Ok(settled) => {
                core.metrics
                    .settle_seconds
                    .observe((core.clock.monotonic() - started).as_secs_f64());
                count(core, settlements, &settled);
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
            Next::Retry { due_at, .. } | Next::StepAside { due_at, .. } => {
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
