//! Deliveries that may have taken processes down run alone, so that each shows whether it does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::dispatch::{self, Work};
use super::room::Room;
use super::settle::Outcome;
use super::{Delivery, Next, Settlement};
use crate::engine::core::Core;

/// With how many rescues a delivery is suspect. One may be bad luck: a node that goes down takes
/// all of its leases with it.
const RESCUES: u32 = 2;

/// How long the last outcomes may take to be recorded while a suspect waits.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn is_suspect(delivery: &Delivery) -> bool {
    delivery.rescues >= RESCUES
}

/// Whether a suspect may go now. The node stands still for each, so that they get no more than half
/// of its time: after one, all others have it for as long.
#[derive(Debug, Default)]
pub(crate) struct Suspects(Mutex<Turn>);

#[derive(Debug, Default)]
struct Turn {
    /// Since when one has the node to itself, or waits for that.
    since: Option<Duration>,
    /// Until when the node is for the others.
    rest: Duration,
}

impl Suspects {
    /// Takes the turn; answers how long to wait for it where it is not free.
    fn begin(&self, now: Duration, poll: Duration) -> Result<(), Duration> {
        let mut turn = self.turn();
        if turn.since.is_some() {
            return Err(poll);
        }
        if turn.rest > now {
            return Err(turn.rest - now);
        }
        turn.since = Some(now);
        Ok(())
    }

    fn end(&self, now: Duration) {
        let mut turn = self.turn();
        if let Some(since) = turn.since.take() {
            turn.rest = now + now.saturating_sub(since);
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of a suspect, which ends with this.
struct Alone(Arc<Core>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.suspects.end(self.0.clock.monotonic());
    }
}

/// Starts the first of the suspects, unless it is not their turn, and gives the rest back.
///
/// It begins when the store has the others back and nothing else is under way, and not before: what
/// is leased still when it takes the node down would be taken for the cause. Nothing else is started
/// until its outcome is recorded, which it is at its attempt deadline at the latest.
pub(crate) fn start(core: &Arc<Core>, suspects: Vec<(Work, Room)>) {
    if suspects.is_empty() {
        return;
    }
    for (work, _) in &suspects {
        dispatch::hold(core, work);
    }
    let mut suspects = suspects.into_iter();
    let poll = core.config.poll;
    let (first, wait) = match core.suspects.begin(core.clock.monotonic(), poll) {
        Ok(()) => (suspects.next().map(|first| (first, Alone(Arc::clone(core)))), poll),
        Err(wait) => (None, wait),
    };
    let others: Vec<Outcome> =
        suspects.map(|(work, room)| give_back(core, &work, room, wait)).collect();
    let core = Arc::clone(core);
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let given_back = core.settler.submit(others).await;
        let safe = given_back.is_ok_and(|answers| answers.iter().all(Result::is_ok));
        let Some(((work, mut room), alone)) = first else { return };
        if let Some(rest) = if safe { emptied(&core).await } else { None } {
            room.widen(rest);
            dispatch::work_on(&core, &work, room).await;
        } else {
            // The queue has no bound, so nothing is refused.
            let _ = core.settler.push(give_back(&core, &work, room, wait));
        }
        drop(alone);
    });
}

/// Waits until nothing else is under way, for as long as that may take at the most, and takes all
/// that room; nothing where that lasts too long or the engine stops.
async fn emptied(core: &Core) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        rest = core.rooms.rest() => rest,
        () = core.stop.cancelled() => None,
        () = tokio::time::sleep(core.config.attempt_deadline + GRACE) => None,
    }
}

fn give_back(core: &Core, work: &Work, room: Room, wait: Duration) -> Outcome {
    core.metrics.unsettled.inc();
    let settlement = Settlement {
        lease: work.lease(),
        lane: work.delivery.lane,
        attempt: None,
        next: Next::Refund { due_at: core.clock.now() + wait, throttled: false },
        block_lane_until: None,
        notice: None,
    };
    Outcome { settlement, target: None, room: Some(room), waited: work.waited }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_each_the_others_have_the_node_for_as_long() {
        let secs = Duration::from_secs;
        let suspects = Suspects::default();
        assert_eq!(suspects.begin(secs(10), secs(1)), Ok(()));
        assert_eq!(suspects.begin(secs(12), secs(1)), Err(secs(1)), "one at a time");
        suspects.end(secs(17));
        assert_eq!(suspects.begin(secs(20), secs(1)), Err(secs(4)));
        assert_eq!(suspects.begin(secs(24), secs(1)), Ok(()));
    }
}
