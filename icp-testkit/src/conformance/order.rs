use std::collections::{BTreeMap, BTreeSet};

use icp_core::delivery::{
    AttemptOutcome, Delivery, DeliveryState, LaneId, Lease, Next, Rescue, RescueOf, Settle, Settled,
};
use icp_core::event::LaneSeed;
use icp_core::id::{DeliveryId, SessionId};
use icp_core::integration::OnFailure;

use super::world::{World, at, ids, org, res, settlement, why};

/// The lane of `hook` that keeps no order.
fn beside(world: &World) -> LaneSeed {
    LaneSeed { max_in_flight: 5, weight: 3, ..world.to("acme", "hook").lane }
}

fn aside(world: &World, secs: u64) -> Next {
    Next::StepAside { due_at: at(secs), reason: why("status_500"), lane: beside(world) }
}

async fn two(world: &World) -> (SessionId, Delivery, DeliveryId) {
    let session = world.session().await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    let second = world.put("acme", world.in_order("acme", "hook", "k")).await;
    let head = world.take_one(session).await;
    (session, head, second)
}

pub(super) async fn a_failed_head_steps_aside(world: World) {
    let (session, head, second) = two(&world).await;
    assert!(!head.out_of_order);
    let mut failed = settlement(&head, aside(&world, 30));
    if let Some(attempt) = &mut failed.attempt {
        attempt.outcome = AttemptOutcome::Failed("status_500".into());
        attempt.status = Some(500);
    }
    let settle = Settle { settlements: [failed].into(), now: at(1) };
    assert_eq!(world.settle(settle).await.unwrap(), [Settled::Recorded]);
    let moved = world.read(&head).await;
    assert_eq!((moved.state, moved.due_at, moved.tries), (DeliveryState::Ready, at(30), 1));
    assert_eq!((moved.out_of_order, moved.owner), (true, None));
    assert_eq!(moved.reason, Some(why("status_500")));
    assert_eq!(world.attempts(&head.org, head.id).await.unwrap().len(), 1);
    let lanes = world.lanes(&org("acme")).await.unwrap();
    let lane = lanes.iter().find(|lane| lane.id == moved.lane).unwrap();
    assert_eq!(lane.id, LaneId::of(&org("acme"), &res("hook"), None));
    assert_eq!((&lane.integration, lane.order_key.as_deref()), (&res("hook"), None));
    assert_eq!((lane.max_in_flight, lane.weight, lane.in_flight), (5, 3, 0));
    assert!(lane.health.is_well(), "the failure is not its own");
    let left = lanes.iter().find(|lane| lane.id == head.lane).unwrap();
    assert!(!left.health.is_well(), "it is of the lane it was made in");
    assert_eq!(ids(&world.take_at(session, 9, 2).await), [second]);
    assert_eq!(world.take_at(session, 9, 29).await.len(), 0, "it keeps its schedule");
    let again = world.take_at(session, 9, 30).await;
    assert_eq!(ids(&again), [head.id]);
    assert_eq!((again[0].delivery.tries, again[0].delivery.epoch), (2, 2));
    world.assert_clean().await;
}

pub(super) async fn stepping_aside_frees_the_next_at_once(world: World) {
    let session = world.session().await;
    let mut made = Vec::new();
    for key in ["a", "b", "a", "b"] {
        made.push(world.put("acme", world.in_order("acme", "hook", key)).await);
    }
    let heads = world.take(session, 9).await;
    assert_eq!(heads.len(), 2);
    let settlements = heads.iter().map(|head| settlement(&head.delivery, aside(&world, 0)));
    let settle = Settle { settlements: settlements.collect(), now: at(1) };
    assert_eq!(world.settle(settle).await.unwrap(), [Settled::Recorded; 2]);
    world.assert_clean().await;
    let mut taken = ids(&world.take_at(session, 9, 1).await);
    taken.sort_unstable();
    assert_eq!(taken, made, "the next of each key, and those beside");
    world.assert_clean().await;
}

pub(super) async fn a_block_stays_with_the_order(world: World) {
    let (session, head, second) = two(&world).await;
    let mut wait = settlement(&head, aside(&world, 10));
    wait.block_lane_until = Some(at(40));
    world.settle(Settle { settlements: [wait].into(), now: at(1) }).await.unwrap();
    assert_eq!(ids(&world.take_at(session, 9, 39).await), [head.id]);
    assert_eq!(ids(&world.take_at(session, 9, 40).await), [second]);
}

pub(super) async fn a_replay_of_one_set_aside_stays_beside(world: World) {
    let (session, head, _) = two(&world).await;
    world.finish(&head, aside(&world, 1), 1).await;
    let again = world.take_at(session, 9, 1).await;
    let again = again.into_iter().find(|claimed| claimed.delivery.id == head.id).unwrap();
    world.finish(&again.delivery, Next::Dead { reason: why("exhausted") }, 2).await;
    let made = world.replay(super::delivery::replay_of(&world, &head)).await.unwrap();
    assert_eq!((made.lane, made.out_of_order), (beside(&world).id, true));
    assert_eq!(ids(&world.take_at(session, 9, 10).await), [made.id], "the second is under way");
    world.assert_clean().await;
}

pub(super) async fn stepping_aside_needs_the_lease(world: World) {
    let (session, head, _) = two(&world).await;
    let rescue = Rescue { of: RescueOf::Session(session), now: at(1), limit: 9, max_rescues: 3 };
    world.rescue(rescue).await.unwrap();
    assert_eq!(world.finish(&head, aside(&world, 2), 2).await, Settled::Stale);
    let row = world.read(&head).await;
    assert_eq!((row.lane, row.out_of_order), (head.lane, false));
    world.assert_clean().await;
}

/// Random numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What happened to the deliveries of one key.
#[derive(Default)]
struct Key {
    /// In the order of their events.
    made: Vec<DeliveryId>,
    /// Each try: which of `made`, and whether it had lost its place.
    tries: Vec<(usize, bool)>,
}

/// A history of many keys with failures and lost leases, under one choice.
struct History {
    world: World,
    choice: OnFailure,
    dice: Dice,
    keys: BTreeMap<LaneId, Key>,
    lane_of: BTreeMap<DeliveryId, LaneId>,
    secs: u64,
}

const KEYS: usize = 40;
const EACH: usize = 25;

impl History {
    async fn run(world: World, choice: OnFailure, seed: u64) -> Self {
        let (keys, lane_of) = (BTreeMap::new(), BTreeMap::new());
        let mut history = Self { world, choice, dice: Dice(seed), keys, lane_of, secs: 1 };
        let mut session = history.world.session().await;
        for round in 0..10_000 {
            if round < EACH {
                history.publish(round).await;
            }
            let limit = 1 + usize::try_from(history.dice.roll(60)).unwrap();
            let taken = history.world.take_at(session, limit, history.secs).await;
            let idle = taken.is_empty();
            let ordered = taken.iter().filter(|claimed| !claimed.delivery.out_of_order);
            let lanes: BTreeSet<LaneId> = ordered.clone().map(|c| c.delivery.lane).collect();
            assert_eq!(lanes.len(), ordered.count(), "one of a key at a time");
            for claimed in &taken {
                history.note(&claimed.delivery);
            }
            if history.dice.roll(9) == 0 {
                session = history
                    .lose(session, &taken.iter().map(|c| c.delivery.clone()).collect::<Vec<_>>())
                    .await;
            } else {
                for claimed in taken {
                    history.end(&claimed.delivery).await;
                }
            }
            history.secs += 1 + history.dice.roll(4);
            if round % 16 == 0 {
                history.world.assert_clean().await;
            }
            let open = history.world.counts().await.unwrap();
            let open = open.iter().any(|(state, count)| !state.is_final() && *count > 0);
            if round >= EACH && idle && !open {
                history.world.assert_clean().await;
                return history;
            }
        }
        panic!("the history has no end");
    }

    async fn publish(&mut self, round: usize) {
        for key in 0..KEYS {
            let new = self.world.in_order("acme", "hook", &format!("k{key}"));
            let (lane, id) = (new.lane.id, self.world.put("acme", new).await);
            self.keys.entry(lane).or_default().made.push(id);
            self.lane_of.insert(id, lane);
        }
        assert_eq!(self.lane_of.len(), KEYS * (round + 1));
    }

    fn note(&mut self, row: &Delivery) {
        let key = self.keys.get_mut(&self.lane_of[&row.id]).unwrap();
        let place = key.made.iter().position(|id| *id == row.id).unwrap();
        key.tries.push((place, row.out_of_order));
    }

    /// The node dies: its leases are taken over, and what it still says is stale.
    async fn lose(&mut self, session: SessionId, held: &[Delivery]) -> SessionId {
        let now = at(self.secs);
        let rescue = Rescue { of: RescueOf::Session(session), now, limit: 99, max_rescues: 3 };
        self.world.rescue(rescue).await.unwrap();
        for row in held {
            let done = self.world.finish(row, Next::Delivered, self.secs).await;
            assert_eq!(done, Settled::Stale);
        }
        self.world.session().await
    }

    async fn end(&mut self, row: &Delivery) {
        let next = match self.dice.roll(4) {
            0 if row.tries >= 6 => Next::Dead { reason: why("exhausted") },
            0 => Next::Refund { due_at: at(self.secs + self.dice.roll(5)), throttled: true },
            1 | 2 => {
                let due_at = at(self.secs + self.dice.roll(9));
                let next = Next::Retry { due_at, reason: why("status_500") };
                self.choice.after_failure(row, next, beside(&self.world))
            }
            _ => Next::Delivered,
        };
        let lease = Lease { delivery: row.id, epoch: row.epoch };
        let done = self.world.finish(row, next, self.secs).await;
        assert_eq!(done, Settled::Recorded, "{lease:?}");
    }

    /// How often a try of a key came before an earlier delivery had ended; those set aside are
    /// left out. A delivery that is tried never comes again once a later one was, so each step
    /// back is such an inversion.
    fn inversions(&self) -> usize {
        let backwards = |key: &Key| {
            let kept: Vec<usize> =
                key.tries.iter().filter(|(_, out)| !out).map(|(place, _)| *place).collect();
            kept.windows(2).filter(|pair| pair[1] < pair[0]).count()
        };
        self.keys.values().map(backwards).sum()
    }

    /// How many deliveries of a key were never tried in their turn.
    fn gaps(&self) -> usize {
        let missing = |key: &Key| {
            (0..key.made.len()).filter(|place| !key.tries.contains(&(*place, false))).count()
        };
        self.keys.values().map(missing).sum()
    }

    async fn rows(&self) -> Vec<Delivery> {
        let mut rows = Vec::new();
        for id in self.lane_of.keys() {
            rows.push(self.world.delivery(&org("acme"), *id).await.unwrap().unwrap());
        }
        rows
    }
}

pub(super) async fn block_keeps_order_without_a_gap(world: World) {
    let history = History::run(world, OnFailure::Block, 0x1234_5678_9abc_def1).await;
    assert_eq!((history.inversions(), history.gaps()), (0, 0));
    let rows = history.rows().await;
    assert_eq!(rows.len(), KEYS * EACH);
    assert!(rows.iter().all(|row| row.state.is_final() && !row.out_of_order));
    assert!(rows.iter().any(|row| row.rescues > 0) && rows.iter().any(|row| row.tries > 2));
}

pub(super) async fn skip_after_breaks_order_only_for_those_set_aside(world: World) {
    let choice = OnFailure::SkipAfter { tries: 2 };
    let history = History::run(world, choice, 0x0bad_cafe_dead_beef).await;
    assert_eq!((history.inversions(), history.gaps()), (0, 0));
    let rows = history.rows().await;
    let aside: Vec<_> = rows.iter().filter(|row| row.out_of_order).collect();
    assert!(!aside.is_empty() && aside.len() < rows.len());
    for row in &rows {
        assert!(row.state.is_final());
        let expected =
            if row.out_of_order { beside(&history.world).id } else { history.lane_of[&row.id] };
        assert_eq!(row.lane, expected);
        assert!(!row.out_of_order || row.tries - row.rescues.min(row.tries) >= 2);
    }
}

pub(super) async fn dead_letter_keeps_order_and_moves_on(world: World) {
    let history = History::run(world, OnFailure::DeadLetter, 0x5eed_5eed_5eed_5eed).await;
    assert_eq!((history.inversions(), history.gaps()), (0, 0));
    let rows = history.rows().await;
    let first = |row: &&Delivery| row.reason.as_ref().is_some_and(|r| r.code == "first_failure");
    assert!(rows.iter().filter(first).count() > 0);
    for row in &rows {
        assert!(row.state.is_final() && !row.out_of_order);
        assert!(row.tries <= 1 + row.rescues, "one failed try ends it: {row:?}");
    }
}
