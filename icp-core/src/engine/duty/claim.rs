//! Takes due deliveries, as many as there is room for. When told that some are due, when the
//! next gets due, and every `poll`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::delivery::dispatch::{self, Work};
use crate::delivery::{Claim, LaneId, suspect};
use crate::engine::core::Core;
use crate::engine::doze::Expected;
use crate::error::{Code, Error, Result};
use crate::time::Timestamp;

/// The shortest time between two claims that bring less than was asked for.
const BREATH: Duration = Duration::from_millis(2);

/// Into how many shares a claim is divided at the most.
const SHARES: usize = 4;

/// The lanes among which a claim is divided: those that gave something to the last two.
///
/// In the long run lanes take turns by their passes, whatever one claim takes of each. With a share
/// for each of four, a lane that waits alone gives a quarter of each claim, at the cost of a whole.
#[derive(Debug, Default)]
struct Shares {
    last: HashSet<LaneId>,
    before: HashSet<LaneId>,
}

impl Shares {
    /// How many deliveries of one lane a claim of `limit` takes. Where the node is nearly `full`
    /// few, so that no organization gets far beyond its share.
    fn per_lane(&self, limit: usize, full: bool) -> usize {
        let lanes = match self.last.union(&self.before).count() {
            0 => SHARES,
            lanes => lanes.min(SHARES),
        };
        limit.div_ceil(if full { SHARES } else { lanes }).max(1)
    }

    /// Notes which lanes gave something to a claim of `limit`. A small one tells little.
    fn learn(&mut self, limit: usize, lanes: impl Iterator<Item = LaneId>) {
        if limit < SHARES {
            return;
        }
        std::mem::swap(&mut self.last, &mut self.before);
        self.last.clear();
        self.last.extend(lanes);
    }
}

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut shares = Shares::default();
    loop {
        let wait = match room(&core, &stop).await {
            None => return,
            Some(_) if !dispatch::may_claim(&core) => core.config.beat,
            Some(room) => match once(&core, room, &mut shares).await {
                Ok(wait) => wait,
                Err(error) => {
                    core.metrics.store_errors.inc();
                    if may_have_claimed(&error) {
                        core.session.renounce();
                    }
                    if error.code() != Code::LeaseLost {
                        tracing::warn!(
                            icp.error = error.code().as_str(),
                            "a claim failed: {error}"
                        );
                    }
                    core.config.poll
                }
            },
        };
        if wait.is_zero() {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.doze().sleep(wait) => {}
            () = core.due.notified() => tokio::time::sleep(BREATH.min(wait)).await,
        }
    }
}

/// Whether a claim that failed so may have leased deliveries all the same, its answer being lost.
/// Nobody holds those leases then, and they do not end while their session shows life: so it is
/// given up, and the reaper takes them over.
fn may_have_claimed(error: &Error) -> bool {
    !matches!(
        error.code(),
        Code::LeaseLost
            | Code::Overloaded
            | Code::StoreFull
            | Code::StoreLocked
            | Code::StoreReadOnly
    )
}

/// Waits for room for one attempt and takes what else there is, up to a batch.
async fn room(core: &Arc<Core>, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
    let mut first = tokio::select! {
        () = stop.cancelled() => return None,
        permit = core.rooms.one() => permit?,
    };
    if let Some(rest) = core.rooms.take(core.config.claim_batch - 1) {
        first.merge(rest);
    }
    Some(first)
}

/// Claims once; answers how long to wait before the next claim.
async fn once(
    core: &Arc<Core>,
    mut room: OwnedSemaphorePermit,
    shares: &mut Shares,
) -> Result<Duration> {
    let started = core.clock.monotonic();
    let now = core.clock.now();
    let limit = room.num_permits();
    let waiting = core.waiting.load(Ordering::Acquire);
    let claim = Claim {
        session: core.session.id(),
        now,
        lease_until: now + core.config.lease,
        limit,
        per_lane: shares.per_lane(limit, core.rooms.are_nearly_full()),
        without: core.rooms.served(limit),
    };
    let claimed = core.store.claim(claim).await?;
    core.metrics.claim_seconds.observe((core.clock.monotonic() - started).as_secs_f64());
    let count = claimed.deliveries.len();
    core.doze().expect(Expected::Delivery, core.until(claimed.next_due));
    if count > 0 {
        core.stir();
    }
    core.metrics.claimed.inc_by(count as u64);
    core.metrics.probes.inc_by(claimed.probes);
    core.metrics.throttled.inc_by(claimed.throttled);
    core.metrics.unreadable.inc_by(claimed.unreadable);
    shares.learn(limit, claimed.deliveries.iter().map(|claimed| claimed.delivery.lane));
    let mut suspects = Vec::new();
    for claimed in claimed.deliveries {
        let Some(permit) = room.split(1) else { break };
        let permit = core.rooms.give(&claimed.delivery.org, permit);
        let trusted_until = started + core.config.lease;
        let (delivery, event) = (claimed.delivery, claimed.event);
        let work = Work { delivery, event, trusted_until, waited: true };
        if suspect::is_suspect(&work.delivery) {
            suspects.push((work, permit));
        } else {
            dispatch::start(core, work, permit);
        }
    }
    suspect::start(core, suspects);
    let idle = count == 0 && core.leases().is_empty();
    let seen = if idle { waiting } else { i64::try_from(count).unwrap_or_default() };
    core.waiting.fetch_sub(seen, Ordering::AcqRel);
    if core.waiting.load(Ordering::Acquire) < 0 {
        core.waiting.store(0, Ordering::Release);
    }
    drop(room);
    Ok(if count == limit { Duration::ZERO } else { until(core, now, claimed.next_due, count) })
}

fn until(core: &Core, now: Timestamp, next_due: Option<Timestamp>, count: usize) -> Duration {
    if count > 0 {
        return BREATH;
    }
    let poll = core.config.poll;
    next_due.map_or(poll, |due| due.since(now).clamp(BREATH, poll))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(names: &str) -> impl Iterator<Item = LaneId> {
        names.bytes().map(|name| LaneId::from_bytes([name; 16]))
    }

    #[test]
    fn a_claim_is_divided_among_the_lanes_that_gave_something_of_late() {
        let mut shares = Shares::default();
        assert_eq!(shares.per_lane(100, false), 25, "who waits is not known yet");
        for (given, per_lane) in [
            ("aaa", 100),
            ("aaa", 100),
            ("ab", 50),
            ("c", 34),
            ("cd", 50),
            ("abcdef", 25),
            ("a", 25),
            ("a", 100),
            ("", 100),
            ("", 25),
        ] {
            shares.learn(100, lanes(given));
            assert_eq!(shares.per_lane(100, false), per_lane, "after {given:?}");
            assert_eq!(shares.per_lane(100, true), 25, "after {given:?}");
        }
        assert_eq!(shares.per_lane(1, false), 1);
    }

    #[test]
    fn a_small_claim_teaches_nothing() {
        let mut shares = Shares::default();
        shares.learn(100, lanes("abcd"));
        for _ in 0..2 {
            shares.learn(1, lanes("a"));
        }
        assert_eq!(shares.per_lane(100, false), 25);
    }
}
