use std::sync::Arc;

use icp_core::Code;
use icp_core::delivery::{
    DeliveryState, Next, Renew, Rescue, RescueOf, SessionBeat, Settle, Settled,
};

use super::world::{World, at, claim, ids, lease_of, race, retry, settlement};

pub(super) fn rescue(of: RescueOf, secs: u64) -> Rescue {
    Rescue { of, now: at(secs), limit: 100, max_rescues: 3 }
}

pub(super) async fn beats_are_counted(world: World) {
    let session = world.session().await;
    assert_eq!(world.sessions().await.unwrap(), [SessionBeat { session, beat: 0 }]);
    world.beat(session, at(1)).await.unwrap();
    world.beat(session, at(2)).await.unwrap();
    assert_eq!(world.sessions().await.unwrap(), [SessionBeat { session, beat: 2 }]);
}

pub(super) async fn unknown_ones_cannot_beat_or_claim(world: World) {
    let session = world.session_id();
    world.fill("acme", "hook", 1).await;
    assert_eq!(world.beat(session, at(1)).await.unwrap_err().code(), Code::LeaseLost);
    assert_eq!(world.claim(claim(session, 1, 0)).await.unwrap_err().code(), Code::LeaseLost);
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Ready, 1)]);
}

pub(super) async fn closing_forgets(world: World) {
    let session = world.session().await;
    world.close_session(session).await.unwrap();
    world.close_session(session).await.unwrap();
    assert_eq!(world.sessions().await.unwrap(), []);
    assert_eq!(world.beat(session, at(1)).await.unwrap_err().code(), Code::LeaseLost);
}

pub(super) async fn closing_keeps_one_that_holds_leases(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    world.close_session(session).await.unwrap();
    assert_eq!(world.sessions().await.unwrap().len(), 1);
    world.finish(&row, Next::Delivered, 1).await;
    world.close_session(session).await.unwrap();
    assert_eq!(world.sessions().await.unwrap(), []);
}

pub(super) async fn rescue_takes_every_lease_and_forgets(world: World) {
    let (dead, live) = (world.session().await, world.session().await);
    world.fill("acme", "hook", 3).await;
    let lost = world.take(dead, 2).await;
    let kept = world.take_one(live).await;
    let rescued = world.rescue(rescue(RescueOf::Session(dead), 5)).await.unwrap();
    assert_eq!(rescued.len(), 2);
    assert!(rescued.iter().all(|rescued| rescued.state == DeliveryState::Ready));
    for claimed in &lost {
        let row = world.read(&claimed.delivery).await;
        assert_eq!((row.state, row.rescues), (DeliveryState::Ready, 1));
        assert_eq!((row.epoch, row.tries, row.owner, row.lease_until), (1, 1, None, None));
    }
    assert_eq!(world.read(&kept).await.owner, Some(live));
    assert_eq!(world.claim(claim(dead, 1, 6)).await.unwrap_err().code(), Code::LeaseLost);
    assert_eq!(world.beat(dead, at(6)).await.unwrap_err().code(), Code::LeaseLost);
    assert_eq!(world.take_at(live, 9, 6).await.len(), 2);
    world.assert_clean().await;
}

pub(super) async fn rescue_keeps_to_its_limit(world: World) {
    let dead = world.session().await;
    world.fill("acme", "hook", 5).await;
    world.take(dead, 5).await;
    let some = Rescue { limit: 2, ..rescue(RescueOf::Session(dead), 5) };
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(world.rescue(some).await.unwrap().len());
    }
    assert_eq!(counts, [2, 2, 1, 0]);
    world.assert_clean().await;
}

pub(super) async fn orphans_are_rescued_after_their_lease(world: World) {
    let (gone, live) = (world.session().await, world.session().await);
    world.fill("acme", "hook", 3).await;
    let lost = world.take(gone, 2).await;
    world.take(live, 1).await;
    let none = Rescue { limit: 0, ..rescue(RescueOf::Session(gone), 1) };
    world.rescue(none).await.unwrap();
    let orphans = |secs| rescue(RescueOf::Orphans { before: at(secs) }, secs);
    assert_eq!(world.rescue(orphans(60)).await.unwrap(), []);
    let mut rescued: Vec<_> =
        world.rescue(orphans(61)).await.unwrap().iter().map(|r| r.delivery).collect();
    rescued.sort();
    assert_eq!(rescued, ids(&lost));
    world.assert_clean().await;
}

pub(super) async fn poison_ends_dead_at_the_third_rescue(world: World) {
    world.fill("acme", "hook", 1).await;
    for round in 1..=3u32 {
        let session = world.session().await;
        let row = world.take_one(session).await;
        assert_eq!(row.epoch, round);
        let rescued = world.rescue(rescue(RescueOf::Session(session), 0)).await.unwrap();
        let expected = if round == 3 { DeliveryState::Dead } else { DeliveryState::Ready };
        assert_eq!(rescued[0].state, expected);
        if round == 3 {
            assert_eq!(world.read(&row).await.reason.unwrap().code, "poison");
        }
    }
    world.assert_clean().await;
}

pub(super) async fn renewing_moves_the_end_of_live_leases_only(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 2).await;
    let taken = world.take(session, 2).await;
    let (kept, done) = (&taken[0].delivery, &taken[1].delivery);
    world.finish(done, Next::Delivered, 1).await;
    let leases = vec![lease_of(kept), lease_of(done)];
    let lost = world.renew(Renew { leases, until: at(500) }).await.unwrap();
    assert_eq!(lost, [lease_of(done)]);
    assert_eq!(world.read(kept).await.lease_until, Some(at(500)));
    assert_eq!(world.read(done).await.lease_until, None);
}

pub(super) async fn a_rescued_lease_can_be_neither_renewed_nor_settled(world: World) {
    let (dead, live) = (world.session().await, world.session().await);
    world.fill("acme", "hook", 1).await;
    let stale = world.take_one(dead).await;
    world.rescue(rescue(RescueOf::Session(dead), 0)).await.unwrap();
    let fresh = world.take_one(live).await;
    assert_eq!((fresh.id, fresh.epoch, fresh.tries), (stale.id, 2, 2));
    let leases = vec![lease_of(&stale)];
    let lost = world.renew(Renew { leases, until: at(900) }).await.unwrap();
    assert_eq!(lost, [lease_of(&stale)]);
    assert_eq!(world.finish(&stale, Next::Delivered, 1).await, Settled::Stale);
    assert_eq!(world.read(&fresh).await, fresh);
    assert_eq!(world.attempts(&fresh.org, fresh.id).await.unwrap(), []);
    assert_eq!(world.finish(&fresh, Next::Delivered, 2).await, Settled::Recorded);
}

pub(super) async fn settle_and_rescue_end_in_one_outcome(world: World) {
    for _ in 0..50 {
        let session = world.session().await;
        world.fill("acme", "hook", 1).await;
        let row = world.take_one(session).await;
        let (one, two) = (world.store(), Arc::clone(&world.store()));
        let settle = Settle { settlements: [settlement(&row, Next::Delivered)].into(), now: at(0) };
        let settled = tokio::task::JoinSet::from_iter([async move {
            one.settle(settle).await.unwrap()[0] == Settled::Recorded
        }]);
        let rescued = tokio::task::JoinSet::from_iter([async move {
            !two.rescue(rescue(RescueOf::Session(session), 0)).await.unwrap().is_empty()
        }]);
        let (settled, rescued) = tokio::join!(settled.join_all(), rescued.join_all());
        assert_ne!(settled, rescued, "one of the two wins");
        let now = world.read(&row).await;
        let expected = if settled[0] { DeliveryState::Delivered } else { DeliveryState::Ready };
        assert_eq!(now.state, expected);
        if rescued[0] {
            let clean_up = world.session().await;
            let again = world.take_one(clean_up).await;
            world.finish(&again, Next::Delivered, 0).await;
        }
    }
    world.assert_clean().await;
}

pub(super) async fn claims_are_exclusive_under_contention(world: World) {
    world.fill("acme", "hook", 200).await;
    world.fill("beta", "hook", 200).await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(world.session().await);
    }
    let store = world.store();
    let mut won: Vec<_> = race(sessions.into_iter().map(|session| {
        let store = Arc::clone(&store);
        async move {
            let mut won = Vec::new();
            loop {
                let claimed = store.claim(claim(session, 7, 0)).await.unwrap().deliveries;
                if claimed.is_empty() {
                    break won;
                }
                won.extend(ids(&claimed));
            }
        }
    }))
    .await
    .concat();
    won.sort();
    won.dedup();
    assert_eq!(won.len(), 400);
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Leased, 400)]);
    world.assert_clean().await;
}

pub(super) async fn no_wake_up_is_lost_under_contention(world: World) {
    let world = Arc::new(world);
    race((0..4).map(|task: usize| {
        let world = Arc::clone(&world);
        async move {
            let session = world.session().await;
            for round in 0..30 {
                world.fill("acme", ["a", "b"][round % 2], 1).await;
                for claimed in world.take(session, 1 + task % 2).await {
                    let next = if round % 3 == 0 { retry(0) } else { Next::Delivered };
                    world.finish(&claimed.delivery, next, 0).await;
                }
            }
        }
    }))
    .await;
    world.assert_clean().await;
    let session = world.session().await;
    loop {
        let taken = world.take(session, 50).await;
        if taken.is_empty() {
            break;
        }
        for claimed in taken {
            world.finish(&claimed.delivery, Next::Delivered, 0).await;
        }
    }
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Delivered, 120)]);
}
