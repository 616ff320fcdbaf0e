//! Deliveries that may have taken processes down run alone, so that each shows whether it does.

use std::sync::Arc;
use std::time::Duration;

use super::dispatch::{self, Work};
use super::room::Room;
use super::settle::Outcome;
use super::{Delivery, Next, Settlement};
use crate::engine::core::Core;

/// With how many rescues a delivery is suspect. One may be bad luck: a node that goes down takes
/// all of its leases with it.
const RESCUES: u32 = 2;

/// How long one under way has to itself. What takes a process down mostly does so at once; one
/// that merely hangs must not hold up the node for longer.
const ALONE: Duration = Duration::from_secs(2);

pub(crate) fn is_suspect(delivery: &Delivery) -> bool {
    delivery.rescues >= RESCUES
}

/// Starts the first of the suspects, unless another one is under way, and gives the rest back.
///
/// It begins when the store has the others back and not before: were they leased still when it
/// takes the node down, they would be taken for the cause.
pub(crate) fn start(core: &Arc<Core>, suspects: Vec<(Work, Room)>) {
    if suspects.is_empty() {
        return;
    }
    for (work, _) in &suspects {
        dispatch::hold(core, work);
    }
    let mut suspects = suspects.into_iter();
    let alone = Arc::clone(&core.suspects).try_acquire_owned().ok();
    let first = if alone.is_some() { suspects.next() } else { None };
    let others: Vec<Outcome> = suspects.map(|(work, room)| give_back(core, &work, room)).collect();
    let core = Arc::clone(core);
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let given_back = core.settler.submit(others).await;
        let safe = given_back.is_ok_and(|answers| answers.iter().all(Result::is_ok));
        if let Some((work, room)) = first {
            if safe {
                dispatch::work_on(&core, &work, room).await;
            } else {
                // The queue has no bound, so nothing is refused.
                let _ = core.settler.push(give_back(&core, &work, room));
            }
        }
        drop(alone);
    });
}

/// Waits for a suspect under way: were more claimed beside it, they could go down with it before
/// the store has them back. Ends with the suspect, with the engine, and after a while.
pub(crate) async fn settled(core: &Core) {
    tokio::select! {
        _ = core.suspects.acquire() => {}
        () = core.stop.cancelled() => {}
        () = tokio::time::sleep(ALONE) => {}
    }
}

fn give_back(core: &Core, work: &Work, room: Room) -> Outcome {
    core.metrics.unsettled.inc();
    let settlement = Settlement {
        lease: work.lease(),
        lane: work.delivery.lane,
        attempt: None,
        next: Next::Refund { due_at: core.clock.now() + core.config.poll, throttled: false },
        block_lane_until: None,
        notice: None,
    };
    Outcome { settlement, room: Some(room), waited: work.waited }
}
