use icp_core::delivery::{DeliveryState, LaneId, Next, Settle};
use icp_core::event::Ingested;
use icp_core::id::{DeliveryId, OrgId};
use icp_core::replay::{
    NewReplay, ReplayChange, ReplayClaim, ReplayDeliveries, ReplayJob, ReplayNext, ReplayStep,
};
use icp_core::resource::{AuditQuery, Effect, Expect};
use icp_core::retention::{Cutoffs, Prune, Pruned, What};
use icp_core::store::PageQuery;

use super::letter::dead;
use super::world::{World, at, change, deletion, org, res, retry, settlement, why, write};

fn records(events: u64, deliveries: u64, dead_letters: u64) -> What {
    let (events, deliveries) = (at(events), at(deliveries));
    What::Records(Cutoffs { events, deliveries, dead_letters: at(dead_letters) })
}

/// Prunes to the end, `limit` at a time, and adds up what was removed.
async fn prune(world: &World, org_name: &str, what: What, secs: u64, limit: usize) -> Pruned {
    let mut sum = Pruned::default();
    let mut after = None;
    for _ in 0..100 {
        let prune = Prune { org: org(org_name), what, after, limit, now: at(secs) };
        let pruned = world.prune(&prune).await.unwrap();
        assert!(pruned.deliveries + pruned.dead_letters <= 10 * limit as u64, "{pruned:?}");
        sum.events += pruned.events;
        sum.deliveries += pruned.deliveries;
        sum.dead_letters += pruned.dead_letters;
        sum.keys += pruned.keys;
        sum.audit += pruned.audit;
        sum.history += pruned.history;
        sum.replays += pruned.replays;
        sum.lanes += pruned.lanes;
        sum.rollups += pruned.rollups;
        after = pruned.next;
        if after.is_none() {
            return sum;
        }
    }
    panic!("pruning comes to no end");
}

async fn exists(world: &World, id: DeliveryId) -> bool {
    world.delivery(&org("acme"), id).await.unwrap().is_some()
}

pub(super) async fn old_deliveries_go_with_their_events(world: World) {
    let session = world.session().await;
    let ids = world.fill("acme", "hook", 5).await;
    for claimed in world.take(session, 5).await {
        world.finish(&claimed.delivery, Next::Delivered, 10).await;
    }
    let other = world.fill("other", "hook", 1).await[0];
    assert_eq!(prune(&world, "acme", records(50, 10, 99), 99, 2).await, Pruned::default());
    let gone = prune(&world, "acme", records(50, 11, 99), 99, 2).await;
    assert_eq!((gone.deliveries, gone.events, gone.dead_letters), (5, 5, 0));
    for id in ids {
        assert!(!exists(&world, id).await);
        assert_eq!(world.attempts(&org("acme"), id).await.unwrap(), []);
    }
    assert!(world.delivery(&org("other"), other).await.unwrap().is_some());
    world.assert_clean().await;
}

pub(super) async fn an_event_with_many_deliveries_goes_bit_by_bit(world: World) {
    let session = world.session().await;
    let events = [world.new_event("acme"), world.new_event("acme"), world.new_event("acme")];
    for (event, count) in events.iter().zip([1, 35, 2]) {
        let to = (0..count).map(|n| world.to("acme", &format!("hook-{n}"))).collect();
        world.ingest_items(vec![world.item(event, to)], 0).await;
    }
    for claimed in world.take(session, 99).await {
        world.finish(&claimed.delivery, Next::Delivered, 10).await;
    }
    let gone = prune(&world, "acme", records(50, 50, 50), 99, 1).await;
    assert_eq!((gone.deliveries, gone.events), (38, 3));
    world.assert_clean().await;
}

pub(super) async fn what_has_not_ended_stays_with_its_event(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 3).await;
    let taken = world.take(session, 2).await;
    world.finish(&taken[0].delivery, retry(90), 5).await;
    let gone = prune(&world, "acme", records(99, 99, 99), 99, 10).await;
    assert_eq!(gone, Pruned::default());
    assert_eq!(world.take_at(session, 9, 95).await.len(), 2, "they are delivered all the same");
    world.assert_clean().await;
}

pub(super) async fn dead_letters_have_their_own_time(world: World) {
    let session = world.session().await;
    let letter = dead(&world, "hook", "status_500", 10).await;
    let event = world.new_event("acme");
    let (one, two) = (world.to("acme", "hook"), world.to("acme", "b"));
    world.ingest_items(vec![world.item(&event, vec![one, two])], 0).await;
    for (claimed, next) in world
        .take(session, 2)
        .await
        .into_iter()
        .zip([Next::Delivered, Next::Dead { reason: why("exhausted") }])
    {
        world.finish(&claimed.delivery, next, 10).await;
    }
    let gone = prune(&world, "acme", records(50, 50, 10), 99, 10).await;
    assert_eq!((gone.deliveries, gone.dead_letters, gone.events), (1, 0, 0));
    world.assert_clean().await;
    assert!(world.event(&org("acme"), event.id).await.unwrap().is_some(), "a letter needs it");
    let new = world.replay(super::delivery::replay_of(&world, &letter)).await.unwrap();
    let gone = prune(&world, "acme", records(50, 50, 50), 99, 10).await;
    assert_eq!((gone.dead_letters, gone.events), (2, 1), "the replay needs its event");
    assert_eq!(world.take_at(session, 9, 60).await[0].delivery.id, new.id);
    assert_eq!(world.letters(&org("acme"), &[letter.id]).await.unwrap(), []);
    assert!(world.due_letters(at(9_999), 10).await.unwrap().is_empty());
    world.assert_clean().await;
}

pub(super) async fn an_event_stays_for_its_time_and_its_key(world: World) {
    let mut items = vec![world.item(&world.keyed("acme", "k"), vec![])];
    items.push(world.item(&world.new_event("acme"), vec![]));
    let again = world.item(&world.keyed("acme", "k"), vec![]);
    world.ingest_items(items.clone(), 0).await;
    assert_eq!(prune(&world, "acme", records(0, 99, 99), 99, 10).await.events, 0);
    assert_eq!(prune(&world, "acme", records(99, 99, 99), 3_599, 10).await.events, 1);
    let first = items[0].event.id;
    let answer = world.ingest_items(vec![again], 3_599).await;
    assert_eq!(answer, [Ingested::Duplicate { of: first }]);
    assert!(world.event(&org("acme"), first).await.unwrap().is_some());
    assert_eq!(prune(&world, "acme", records(99, 99, 99), 3_600, 10).await.events, 1);
}

pub(super) async fn keys_go_when_their_time_is_over(world: World) {
    for (secs, key) in [(0, "a"), (100, "b"), (0, "c"), (0, "d")] {
        let event = world.keyed("acme", key);
        world.ingest_items(vec![world.item(&event, vec![])], secs).await;
    }
    assert_eq!(prune(&world, "acme", What::Keys, 3_599, 2).await.keys, 0);
    assert_eq!(prune(&world, "acme", What::Keys, 3_600, 2).await.keys, 3);
    assert_eq!(prune(&world, "other", What::Keys, 9_999, 2).await.keys, 0);
    let live = world.ingest_items(vec![world.item(&world.keyed("acme", "b"), vec![])], 3_600).await;
    assert!(matches!(live[..], [Ingested::Duplicate { .. }]), "{live:?}");
}

pub(super) async fn audit_rows_go_by_age(world: World) {
    for (secs, id) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")] {
        world.write(write(vec![change("acme", id, Expect::Absent)], secs)).await.unwrap();
    }
    world.write(write(vec![change("other", "a", Expect::Absent)], 1)).await.unwrap();
    assert_eq!(prune(&world, "acme", What::Audit { before: at(4) }, 99, 2).await.audit, 3);
    let left = |name| {
        let (store, org) = (world.store(), org(name));
        async move { store.audit_log(&org, &AuditQuery::default()).await.unwrap().items.len() }
    };
    assert_eq!((left("acme").await, left("other").await), (2, 1));
}

pub(super) async fn replaced_versions_go_and_the_latest_stays(world: World) {
    for secs in 1..=5 {
        world.write(write(vec![change("acme", "a", Expect::Any)], secs)).await.unwrap();
    }
    world.write(write(vec![change("acme", "b", Expect::Any)], 1)).await.unwrap();
    world.write(write(vec![deletion("acme", "b", Expect::Any)], 2)).await.unwrap();
    let head = world.head().await.unwrap();
    let gone = prune(&world, "acme", What::History { before: at(4) }, 99, 2).await;
    assert_eq!(gone.history, 3, "two of `a`, and the first of `b`");
    let versions = |id| {
        let (store, org, id) = (world.store(), org("acme"), res(id));
        async move { store.history(&org, "integration", &id, None, 10).await.unwrap() }
    };
    let left: Vec<_> = versions("a").await.into_iter().map(|record| record.version).collect();
    assert_eq!(left, [5, 4, 3]);
    assert!(versions("b").await[0].deleted);
    let all = prune(&world, "acme", What::History { before: at(99) }, 99, 2).await;
    assert_eq!((all.history, world.head().await.unwrap()), (2, head));
    world.write(write(vec![change("acme", "b", Expect::Absent)], 9)).await.unwrap();
    assert_eq!(versions("b").await[0].version, 3, "versions count on");
}

pub(super) async fn every_organization_is_come_by(world: World) {
    world.fill("b", "hook", 1).await;
    world.fill("d", "hook", 1).await;
    world.write(write(vec![change("c", "a", Expect::Absent)], 1)).await.unwrap();
    world.create_replay(super::replay::job(&world, "e", 0)).await.unwrap();
    let (mut found, mut after): (Vec<OrgId>, Option<OrgId>) = (vec![], None);
    while let Some(next) = world.next_organization(after.as_ref()).await.unwrap() {
        found.push(next.clone());
        after = Some(next);
    }
    assert_eq!(found, [org("b"), org("c"), org("d"), org("e")]);
}

/// Replays what `old` names in one step, with which the job ends at 10 seconds.
async fn replayed(world: &World, org_name: &str, old: &[DeliveryId]) -> ReplayJob {
    let job = super::replay::job(world, org_name, 0);
    world.create_replay(job.clone()).await.unwrap();
    let claim = ReplayClaim { session: world.session_id(), now: at(0), lease_until: at(60) };
    let job = world.claim_replay(claim).await.unwrap().job.unwrap();
    let mut items = Vec::new();
    for id in old {
        let row = world.delivery(&job.org, *id).await.unwrap().unwrap();
        let new = world.to(org_name, "hook");
        items.push(NewReplay { event: row.event, replay_of: Some(row.id), new });
    }
    let step = ReplayStep {
        job: job.id,
        fence: job.fence,
        from: job.cursor,
        to: items.last().map(|item| item.event),
        examined: items.len() as u64,
        skipped: 0,
        items,
        error: None,
        next: ReplayNext::Done,
        now: at(10),
    };
    world.step_replay(&step).await.unwrap()
}

async fn made(world: &World, job: &ReplayJob) -> usize {
    let query = ReplayDeliveries { job: job.id, page: PageQuery { after: None, limit: 100 } };
    world.replay_deliveries(&job.org, &query).await.unwrap().items.len()
}

pub(super) async fn ended_replays_go_with_their_links(world: World) {
    let session = world.session().await;
    let mut old = world.fill("acme", "hook", 5).await;
    let others = world.fill("other", "hook", 2).await;
    for claimed in world.take(session, 9).await {
        world.finish(&claimed.delivery, Next::Delivered, 5).await;
    }
    old.sort();
    let ended = replayed(&world, "acme", &old).await;
    let other = replayed(&world, "other", &others).await;
    let open = world.create_replay(super::replay::job(&world, "acme", 0)).await.unwrap();
    let called_off = world.create_replay(super::replay::job(&world, "acme", 0)).await.unwrap();
    let called_off = world
        .change_replay(&org("acme"), called_off.id, ReplayChange::Cancel, at(20))
        .await
        .unwrap();
    assert_eq!((made(&world, &ended).await, ended.progress.created), (5, 5));

    let gone = prune(&world, "acme", What::Replays { before: at(10) }, 99, 2).await;
    assert_eq!((gone, made(&world, &ended).await), (Pruned::default(), 5));
    let some = Prune {
        org: org("acme"),
        what: What::Replays { before: at(11) },
        after: None,
        limit: 2,
        now: at(99),
    };
    let some = world.prune(&some).await.unwrap();
    assert_eq!((some.replays, some.next.is_some(), made(&world, &ended).await), (0, true, 3));
    let gone = prune(&world, "acme", What::Replays { before: at(11) }, 99, 2).await;
    assert_eq!(gone, Pruned { replays: 1, ..Pruned::default() });
    assert_eq!(world.replay_job(&org("acme"), ended.id).await.unwrap(), None);
    assert_eq!(made(&world, &ended).await, 0);
    world.assert_clean().await;

    let gone = prune(&world, "acme", What::Replays { before: at(99) }, 99, 100).await;
    assert_eq!(gone.replays, 1);
    assert_eq!(world.replay_job(&org("acme"), called_off.id).await.unwrap(), None);
    assert_eq!(world.replay_job(&org("acme"), open.id).await.unwrap(), Some(open));
    assert_eq!((made(&world, &other).await, other.progress.created), (2, 2));
    let taken = world.take_at(session, 99, 20).await;
    assert_eq!(taken.len(), 7, "what was replayed is delivered all the same");
}

pub(super) async fn what_ended_in_any_way_is_removed(world: World) {
    let session = world.session().await;
    let ends = [
        Next::Skipped { reason: why("dropped") },
        Next::Cancelled { reason: why("gone") },
        Next::Expired,
    ];
    world.fill("acme", "hook", ends.len()).await;
    for (claimed, next) in world.take(session, 9).await.into_iter().zip(ends) {
        world.finish(&claimed.delivery, next, 5).await;
    }
    let gone = prune(&world, "acme", records(99, 99, 0), 99, 10).await;
    assert_eq!((gone.deliveries, gone.events), (3, 3));
    let counts = world.counts().await.unwrap();
    let left = counts.iter().filter(|(state, _)| *state != DeliveryState::Ready);
    assert_eq!(left.map(|(_, count)| count).sum::<u64>(), 0);
}

/// The keys of the lanes that keep an order.
async fn keys(world: &World, org_name: &str) -> Vec<String> {
    let lanes = world.lanes(&org(org_name)).await.unwrap();
    let mut keys: Vec<_> = lanes.iter().filter_map(|lane| lane.order_key.as_deref()).collect();
    keys.sort_unstable();
    keys.into_iter().map(str::to_owned).collect()
}

pub(super) async fn a_lane_of_a_key_goes_with_its_last_delivery(world: World) {
    let session = world.session().await;
    for key in ["a", "b", "c", "d"] {
        world.put("acme", world.in_order("acme", "hook", key)).await;
    }
    let behind = world.put("acme", world.in_order("acme", "hook", "d")).await;
    world.put("acme", world.to("acme", "hook")).await;
    world.put("other", world.in_order("other", "hook", "a")).await;
    assert_eq!(prune(&world, "acme", What::Lanes, 99, 2).await, Pruned::default());
    for claimed in world.take(session, 9).await {
        let key = claimed.delivery.lane;
        let is = |name| key == LaneId::of(&org("acme"), &res("hook"), Some(name));
        let next = if is("b") { dead_letter() } else { Next::Delivered };
        if !is("c") {
            world.finish(&claimed.delivery, next, 10).await;
        }
    }
    // What has ended counts too: it may be repeated where it was.
    assert_eq!(prune(&world, "acme", What::Lanes, 99, 2).await, Pruned::default());
    prune(&world, "acme", records(50, 50, 5), 99, 10).await;
    assert_eq!(prune(&world, "acme", What::Lanes, 99, 2).await.lanes, 1);
    assert_eq!(keys(&world, "acme").await, ["b", "c", "d"]);
    assert_eq!(keys(&world, "other").await, ["a"], "another organization is not touched");
    assert!(exists(&world, behind).await);
    assert_eq!(world.lanes(&org("acme")).await.unwrap().len(), 4, "one that keeps no order stays");
    world.assert_clean().await;
}

fn dead_letter() -> Next {
    Next::Dead { reason: why("exhausted") }
}

pub(super) async fn what_a_lane_remembers_keeps_it(world: World) {
    let session = world.session().await;
    for key in ["blocked", "well"] {
        world.put("acme", world.in_order("acme", "hook", key)).await;
    }
    for claimed in world.take(session, 9).await {
        let mut one = settlement(&claimed.delivery, Next::Delivered);
        let blocked = LaneId::of(&org("acme"), &res("hook"), Some("blocked"));
        one.block_lane_until = (claimed.delivery.lane == blocked).then(|| at(500));
        world.settle(Settle { settlements: [one].into(), now: at(10) }).await.unwrap();
    }
    prune(&world, "acme", records(50, 50, 50), 9_999, 10).await;
    assert_eq!(prune(&world, "acme", What::Lanes, 99, 10).await.lanes, 1);
    assert_eq!(keys(&world, "acme").await, ["blocked"]);
    assert_eq!(world.next_organization(None).await.unwrap(), Some(org("acme")), "it is come by");
}

pub(super) async fn a_key_whose_lane_is_gone_begins_anew(world: World) {
    let session = world.session().await;
    world.put("acme", world.in_order("acme", "hook", "a")).await;
    let first = world.take_one(session).await;
    world.finish(&first, Next::Delivered, 10).await;
    prune(&world, "acme", records(50, 50, 50), 9_999, 10).await;
    let pause = |paused| Effect::Pause { integration: Some(res("hook")), paused };
    world.effect("acme", pause(true), 20).await;
    assert_eq!(prune(&world, "acme", What::Lanes, 99, 10).await.lanes, 1);
    assert_eq!(world.lanes(&org("acme")).await.unwrap(), []);

    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.put("acme", world.in_order("acme", "hook", "a")).await);
    }
    assert!(world.take_at(session, 9, 99).await.is_empty(), "a pause outlasts the lane");
    world.effect("acme", pause(false), 100).await;
    for id in ids {
        let taken = world.take_at(session, 9, 100).await;
        assert_eq!(super::world::ids(&taken), [id], "one by one, in order");
        world.finish(&taken[0].delivery, Next::Delivered, 100).await;
    }
    world.assert_clean().await;
}
