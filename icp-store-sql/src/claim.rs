//! Claims: due deliveries of the lanes that go first are leased to a node.

pub(crate) mod eligible;
pub(crate) mod events;
pub(crate) mod heads;
pub(crate) mod unreadable;
pub(crate) mod wake;

use std::collections::HashMap;
use std::sync::Arc;

use icp_core::delivery::{Claim, Claimed, ClaimedDelivery, Delivery, DeliveryState, Lane};
use icp_core::event::Event;
use icp_core::id::EventId;
use icp_core::time::Timestamp;

use crate::error::{Failure, corrupt};
use crate::link::Conn;
use crate::meter::Meters;
use crate::statement::{Script, padded};
use crate::{lane, session};
use eligible::{Width, eligible};
use heads::{Head, heads, whole};

/// What a claim leased, its events still to be read.
pub(crate) struct Leased {
    deliveries: Vec<Delivery>,
    next_due: Option<Timestamp>,
    probes: u64,
    throttled: u64,
    /// The names of what could not be read, and ended.
    unreadable: Vec<String>,
}

impl Leased {
    pub(crate) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    pub(crate) fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Adds the events; answers beside it what has lost its event.
    pub(crate) fn with(self, events: &HashMap<EventId, Arc<Event>>) -> (Claimed, Vec<Delivery>) {
        let Self { deliveries, next_due, probes, throttled, unreadable } = self;
        let unreadable = unreadable.len() as u64;
        let (mut whole, mut lost) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            match events.get(&delivery.event).cloned() {
                Some(event) => whole.push(ClaimedDelivery { delivery, event }),
                None => lost.push(delivery),
            }
        }
        (Claimed { deliveries: whole, next_due, probes, throttled, unreadable }, lost)
    }
}

/// Leases due deliveries of the lanes that go first.
pub(crate) async fn lease(
    conn: &mut Conn<'_>,
    claim: &Claim,
    width: &Width,
) -> Result<Leased, Failure> {
    session::hold(conn, claim.session).await?;
    wake::turn_on(conn, claim).await?;
    let (mut taken, mut unreadable): (Vec<Delivery>, Vec<String>) = Default::default();
    let (mut probes, mut throttled) = (0, 0);
    while taken.len() < claim.limit {
        let most = width.lanes(conn.dialect(), claim.limit);
        let lanes = eligible(conn, claim, most).await?;
        if lanes.is_empty() {
            break;
        }
        let mut meters = Meters::load(conn, lanes.iter().map(|(lane, _)| lane)).await?;
        let (changed, heads) = take(conn, claim, lanes, &mut meters).await?;
        let picked = match whole(conn, &heads).await {
            Err(failure) if failure.is_corrupt() => {
                let ended = unreadable::end(conn, &heads, claim.now).await?;
                if ended.is_empty() {
                    return Err(failure);
                }
                // Nothing was written of the lanes, so that they are looked at once more.
                unreadable.extend(ended);
                continue;
            }
            picked => picked?,
        };
        probes += changed.iter().filter(|lane| is_probed(lane)).count() as u64;
        throttled += changed.iter().filter(|lane| lane.blocked_until.is_some()).count() as u64;
        let mut script = Script::default();
        meters.write(&mut script);
        lane::charge(&mut script, &changed);
        let before = taken.len();
        taken.extend(picked);
        write_leases(&mut script, claim, &heads, &mut taken[before..]);
        if !script.execute(conn).await? {
            return Err(corrupt("a ready delivery or its lane is not there").into());
        }
        width.learn(changed.len(), taken.len() == claim.limit);
        // What was left out by `per_lane` is for the next claim, so that lanes take turns.
        if taken.len() > before {
            break;
        }
    }
    // Who got all that was asked for asks again at once.
    let full = taken.len() == claim.limit;
    let next_due = if full { None } else { wake::next_due(conn).await? };
    Ok(Leased { deliveries: taken, next_due, probes, throttled, unreadable })
}

/// Whether an eligible lane gave a probe: it gives one at a time.
fn is_probed(lane: &Lane) -> bool {
    lane.health.breaker.is_open() && lane.in_flight > 0
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The most lanes that are looked into at a time.
const GROUP: usize = 16;

/// Picks due deliveries off `lanes` until the claim is full; answers the lanes as they are then.
async fn take(
    conn: &mut Conn<'_>,
    claim: &Claim,
    lanes: Vec<(Lane, u32)>,
    meters: &mut Meters,
) -> Result<(Vec<Lane>, Vec<Head>), Failure> {
    let mut changed = Vec::with_capacity(lanes.len());
    let mut taken: Vec<Head> = Vec::with_capacity(claim.limit);
    let mut lanes = lanes.into_iter().peekable();
    // Lanes that are full of work are few to a claim, so that most are not looked into at all.
    let few = claim.limit.div_ceil(claim.per_lane.max(1)) * 2;
    let mut size = few.clamp(GROUP / 4, GROUP);
    while lanes.peek().is_some() && taken.len() < claim.limit {
        let group: Vec<(Lane, u32)> = lanes.by_ref().take(size).collect();
        size = GROUP;
        let left = claim.limit - taken.len();
        let most = group.iter().map(|(lane, _)| room(lane)).max().unwrap_or_default();
        let depth = most.min(claim.per_lane).min(left) + 1;
        let mut heads = heads(conn, &group, depth).await?;
        for (mut lane, busy) in group {
            let left = claim.limit - taken.len();
            if left == 0 {
                break;
            }
            let queue = heads.remove(&lane.id.to_bytes()).unwrap_or_default();
            let most = room(&lane).min(meters.room(&lane, claim.now)).min(claim.per_lane).min(left);
            let due = queue.iter().take(most).take_while(|head| head.due_at <= claim.now).count();
            let next = queue.get(due).map(|head| head.due_at);
            lane.in_flight += u32::try_from(due).unwrap_or(u32::MAX);
            let strides = i64::try_from(due).unwrap_or(i64::MAX);
            lane.pass += Lane::stride(lane.weight, busy) * strides;
            lane.runnable = next.is_some_and(|next| next <= claim.now);
            lane.next_due = next.filter(|_| !lane.runnable);
            meters.spend(&mut lane, due, claim.now);
            taken.extend(queue.into_iter().take(due));
            changed.push(lane);
        }
    }
    Ok((changed, taken))
}

fn room(lane: &Lane) -> usize {
    usize::try_from(lane.room()).unwrap_or(usize::MAX)
}

pub(crate) const LEASE: (&str, &str) = (
    "WITH v (id) AS (VALUES ",
    ") UPDATE icp_delivery AS d SET state = 1, epoch = d.epoch + 1, tries = d.tries + 1, \
     owner = ?, lease_until = ?, updated_at = ? FROM v WHERE d.id = v.id AND d.state = 0",
);

/// Leases `heads`, which were read as ready within this transaction and are `taken` as a whole.
fn write_leases(script: &mut Script, claim: &Claim, heads: &[Head], taken: &mut [Delivery]) {
    for chunk in padded(heads) {
        script.rows(LEASE.0, chunk.len(), 1, LEASE.1);
        for head in chunk {
            script.bind(head.id.to_bytes().to_vec());
        }
        script
            .bind(claim.session.to_bytes().to_vec())
            .bind(claim.lease_until.as_millis())
            .bind(claim.now.as_millis());
    }
    script.expect(heads.len());
    for delivery in taken {
        delivery.state = DeliveryState::Leased;
        delivery.epoch += 1;
        delivery.tries += 1;
        delivery.owner = Some(claim.session);
        delivery.lease_until = Some(claim.lease_until);
        delivery.updated_at = claim.now;
    }
}
