//! Processes claim from the same lanes, and each delivery goes to one of them.

use std::collections::BTreeSet;

use icp_core::delivery::{DeliveryState, Next, Settle, Settled};

use super::crew::{Hand, Told};
use crate::conformance::world::breathe;
use crate::conformance::world::{World, at, ids, org, settlement};

const LANES: usize = 8;
const EACH: usize = 60;

pub(super) async fn prepare(world: &World) {
    for lane in 0..LANES {
        world.fill(["acme", "beta"][lane % 2], &format!("hook-{lane}"), EACH).await;
    }
}

pub(super) async fn act(world: &World, hand: Hand) {
    let session = world.session().await;
    while !is_over(world).await {
        let claimed = world.take(session, 7).await;
        for id in ids(&claimed) {
            hand.say(format_args!("took {id}"));
        }
        let settlements =
            claimed.iter().map(|claimed| settlement(&claimed.delivery, Next::Delivered)).collect();
        let settled = world.settle(Settle { settlements, now: at(1) }).await.unwrap();
        assert_eq!(settled, vec![Settled::Recorded; claimed.len()]);
        breathe(!claimed.is_empty()).await;
    }
}

/// Whether every delivery has ended.
pub(super) async fn is_over(world: &World) -> bool {
    let counts = world.counts().await.unwrap();
    counts.iter().all(|(state, count)| *state == DeliveryState::Delivered || *count == 0)
}

pub(super) async fn check(world: &World, told: &[Told]) {
    let all = LANES * EACH;
    let taken: BTreeSet<_> = told.iter().map(|told| told.words::<2>()[1]).collect();
    assert_eq!((told.len(), taken.len()), (all, all), "some were taken twice, or never");
    let by: BTreeSet<_> = told.iter().map(|told| told.by).collect();
    assert!(by.len() > 1, "only process {by:?} took anything");
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Delivered, all as u64)]);
    for lane in [world.lanes(&org("acme")).await, world.lanes(&org("beta")).await] {
        assert!(lane.unwrap().iter().all(|lane| lane.in_flight == 0));
    }
}
