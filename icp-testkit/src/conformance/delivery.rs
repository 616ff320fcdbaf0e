use std::sync::Arc;

use icp_core::Code;
use icp_core::delivery::{
    Delivery, DeliveryQuery, DeliveryState, Next, Replay, Settle, Settled, Sweep, Swept,
};
use icp_core::resource::Actor;
use icp_core::store::PageQuery;

use super::world::{World, at, call_off, ids, org, refund, res, retry, settlement, why};

pub(super) fn replay_of(world: &World, old: &Delivery) -> Replay {
    Replay {
        org: old.org.clone(),
        delivery: old.id,
        id: world.delivery_id(),
        expires_at: None,
        actor: Some(Actor::host()),
        now: at(10),
    }
}

pub(super) async fn a_claim_leases(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let claimed = world.take_at(session, 5, 7).await.remove(0);
    let row = &claimed.delivery;
    assert_eq!((row.state, row.epoch, row.tries), (DeliveryState::Leased, 1, 1));
    assert_eq!((row.owner, row.lease_until), (Some(session), Some(at(67))));
    assert_eq!(claimed.event.id, row.event);
    assert_eq!(&claimed.event.body[..], br#"{"order":17}"#);
    assert_eq!(world.read(row).await, *row);
}

pub(super) async fn a_leased_one_is_not_claimed_again(world: World) {
    let (one, two) = (world.session().await, world.session().await);
    world.fill("acme", "hook", 3).await;
    assert_eq!(world.take(one, 2).await.len(), 2);
    assert_eq!(world.take(two, 5).await.len(), 1);
    assert_eq!(world.take(two, 5).await.len(), 0);
}

pub(super) async fn a_claim_keeps_to_its_limit(world: World) {
    let session = world.session().await;
    world.fill("acme", "a", 5).await;
    world.fill("acme", "b", 5).await;
    assert_eq!(world.take(session, 4).await.len(), 4);
    assert_eq!(world.take(session, 0).await.len(), 0);
}

pub(super) async fn not_before_it_is_due(world: World) {
    let session = world.session().await;
    let mut later = world.to("acme", "hook");
    later.due_at = at(100);
    let id = world.put("acme", later).await;
    assert_eq!(world.take_at(session, 5, 99).await.len(), 0);
    assert_eq!(ids(&world.take_at(session, 5, 100).await), [id]);
}

pub(super) async fn earliest_due_goes_first(world: World) {
    let session = world.session().await;
    let mut expected = Vec::new();
    for due in [30, 10, 20] {
        let mut new = world.to("acme", "hook");
        new.due_at = at(due);
        expected.push((due, world.put("acme", new).await));
    }
    expected.sort_unstable();
    let mut order = Vec::new();
    for _ in 0..3 {
        order.extend(ids(&world.take_at(session, 1, 50).await));
    }
    assert_eq!(order, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

pub(super) async fn delivered_is_recorded_with_its_attempt(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    assert_eq!(world.finish(&row, Next::Delivered, 5).await, Settled::Recorded);
    let done = world.read(&row).await;
    assert_eq!((done.state, done.owner, done.lease_until), (DeliveryState::Delivered, None, None));
    assert_eq!((done.epoch, done.tries, done.updated_at), (1, 1, at(5)));
    let attempts = world.attempts(&row.org, row.id).await.unwrap();
    assert_eq!(attempts, [super::world::attempt(&row)]);
    assert_eq!(world.take_at(session, 5, 9_999).await.len(), 0);
}

pub(super) async fn settling_twice_is_stale_and_harmless(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    world.finish(&row, Next::Delivered, 5).await;
    let first = world.read(&row).await;
    assert_eq!(world.finish(&row, retry(9), 6).await, Settled::Stale);
    assert_eq!(world.finish(&row, Next::Delivered, 6).await, Settled::Stale);
    assert_eq!(world.read(&row).await, first);
    assert_eq!(world.attempts(&row.org, row.id).await.unwrap().len(), 1);
    world.assert_clean().await;
}

pub(super) async fn a_stale_lease_beside_the_next_does_not_displace_it(world: World) {
    for stale_first in [true, false] {
        let session = world.session().await;
        world.fill("acme", "hook", 1).await;
        let stale = world.take_one(session).await;
        world.finish(&stale, retry(0), 0).await;
        let fresh = world.take_one(session).await;
        let outcome = |row| settlement(row, Next::Delivered);
        let mut batch = vec![outcome(&stale), outcome(&fresh), outcome(&fresh)];
        let mut answers = vec![Settled::Stale, Settled::Recorded, Settled::Stale];
        if !stale_first {
            batch.rotate_left(1);
            answers = vec![Settled::Recorded, Settled::Stale, Settled::Stale];
        }
        let settle = Settle { settlements: batch.into(), now: at(1) };
        assert_eq!(world.settle(settle).await.unwrap(), answers);
        assert_eq!(world.read(&fresh).await.state, DeliveryState::Delivered);
        world.assert_clean().await;
    }
}

pub(super) async fn a_stale_epoch_writes_nothing(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let stale = world.take_one(session).await;
    world.finish(&stale, retry(0), 0).await;
    let fresh = world.take_one(session).await;
    assert_eq!((fresh.epoch, fresh.tries), (2, 2));
    let mut late = settlement(&stale, Next::Dead { reason: why("status_500") });
    late.block_lane_until = Some(at(500));
    let settle = Settle { settlements: [late].into(), now: at(1) };
    assert_eq!(world.settle(settle).await.unwrap(), [Settled::Stale]);
    assert_eq!(world.read(&fresh).await, fresh);
    assert_eq!(world.lanes(&org("acme")).await.unwrap()[0].blocked_until, None);
    assert_eq!(world.attempts(&fresh.org, fresh.id).await.unwrap().len(), 1);
}

pub(super) async fn a_notice_goes_out_with_its_outcome_only(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 2).await;
    let taken = world.take(session, 2).await;
    let (one, two) = (&taken[0].delivery, &taken[1].delivery);
    world.finish(one, Next::Delivered, 1).await;
    let with_notice = |delivery| {
        let notice = world.new_event("acme");
        let mut settlement = settlement(delivery, Next::Dead { reason: why("status_500") });
        settlement.notice = Some(Arc::new(notice.clone()));
        (settlement, notice)
    };
    let ((stale, _), (live, notice)) = (with_notice(one), with_notice(two));
    let settle = Settle { settlements: [stale, live.clone()].into(), now: at(2) };
    assert_eq!(world.settle(settle).await.unwrap(), [Settled::Stale, Settled::Recorded]);
    let again = Settle { settlements: [live].into(), now: at(3) };
    assert_eq!(world.settle(again).await.unwrap(), [Settled::Stale]);
    let rows = world.outbox(&[], 9).await.unwrap();
    assert_eq!(rows.into_iter().map(|row| row.event).collect::<Vec<_>>(), [notice]);
}

pub(super) async fn stale_and_live_settle_side_by_side(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 2).await;
    let taken = world.take(session, 2).await;
    let (one, two) = (&taken[0].delivery, &taken[1].delivery);
    world.finish(one, Next::Delivered, 1).await;
    let settlements = [settlement(one, Next::Delivered), settlement(two, Next::Delivered)].into();
    let done = world.settle(Settle { settlements, now: at(2) }).await.unwrap();
    assert_eq!(done, [Settled::Stale, Settled::Recorded]);
}

pub(super) async fn a_retry_waits_and_counts(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    world.finish(&row, retry(30), 1).await;
    let waiting = world.read(&row).await;
    assert_eq!((waiting.state, waiting.due_at), (DeliveryState::Ready, at(30)));
    assert_eq!((waiting.tries, waiting.epoch), (1, 1));
    assert_eq!(waiting.reason, Some(why("status_500")));
    assert_eq!(world.take_at(session, 5, 29).await.len(), 0);
    let again = world.take_at(session, 5, 30).await.remove(0).delivery;
    assert_eq!((again.tries, again.epoch), (2, 2));
    world.finish(&again, Next::Delivered, 31).await;
    let epochs: Vec<_> =
        world.attempts(&row.org, row.id).await.unwrap().iter().map(|a| a.epoch).collect();
    assert_eq!(epochs, [1, 2]);
}

pub(super) async fn a_refund_gives_the_try_back_but_not_the_epoch(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    let mut unsent = settlement(&row, refund(0, false));
    unsent.attempt = None;
    world.settle(Settle { settlements: [unsent].into(), now: at(0) }).await.unwrap();
    let back = world.read(&row).await;
    assert_eq!((back.tries, back.epoch, back.throttles), (0, 1, 0));
    assert_eq!(world.attempts(&row.org, row.id).await.unwrap(), []);
    let again = world.take_one(session).await;
    assert_eq!((again.tries, again.epoch), (1, 2));
    assert_eq!(world.finish(&row, Next::Delivered, 1).await, Settled::Stale);
}

pub(super) async fn throttles_are_counted_apart(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    for expected in 1..=3 {
        let row = world.take_one(session).await;
        world.finish(&row, refund(0, true), 0).await;
        let row = world.read(&row).await;
        assert_eq!((row.tries, row.throttles, row.epoch), (0, expected, expected));
    }
}

pub(super) async fn each_end_has_its_state_and_reason(world: World) {
    let session = world.session().await;
    let ends = [
        (Next::Dead { reason: why("exhausted") }, DeliveryState::Dead),
        (Next::Skipped { reason: why("dropped") }, DeliveryState::Skipped),
        (Next::Cancelled { reason: why("gone") }, DeliveryState::Cancelled),
        (Next::Expired, DeliveryState::Expired),
    ];
    for (next, state) in ends {
        world.fill("acme", "hook", 1).await;
        let row = world.take_one(session).await;
        let reason = next.reason().cloned();
        world.finish(&row, next, 1).await;
        let row = world.read(&row).await;
        assert_eq!(row.state, state);
        assert!(reason.is_none() || row.reason == reason);
    }
    assert_eq!(world.take_at(session, 9, 9_999).await.len(), 0);
    world.assert_clean().await;
}

pub(super) async fn an_expired_one_is_swept(world: World) {
    let mut event = world.new_event("acme");
    event.expires_at = Some(at(50));
    let id = world.to("acme", "hook");
    let row = id.id;
    let item = world.item(&event, vec![id]);
    world.ingest_items(vec![item], 0).await;
    let none = world.sweep(Sweep { now: at(49), limit: 10 }).await.unwrap();
    assert_eq!(none, Swept::default());
    let swept = world.sweep(Sweep { now: at(50), limit: 10 }).await.unwrap();
    assert_eq!((swept.expired, swept.woken), (1, 0));
    let row = world.delivery(&org("acme"), row).await.unwrap().unwrap();
    assert_eq!((row.state, row.expires_at), (DeliveryState::Expired, Some(at(50))));
    world.assert_clean().await;
}

pub(super) async fn a_leased_one_is_not_swept(world: World) {
    let session = world.session().await;
    let mut event = world.new_event("acme");
    event.expires_at = Some(at(50));
    let item = world.item(&event, vec![world.to("acme", "hook")]);
    world.ingest_items(vec![item], 0).await;
    let row = world.take_one(session).await;
    assert_eq!(world.sweep(Sweep { now: at(60), limit: 9 }).await.unwrap().expired, 0);
    assert_eq!(world.finish(&row, Next::Delivered, 61).await, Settled::Recorded);
}

pub(super) async fn a_sweep_keeps_to_its_limit(world: World) {
    let mut event = world.new_event("acme");
    event.expires_at = Some(at(5));
    let item = world.item(&event, (0..3).map(|_| world.to("acme", "hook")).collect());
    world.ingest_items(vec![item], 0).await;
    assert_eq!(world.sweep(Sweep { now: at(9), limit: 2 }).await.unwrap().expired, 2);
    assert_eq!(world.sweep(Sweep { now: at(9), limit: 2 }).await.unwrap().expired, 1);
}

pub(super) async fn a_replay_is_new_and_linked(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let old = world.take_one(session).await;
    world.finish(&old, Next::Dead { reason: why("exhausted") }, 1).await;
    let before = world.read(&old).await;
    let new = world.replay(replay_of(&world, &old)).await.unwrap();
    assert_eq!((new.replay_of, new.event, &new.lane), (Some(old.id), old.event, &old.lane));
    assert_eq!((new.state, new.epoch, new.tries), (DeliveryState::Ready, 0, 0));
    assert_eq!((new.due_at, new.created_at), (at(10), at(10)));
    assert_eq!(world.read(&old).await, before, "an ended delivery changes no more");
    assert_eq!(ids(&world.take_at(session, 5, 10).await), [new.id]);
}

pub(super) async fn a_repeated_replay_makes_one(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let old = world.take_one(session).await;
    world.finish(&old, Next::Delivered, 1).await;
    let replay = replay_of(&world, &old);
    let first = world.replay(replay.clone()).await.unwrap();
    assert_eq!(world.replay(replay).await.unwrap(), first);
    assert_eq!(world.take_at(session, 5, 10).await.len(), 1);
}

pub(super) async fn only_what_has_ended_is_replayed(world: World) {
    let session = world.session().await;
    let id = world.fill("acme", "hook", 1).await[0];
    let row = world.delivery(&org("acme"), id).await.unwrap().unwrap();
    let refused = world.replay(replay_of(&world, &row)).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeliveryStateConflict);
    let row = world.take_one(session).await;
    let refused = world.replay(replay_of(&world, &row)).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeliveryStateConflict);
    let mut foreign = replay_of(&world, &row);
    foreign.org = org("beta");
    assert_eq!(world.replay(foreign).await.unwrap_err().code(), Code::DeliveryNotFound);
}

pub(super) async fn only_a_ready_one_is_cancelled(world: World) {
    let session = world.session().await;
    let id = world.fill("acme", "hook", 1).await[0];
    let foreign = world.cancel(call_off("beta", id, 1)).await.unwrap_err();
    assert_eq!(foreign.code(), Code::DeliveryNotFound);
    let row = world.take_one(session).await;
    let refused = world.cancel(call_off("acme", id, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeliveryStateConflict);
    assert_eq!(world.read(&row).await, row);
    world.finish(&row, retry(5), 1).await;
    let off = world.cancel(call_off("acme", id, 2)).await.unwrap();
    assert_eq!((off.state, off.reason.clone()), (DeliveryState::Cancelled, Some(why("host"))));
    assert_eq!(world.read(&row).await, off);
    let again = world.cancel(call_off("acme", id, 3)).await.unwrap_err();
    assert_eq!(again.code(), Code::DeliveryStateConflict);
    assert_eq!(world.take_at(session, 5, 99).await.len(), 0);
    world.assert_clean().await;
}

pub(super) async fn lists_are_newest_first_and_paged(world: World) {
    let mut made = world.fill("acme", "hook", 5).await;
    made.reverse();
    let mut seen = Vec::new();
    let mut page = PageQuery { after: None, limit: 2 };
    loop {
        let query = DeliveryQuery { page, ..DeliveryQuery::default() };
        let got = world.deliveries(&org("acme"), &query).await.unwrap();
        seen.extend(got.items.iter().map(|row| row.id));
        page.after = seen.last().copied();
        if !got.more {
            break;
        }
        assert_eq!(got.items.len(), 2);
    }
    assert_eq!(seen, made);
}

pub(super) async fn lists_filter_by_state_event_and_integration(world: World) {
    let session = world.session().await;
    world.fill("acme", "a", 2).await;
    let row = world.take_one(session).await;
    let b = world.fill("acme", "b", 1).await;
    let list = async |query: DeliveryQuery| {
        let page = world.deliveries(&org("acme"), &query).await.unwrap();
        page.items.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let by_state = DeliveryQuery { state: Some(DeliveryState::Leased), ..Default::default() };
    assert_eq!(list(by_state).await, [row.id]);
    let by_event = DeliveryQuery { event: Some(row.event), ..Default::default() };
    assert_eq!(list(by_event).await, [row.id]);
    let by_integration = DeliveryQuery { integration: Some(res("b")), ..Default::default() };
    assert_eq!(list(by_integration).await, b);
}

pub(super) async fn another_organization_sees_nothing(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    world.finish(&row, Next::Delivered, 1).await;
    let beta = org("beta");
    assert_eq!(world.delivery(&beta, row.id).await.unwrap(), None);
    assert_eq!(world.attempts(&beta, row.id).await.unwrap(), []);
    assert_eq!(world.lanes(&beta).await.unwrap(), []);
    let query = DeliveryQuery::default();
    assert_eq!(world.deliveries(&beta, &query).await.unwrap().items, []);
}

pub(super) async fn counts_follow_the_states(world: World) {
    let session = world.session().await;
    assert!(world.counts().await.unwrap().iter().all(|(_, count)| *count == 0));
    world.fill("acme", "hook", 3).await;
    world.fill("beta", "hook", 1).await;
    let row = world.take_one(session).await;
    world.finish(&row, Next::Delivered, 1).await;
    world.take_one(session).await;
    let counts = world.counts().await.unwrap();
    let of = |state| counts.iter().find(|(s, _)| *s == state).map_or(0, |(_, count)| *count);
    assert_eq!(of(DeliveryState::Ready), 2);
    assert_eq!(of(DeliveryState::Leased), 1);
    assert_eq!(of(DeliveryState::Delivered), 1);
    assert_eq!(of(DeliveryState::Dead), 0);
}
