//! Claims: lanes are reserved first, then their deliveries leased.
//!
//! Both are guarded, so that of several nodes one wins. A node that is killed in between leaves
//! places that nobody has a lease for, which a sweep gives back.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::try_join;
use futures_util::try_join;
use icp_core::delivery::{Claim, Claimed, ClaimedDelivery, Delivery, DeliveryState, Lane};
use icp_core::error::{Code, Error};
use icp_core::id::SessionId;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::Failure;
use super::lane::{self, Seen};
use super::meter::Meters;
use super::row::{bin, ms};
use super::store::{LANE, MongoStore, SESSION};
use super::{lease, place, queue, turn, unreadable};

/// How often lanes are looked for where other nodes were quicker.
const ROUNDS: usize = 8;

/// How many lanes are looked at together at the least; twice as many with each further look.
const LANES: usize = 2;

pub(crate) async fn claim(store: &MongoStore, claim: &Claim) -> Result<Claimed, Failure> {
    // Claims of one process would be after the same lanes; they take turns until they have theirs.
    let mut turn = Some(store.0.claiming.lock().await);
    let (known, asleep, lanes) = try_join!(
        knows(store, claim.session),
        turn::sleepers(store, claim.now),
        turn::eligible(store, claim)
    )?;
    if !known {
        let message = "the session is not known any more; open a new one before claiming";
        return Err(Error::new(Code::LeaseLost, message).into());
    }
    let mut lanes = if asleep {
        turn::turn_on(store, claim.now).await?;
        turn::eligible(store, claim).await?
    } else {
        lanes
    };
    let mut taking = Taking { claim, probes: 0, throttled: 0, unreadable: AtomicU64::new(0) };
    for _ in 0..ROUNDS {
        if lanes.is_empty() {
            break;
        }
        let picked = taking.pick(store, lanes).await?;
        drop(turn.take());
        if !picked.is_empty() {
            // A claim that got all it asked for is followed by another at once.
            let full = picked.len() >= claim.limit;
            let next = async { if !full { turn::next_due(store).await } else { Ok(None) } };
            let taken = try_join(lease::lease_all(store, claim, picked), next).await;
            let ((deliveries, lost), next_due) = taken.map_err(unsure)?;
            if !lost.is_empty() {
                unreadable::give_up(store, &lost, claim.now).await?;
            }
            // What was left out by `per_lane` is for the next claim, so that lanes take turns.
            if !deliveries.is_empty() {
                return Ok(taking.claimed(deliveries, next_due));
            }
        }
        lanes = turn::eligible(store, claim).await?;
    }
    let next_due = turn::next_due(store).await?;
    Ok(taking.claimed(Vec::new(), next_due))
}

/// The error of a claim that may have leased something. Whoever gets it has to give the session up,
/// as nobody holds those leases; some of the codes of the contract say that nothing was changed.
fn unsure(failure: Failure) -> Failure {
    let error = Error::from(failure);
    let certain = [Code::StoreFull, Code::StoreLocked, Code::StoreReadOnly];
    if !certain.contains(&error.code()) {
        return error.into();
    }
    let message = "the server refused a part of the claim; the session is to be given up, so that \
                   its leases are taken over";
    Error::new(Code::StoreUnavailable, message).caused_by(error).into()
}

pub(crate) async fn knows(store: &MongoStore, session: SessionId) -> Result<bool, Failure> {
    let id = doc! { "_id": bin(session.to_bytes()) };
    let found = store.light(SESSION).find_one(id).projection(doc! { "_id": 1 }).await?;
    Ok(found.is_some())
}

/// What a claim has come to so far.
struct Taking<'a> {
    claim: &'a Claim,
    probes: u64,
    throttled: u64,
    unreadable: AtomicU64,
}

/// What is to be taken of one lane.
struct Plan {
    seen: Seen,
    picks: Vec<Delivery>,
    /// When the first of those that stay gets due.
    next: Option<Timestamp>,
    blocked: Option<Timestamp>,
    cost: i64,
}

impl Taking<'_> {
    fn claimed(&self, deliveries: Vec<ClaimedDelivery>, next_due: Option<Timestamp>) -> Claimed {
        let Self { probes, throttled, .. } = *self;
        let unreadable = self.unreadable.load(Ordering::Relaxed);
        Claimed { deliveries, next_due, probes, throttled, unreadable }
    }

    /// Reserves lanes, lowest pass first; answers the deliveries that go.
    async fn pick(
        &mut self,
        store: &MongoStore,
        lanes: Vec<Seen>,
    ) -> Result<Vec<Delivery>, Failure> {
        let mut lanes = lanes.into_iter().peekable();
        let mut plans = Vec::new();
        let mut left = self.claim.limit;
        let mut size = 0;
        while lanes.peek().is_some() && left > 0 {
            // Lanes that are deep fill the claim soon; where they are not, more are looked at.
            size = (size * 2).max(left.div_ceil(self.claim.per_lane.max(1))).max(LANES);
            let group: Vec<Seen> = lanes.by_ref().take(size).collect();
            let most = group.iter().map(|seen| room(&seen.lane)).max().unwrap_or_default();
            let depth = most.min(self.claim.per_lane).min(left) + 1;
            let orgs: BTreeSet<&str> = group.iter().map(|seen| seen.lane.org.as_str()).collect();
            let (heads, busy, meters) = try_join!(
                queue::heads(store, &group, depth, self.claim.now, &self.unreadable),
                lane::busy(store, orgs),
                Meters::load(store, group.iter().map(|seen| &seen.lane))
            )?;
            let planned = self.plan(store, group, heads, &busy, meters, left).await?;
            left -= planned.iter().map(|plan| plan.picks.len()).sum::<usize>();
            plans.extend(planned);
        }
        self.reserve(store, plans).await
    }

    async fn plan(
        &mut self,
        store: &MongoStore,
        group: Vec<Seen>,
        mut heads: HashMap<[u8; 16], Vec<Delivery>>,
        busy: &HashMap<String, u32>,
        mut meters: Meters,
        mut left: usize,
    ) -> Result<Vec<Plan>, Failure> {
        let mut plans = Vec::with_capacity(group.len());
        let now = self.claim.now;
        for seen in group {
            if left == 0 {
                break;
            }
            let lane = &seen.lane;
            let mut queue = heads.remove(&lane.id.to_bytes()).unwrap_or_default();
            let most = room(lane).min(self.claim.per_lane).min(left);
            let is_due = |delivery: &&Delivery| {
                delivery.state == DeliveryState::Ready && delivery.due_at <= now
            };
            let due = queue.iter().take(most).take_while(is_due).count();
            let due = meters.take(store, lane, due, now).await?;
            let next = queue.get(due).map(|delivery| delivery.due_at);
            queue.truncate(due);
            left -= due;
            let strides = i64::try_from(due).unwrap_or(i64::MAX);
            let share = busy.get(lane.org.as_str()).copied().unwrap_or_default();
            let cost = Lane::stride(lane.weight, share) * strides;
            let blocked = meters.blocks(lane, now);
            plans.push(Plan { picks: queue, next, blocked, cost, seen });
        }
        Ok(plans)
    }

    /// Counts what is planned into the lanes; what other nodes were quicker with is left out.
    async fn reserve(
        &mut self,
        store: &MongoStore,
        plans: Vec<Plan>,
    ) -> Result<Vec<Delivery>, Failure> {
        let now = self.claim.now;
        let statements: Vec<_> = plans.iter().map(|plan| plan.reserve(now)).collect();
        let missed = store.update(LANE, &statements, Miss::Known, Lasts::No).await?.missed;
        let mut picked: Vec<Delivery> = Vec::new();
        for (at, plan) in plans.into_iter().enumerate() {
            if missed.contains(&at) {
                let mut meters = Meters::default();
                meters.give_back(store, &plan.seen.lane, plan.picks.len(), now).await?;
                continue;
            }
            let probed = plan.seen.lane.health.breaker.is_open() && !plan.picks.is_empty();
            self.probes += u64::from(probed);
            self.throttled += u64::from(plan.blocked.is_some());
            picked.extend(plan.picks);
        }
        Ok(picked)
    }
}

fn room(lane: &Lane) -> usize {
    usize::try_from(lane.room()).unwrap_or(usize::MAX)
}

impl Plan {
    /// Counts the leases in, unless another node was quicker, or the lane allows another number by
    /// now. Deliveries that got ready meanwhile keep the lane awake.
    fn reserve(&self, now: Timestamp) -> Statement {
        let Seen { lane, claims, wakes, .. } = &self.seen;
        let runs = self.next.is_some_and(|next| next <= now);
        let sleeps: Bson = match self.next.filter(|_| !runs) {
            Some(next) => ms(next).into(),
            None => "$$REMOVE".into(),
        };
        let still = doc! { "$eq": ["$wakes", *wakes] };
        let blocked = doc! { "$max": ["$blocked_until", self.blocked.map(ms)] };
        let mut set = doc! {
            "pass": { "$add": ["$pass", self.cost] },
            "runnable": { "$cond": [still.clone(), runs, true] },
            "next_due": { "$cond": [still, sleeps, "$$REMOVE"] },
            "blocked_until": { "$ifNull": [blocked, "$$REMOVE"] },
            "claims": { "$add": ["$claims", 1_i64] },
        };
        set.extend(
            self.picks.iter().map(|row| (place::path(lease::next_lease(row)), "$$NOW".into())),
        );
        let filter = doc! {
            "_id": bin(lane.id.to_bytes()),
            "claims": *claims,
            "allowed": i64::from(lane.allowed()),
            "turn": { "$exists": true },
        };
        lane::statement(filter, vec![doc! { "$set": set }.into(), place::counted()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_leased_is_no_error_that_changed_nothing() {
        for (code, told) in [
            (Code::StoreLocked, Code::StoreUnavailable),
            (Code::StoreFull, Code::StoreUnavailable),
            (Code::StoreReadOnly, Code::StoreUnavailable),
            (Code::StoreUnavailable, Code::StoreUnavailable),
            (Code::StoreCorrupt, Code::StoreCorrupt),
        ] {
            let failure = unsure(Error::new(code, "refused").into());
            assert_eq!(Error::from(failure).code(), told, "{code:?}");
        }
    }
}
