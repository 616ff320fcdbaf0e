use std::sync::Arc;
use std::time::Duration;

use icp_core::Code;
use icp_core::delivery::{DeliveryState, Next, Rescue, RescueOf, Settle, Settled, Sweep};
use icp_core::event::{Direct, Ingest};
use icp_core::id::DeliveryId;
use icp_core::letter::{Judgement, LetterStatus, Verdict};
use icp_core::replay::NewReplay;
use icp_core::resource::{AuditQuery, Effect, Expect};
use icp_core::retention::{Cutoffs, Prune, What};

use super::super::erasure::{self, about, assert_bare};
use super::super::world::{
    World, at, call_off, change, claim, ids, org, res, retry, settlement, why, write,
};
use super::super::{letter, replay};
use super::Crash;

/// How often the store is swept at the most until what the crash has left is set right.
const SWEEPS: usize = 200;
const BETWEEN_SWEEPS: Duration = Duration::from_millis(100);

/// Sweeps until nothing is left to set right.
async fn settle_down(world: &World) {
    for _ in 0..SWEEPS {
        world.sweep(Sweep { now: at(90), limit: 100 }).await.unwrap();
        if world.audit().await.unwrap().is_clean() {
            return;
        }
        tokio::time::sleep(BETWEEN_SWEEPS).await;
    }
    world.assert_clean().await;
}

/// Claims until it has as many as are wanted: what an event still lists is made by a later sweep.
async fn assert_claimed(world: &World, wanted: &[DeliveryId]) {
    let session = world.session().await;
    let mut taken = Vec::new();
    for _ in 0..SWEEPS {
        taken.extend(ids(&world.take_at(session, 99, 90).await));
        if taken.len() >= wanted.len() {
            break;
        }
        tokio::time::sleep(BETWEEN_SWEEPS).await;
        settle_down(world).await;
    }
    taken.sort_unstable();
    assert_eq!(taken, wanted);
}

pub(super) async fn a_publish(world: World, crash: Crash) {
    let deliveries = vec![
        world.to("acme", "one"),
        world.to("acme", "two"),
        world.in_order("acme", "three", "k"),
    ];
    let wanted: Vec<DeliveryId> = deliveries.iter().map(|new| new.id).collect();
    let items = [world.item(&world.new_event("acme"), deliveries)];
    let ingest = || Ingest { items: items.to_vec().into(), direct: None, now: at(0) };
    crash.during(None, || world.ingest(ingest())).await;
    settle_down(&world).await;
    assert_claimed(&world, &wanted).await;
}

pub(super) async fn a_publish_handed_over(world: World, crash: Crash) {
    let session = world.session().await;
    let deliveries = vec![world.to("acme", "one"), world.to("acme", "two")];
    let wanted: Vec<DeliveryId> = deliveries.iter().map(|new| new.id).collect();
    let items = [world.item(&world.new_event("acme"), deliveries)];
    let direct = Some(Direct { session, budget: 1, lease_until: at(60) });
    let ingest = || Ingest { items: items.to_vec().into(), direct, now: at(0) };
    crash.during(None, || world.ingest(ingest())).await;
    settle_down(&world).await;
    let rescue = Rescue { of: RescueOf::Session(session), now: at(80), limit: 9, max_rescues: 9 };
    world.rescue(rescue).await.unwrap();
    settle_down(&world).await;
    assert_claimed(&world, &wanted).await;
}

pub(super) async fn a_claim(world: World, crash: Crash) {
    let mut first = world.fill("acme", "hook", 2).await;
    first.push(world.put("acme", world.in_order("acme", "fifo", "k")).await);
    let behind = world.put("acme", world.in_order("acme", "fifo", "k")).await;
    let session = world.session().await;
    crash.during(None, || world.claim(claim(session, 99, 5))).await;
    settle_down(&world).await;
    // A claim that failed may have leased some, which nobody holds.
    for id in &first {
        let row = world.delivery(&org("acme"), *id).await.unwrap().unwrap();
        if row.state == DeliveryState::Leased {
            world.finish(&row, Next::Delivered, 6).await;
        }
    }
    first.push(behind);
    let mut delivered = 0;
    for _ in 0..SWEEPS {
        for claimed in world.take_at(session, 99, 90).await {
            world.finish(&claimed.delivery, Next::Delivered, 91).await;
        }
        settle_down(&world).await;
        delivered = 0;
        for id in &first {
            let row = world.delivery(&org("acme"), *id).await.unwrap().unwrap();
            delivered += usize::from(row.state == DeliveryState::Delivered);
        }
        if delivered == first.len() {
            return;
        }
        tokio::time::sleep(BETWEEN_SWEEPS).await;
    }
    assert_eq!(delivered, first.len());
}

pub(super) async fn an_outcome_with_a_notice(world: World, crash: Crash) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    let notice = world.new_event("acme");
    let mut ending = settlement(&row, retry(20));
    ending.notice = Some(Arc::new(notice.clone()));
    let settle = || Settle { settlements: [ending.clone()].into(), now: at(5) };
    crash.during(None, || world.settle(settle())).await;
    settle_down(&world).await;
    let waiting = world.outbox(&[], 10).await.unwrap();
    assert_eq!(waiting.into_iter().map(|row| row.event.id).collect::<Vec<_>>(), [notice.id]);
    assert_claimed(&world, &[row.id]).await;
}

pub(super) async fn a_step_of_a_replay(world: World, crash: Crash) {
    let old = replay::dead(&world).await;
    let (_, job) = replay::claimed(&world).await;
    let (again, further) = (world.to("acme", "hook"), world.to("acme", "other"));
    let wanted = [again.id, further.id];
    let items = vec![
        replay::again(&old, again),
        NewReplay { event: old.event, replay_of: None, new: further },
    ];
    let step = replay::step(&job, items);
    crash.during(Some(Code::LeaseLost), || world.step_replay(&step)).await;
    settle_down(&world).await;
    let mut made = replay::made(&world, &job).await;
    made.sort_unstable();
    assert_eq!(made, wanted);
    let progress = world.replay_job(&job.org, job.id).await.unwrap().unwrap().progress;
    assert_eq!(progress.created, 2);
    assert_claimed(&world, &wanted).await;
}

pub(super) async fn a_round_of_a_letter(world: World, crash: Crash) {
    let row = letter::dead(&world, "hook", "status_500", 5).await;
    let id = world.delivery_id();
    let judgement = [Judgement { delivery: row.id, seen: None, verdict: Verdict::Retry { id } }];
    crash.during(None, || world.judge(&judgement, at(60))).await;
    settle_down(&world).await;
    let again = world.letters(&row.org, &[row.id]).await.unwrap().remove(0);
    assert_eq!((again.status, again.successor), (LetterStatus::Retrying, Some(id)));
    assert_claimed(&world, &[id]).await;
}

pub(super) async fn a_change_of_configuration(world: World, crash: Crash) {
    world.fill("acme", "hook", 1).await;
    let mut made = change("acme", "hook", Expect::Absent);
    made.effects = vec![
        Effect::Weight { weight: 7 },
        Effect::Lanes { integration: res("hook"), max_in_flight: 3, paused: true },
    ];
    let asked = write(vec![made], 1);
    crash.during(Some(Code::ResourceExists), || world.write(asked.clone())).await;
    settle_down(&world).await;
    let hook = res("hook");
    let read = world.resource(&org("acme"), "integration", &hook).await.unwrap().unwrap();
    let history = world.history(&org("acme"), "integration", &hook, None, 9).await.unwrap();
    assert_eq!(history, std::slice::from_ref(&read));
    let log = world.audit_log(&org("acme"), &AuditQuery::default()).await.unwrap().items;
    let head = world.audit_head(&org("acme")).await.unwrap().unwrap();
    let [entry] = &log[..] else { panic!("{log:?}") };
    assert_eq!((entry.revision, &entry.chain), (read.revision, &head.newest.chain));
    let lanes = world.lanes(&org("acme")).await.unwrap();
    let [lane] = &lanes[..] else { panic!("{lanes:?}") };
    assert_eq!((lane.weight, lane.max_in_flight, lane.paused), (7, 3, true));
    assert_claimed(&world, &[]).await;
}

pub(super) async fn a_cancellation(world: World, crash: Crash) {
    let first = world.put("acme", world.in_order("acme", "hook", "k")).await;
    let second = world.put("acme", world.in_order("acme", "hook", "k")).await;
    let done = Some(Code::DeliveryStateConflict);
    crash.during(done, || world.cancel(call_off("acme", first, 5))).await;
    settle_down(&world).await;
    let gone = world.delivery(&org("acme"), first).await.unwrap().unwrap();
    assert_eq!(gone.state, DeliveryState::Cancelled);
    assert_claimed(&world, &[second]).await;
}

pub(super) async fn an_erasure(world: World, crash: Crash) {
    let session = world.session().await;
    let events = [about(&world, "ann"), about(&world, "ann"), about(&world, "ann")];
    for event in &events {
        erasure::take_in(&world, event).await;
    }
    let rows: Vec<_> = world.take(session, 2).await.into_iter().map(|c| c.delivery).collect();
    erasure::settle(&world, &rows[0], Next::Dead { reason: why("exhausted") }).await;
    let asked = erasure::of(&events.each_ref().map(|event| event.id));
    crash.during(None, || world.erase(&asked)).await;
    settle_down(&world).await;
    // The one that was under way, after it has ended.
    erasure::settle(&world, &rows[1], Next::Delivered).await;
    world.finish_erasures(10, at(41)).await.unwrap();
    for row in &rows {
        assert_bare(&world, row).await;
    }
    for event in &events {
        let left = world.event(&event.org, event.id).await.unwrap().unwrap();
        assert_eq!((left.body.len(), left.subject), (0, None));
    }
    settle_down(&world).await;
    assert_claimed(&world, &[]).await;
}

pub(super) async fn a_pruning(world: World, crash: Crash) {
    let session = world.session().await;
    let events = [world.new_event("acme"), world.new_event("acme")];
    for event in &events {
        let to = vec![world.to("acme", "one"), world.to("acme", "two")];
        world.ingest_items(vec![world.item(event, to)], 0).await;
    }
    let rows = world.take(session, 9).await;
    let (last, others) = rows.split_last().unwrap();
    for claimed in others {
        world.finish(&claimed.delivery, Next::Delivered, 10).await;
    }
    let cutoffs = Cutoffs { events: at(50), deliveries: at(50), dead_letters: at(50) };
    let (limit, now) = (9, at(9_999));
    let call = Prune { org: org("acme"), what: What::Records(cutoffs), after: None, limit, now };
    crash.during(None, || world.prune(&call)).await;
    settle_down(&world).await;
    assert_eq!(world.finish(&last.delivery, Next::Delivered, 11).await, Settled::Recorded);
    for _ in 0..3 {
        world.prune(&call).await.unwrap();
    }
    for claimed in &rows {
        assert_eq!(world.delivery(&org("acme"), claimed.delivery.id).await.unwrap(), None);
    }
    for event in &events {
        assert_eq!(world.event(&event.org, event.id).await.unwrap(), None);
    }
    settle_down(&world).await;
}
