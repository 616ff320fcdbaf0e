//! From a lease to its outcome: at most as many at once as the node has room for.
//!
//! Thousands are under way at once, and a task is copied as a whole each time it is wrapped or
//! spawned. So what a delivery seldom needs is boxed, and so is the attempt, which is wrapped often.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::attempt::{self, Ending};
use super::room::Room;
use super::{Delivery, Lease, Next, Settlement, settle};
use crate::analytics::tally::Target;
use crate::engine::core::{Core, HeldLease};
use crate::event::Event;
use crate::integration::{Failure, Hint};
use crate::notice;
use crate::telemetry::panic_words;

/// A leased delivery to work on.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) delivery: Delivery,
    pub(crate) event: Arc<Event>,
    /// Until when the lease can be trusted, by this process's own clock.
    pub(crate) trusted_until: Duration,
    /// Whether it waited in the store before, so that others of its lane may wait behind it.
    pub(crate) waited: bool,
}

impl Work {
    pub(crate) fn lease(&self) -> Lease {
        Lease { delivery: self.delivery.id, epoch: self.delivery.epoch }
    }

    fn target(&self) -> Target {
        (self.delivery.org.clone(), self.delivery.integration.clone())
    }
}

/// Whether this node may take leases: not while the others may take it for dead.
pub(crate) fn may_claim(core: &Core) -> bool {
    let patience = core.config.beat * (core.config.missed_beats - 1);
    core.session.silence(core.clock.monotonic()) < patience && !core.session.is_down()
}

/// Starts work on a leased delivery; its room is given back when its outcome is recorded.
pub(crate) fn start(core: &Arc<Core>, work: Work, room: Room) {
    hold(core, &work);
    core.tasks.spawn(task(Arc::clone(core), work, room));
}

async fn task(core: Arc<Core>, work: Work, room: Room) {
    work_on(&core, &work, room).await;
}

/// Has the lease renewed until its outcome is recorded.
pub(crate) fn hold(core: &Core, work: &Work) {
    let held = HeldLease { lease: work.lease(), until: work.trusted_until };
    core.leases().insert(work.delivery.id, held);
}

/// Makes the attempt and hands its outcome on.
pub(crate) async fn work_on(core: &Core, work: &Work, room: Room) {
    core.metrics.in_flight.inc();
    let settlement = whatever(core, work).await;
    core.metrics.in_flight.dec();
    core.metrics.unsettled.inc();
    // The queue has no bound, so nothing is refused.
    let target = Some(work.target());
    let outcome = settle::Outcome { settlement, target, room: Some(room), waited: work.waited };
    let _ = core.settler.push(outcome);
}

/// As [`outcome`]; where working the outcome out panics as well, the lease is given back, since a
/// lease without a settlement would be held for ever.
async fn whatever(core: &Core, work: &Work) -> Settlement {
    match AssertUnwindSafe(outcome(core, work)).catch_unwind().await {
        Ok(settlement) => settlement,
        Err(panic) => {
            panicked(core, work, &*panic, "the outcome of an attempt panicked");
            settlement(work, attempt::later(core), None)
        }
    }
}

async fn outcome(core: &Core, work: &Work) -> Settlement {
    let progress = attempt::Progress::default();
    let span = span(work);
    if let (Some(parent), Some(context)) = (&core.span_parent, &work.event.trace) {
        parent.set(&span, context);
    }
    let run = Box::pin(attempt::run(core, work, &progress)).instrument(span.clone());
    let attempt = AssertUnwindSafe(run).catch_unwind();
    let attempt = tokio::time::timeout(core.config.attempt_deadline, attempt);
    let made = tokio::select! {
        biased;
        made = attempt => Some(made),
        () = core.abort.cancelled() => None,
    };
    let ending = match made {
        Some(Ok(Ok(ending))) => ending,
        Some(Ok(Err(panic))) => {
            panicked(core, work, &*panic, "an attempt panicked");
            let failure = failure("panic", "the attempt broke off; see the log");
            Box::pin(attempt::broken(core, work, failure, &progress)).await
        }
        Some(Err(_)) => {
            let failure = failure("timeout_attempt", "the attempt took too long");
            Box::pin(attempt::broken(core, work, failure, &progress)).await
        }
        None => Ending::released(core.clock.now()),
    };
    if let Some(attempt) = &ending.attempt {
        span.record("icp.attempt.outcome", attempt.outcome.name());
    }
    let notice = match &ending.next {
        Next::Dead { reason } => Box::pin(notice::dead(core, work, reason)).await,
        _ => None,
    };
    settlement(work, ending, notice)
}

/// At a level that is off by default: thousands of attempts begin in a second.
fn span(work: &Work) -> Span {
    let delivery = &work.delivery;
    tracing::debug_span!(
        "attempt",
        icp.org = %delivery.org,
        icp.event.id = %delivery.event,
        icp.delivery.id = %delivery.id,
        icp.integration.id = %delivery.integration,
        icp.attempt.number = delivery.tries,
        icp.attempt.outcome = Empty,
        icp.trace.parent = work.event.trace.as_ref().map(display),
    )
}

fn panicked(core: &Core, work: &Work, panic: &(dyn Any + Send), what: &str) {
    core.metrics.panics.inc();
    tracing::error!(
        icp.delivery.id = %work.delivery.id,
        panic = panic_words(panic),
        "{what}"
    );
}

fn settlement(work: &Work, ending: Ending, notice: Option<Arc<Event>>) -> Settlement {
    Settlement {
        lease: work.lease(),
        lane: work.delivery.lane,
        attempt: ending.attempt,
        next: ending.next,
        block_lane_until: ending.block_lane_until,
        notice,
    }
}

fn failure(class: &str, message: &str) -> Failure {
    Failure { class: class.to_owned(), message: message.to_owned(), hint: Hint::Retry }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_delivery_under_way_is_small() {
        let run = size::<&'static Core, &'static Work, &'static attempt::Progress, _>(attempt::run);
        for (what, bytes) in [("the task", size(task)), ("its attempt", run)] {
            assert!(bytes <= 2_048, "{what} has {bytes} bytes: box what it seldom needs");
        }
    }
}
