use icp_core::delivery::{Claim, DeliveryState, LaneId, LaneMode, Next, Settle};
use icp_core::event::NewDelivery;
use icp_core::id::SessionId;
use icp_core::resource::Effect;
use icp_core::store::PageQuery;

use super::world::{World, at, call_off, claim, ids, org, res, retry, settlement};

async fn turns(world: &World, session: SessionId, turns: usize) -> Vec<String> {
    let mut order = Vec::new();
    for _ in 0..turns {
        order.push(world.take_one(session).await.org.to_string());
    }
    order
}

async fn only(world: &World) -> icp_core::delivery::Lane {
    world.lanes(&org("acme")).await.unwrap().remove(0)
}

pub(super) async fn is_made_from_its_seed_once(world: World) {
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    let lane = only(&world).await;
    assert_eq!(lane.id, LaneId::of(&org("acme"), &res("hook"), Some("k")));
    assert_eq!((lane.mode, lane.order_key.as_deref()), (LaneMode::Fifo, Some("k")));
    assert_eq!((lane.integration, lane.weight, lane.max_in_flight), (res("hook"), 1, 1));
    assert_eq!((lane.in_flight, lane.blocked_until, lane.paused), (0, None, false));
    let mut again = world.in_order("acme", "hook", "k");
    again.lane.weight = 9;
    world.put("acme", again).await;
    assert_eq!(only(&world).await.weight, 1, "a seed does not overwrite");
}

pub(super) async fn lists_are_ordered_by_id_and_paged(world: World) {
    for key in ["a", "b", "c", "d", "e"] {
        world.put("acme", world.in_order("acme", "hook", key)).await;
        world.put("other", world.in_order("other", "hook", key)).await;
    }
    let (mut ids, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = PageQuery { after, limit: 2 };
        let page = world.store().lanes(&org("acme"), page).await.unwrap();
        sizes.push(page.items.len());
        ids.extend(page.items.iter().map(|lane| lane.id));
        after = ids.last().copied();
        assert!(page.items.iter().all(|lane| lane.org == org("acme")));
        if !page.more {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    let mut expected: Vec<_> = ["a", "b", "c", "d", "e"]
        .map(|key| LaneId::of(&org("acme"), &res("hook"), Some(key)))
        .into();
    expected.sort();
    assert_eq!(ids, expected);
    let page = PageQuery { after, limit: 2 };
    let end = world.store().lanes(&org("acme"), page).await.unwrap();
    assert_eq!((end.items, end.more), (vec![], false));
}

pub(super) async fn a_backlog_starves_nobody(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1000).await;
    for _ in 0..20 {
        world.take_one(session).await;
    }
    world.fill("beta", "hook", 3).await;
    let order = turns(&world, session, 6).await;
    assert_eq!(order.iter().filter(|org| *org == "beta").count(), 3, "{order:?}");
}

pub(super) async fn weights_are_honoured(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 60).await;
    for _ in 0..60 {
        let mut heavy = world.to("beta", "hook");
        heavy.lane.weight = 4;
        world.put("beta", heavy).await;
    }
    let order = turns(&world, session, 50).await;
    let heavy = order.iter().filter(|org| *org == "beta").count();
    assert!((39..=41).contains(&heavy), "{heavy} of 50");
}

pub(super) async fn many_lanes_gain_nothing(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 60).await;
    for integration in ["a", "b", "c", "d"] {
        world.fill("beta", integration, 20).await;
    }
    let order = turns(&world, session, 40).await;
    let many = order.iter().filter(|org| *org == "beta").count();
    assert!((17..=23).contains(&many), "{many} of 40");
}

pub(super) async fn idling_is_no_credit(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    world.finish(&row, Next::Delivered, 0).await;
    world.fill("beta", "hook", 200).await;
    for _ in 0..100 {
        world.take_one(session).await;
    }
    world.fill("acme", "hook", 50).await;
    let order = turns(&world, session, 20).await;
    let woken = order.iter().filter(|org| *org == "acme").count();
    assert!((9..=11).contains(&woken), "{woken} of 20");
}

pub(super) async fn gives_no_more_than_per_lane(world: World) {
    let session = world.session().await;
    world.fill("acme", "a", 9).await;
    world.fill("acme", "b", 9).await;
    let claimed = world.claim(Claim { per_lane: 2, ..claim(session, 10, 0) }).await.unwrap();
    assert_eq!(claimed.deliveries.len(), 4);
    assert_eq!(claimed.next_due, None, "more is due now");
}

pub(super) async fn gives_nothing_of_who_is_left_out(world: World) {
    let session = world.session().await;
    for org in ["acme", "beta", "gamma", "delta"] {
        world.fill(org, "hook", 2).await;
    }
    let without = |names: &[&str]| names.iter().map(|name| org(name)).collect();
    let mut left = ["acme", "beta", "gamma"];
    for count in (0..=3).rev() {
        let claim = Claim { without: without(&left[..count]), limit: 1, ..claim(session, 9, 0) };
        let taken = world.claim(claim).await.unwrap().deliveries;
        assert_eq!(taken.len(), 1, "{count}");
        assert!(left[..count].iter().all(|name| taken[0].delivery.org != org(name)), "{count}");
    }
    left = ["acme", "beta", "delta"];
    let claim = Claim { without: without(&left), ..claim(session, 99, 0) };
    let taken = world.claim(claim.clone()).await.unwrap().deliveries;
    assert!(taken.iter().all(|taken| taken.delivery.org == org("gamma")));
    let nothing = world.claim(claim).await.unwrap();
    assert_eq!(nothing.deliveries.len(), 0);
    assert_eq!(nothing.next_due, None, "what is left out is due all the same");
    let rest = world.take(session, 99).await;
    assert_eq!(rest.len() + taken.len(), 4);
    world.assert_clean().await;
}

pub(super) async fn what_is_not_for_at_once_waits(world: World) {
    let session = world.session().await;
    let mut waits = world.to("acme", "a");
    waits.at_once = false;
    let (waiting, behind) = (waits.id, world.to("acme", "a"));
    let other = world.to("acme", "b");
    let at_once = other.id;
    assert_eq!(world.hand_over(session, 9, vec![waits, behind, other]).await, [at_once]);
    assert_eq!(world.take(session, 1).await[0].delivery.id, waiting, "nothing passed it by");
    world.assert_clean().await;
}

pub(super) async fn gives_no_more_than_it_has_room(world: World) {
    let session = world.session().await;
    for _ in 0..5 {
        let mut new = world.to("acme", "hook");
        new.lane.max_in_flight = 2;
        world.put("acme", new).await;
    }
    let taken = world.take(session, 9).await;
    assert_eq!(taken.len(), 2);
    assert_eq!(world.take(session, 9).await.len(), 0);
    world.finish(&taken[0].delivery, Next::Delivered, 0).await;
    assert_eq!(world.take(session, 9).await.len(), 1);
    assert_eq!(only(&world).await.in_flight, 2);
    world.assert_clean().await;
}

pub(super) async fn fifo_goes_one_by_one_in_order(world: World) {
    let session = world.session().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(world.put("acme", world.in_order("acme", "hook", "k")).await);
    }
    for id in made {
        let taken = world.take(session, 9).await;
        assert_eq!(ids(&taken), [id]);
        assert_eq!(world.take(session, 9).await.len(), 0);
        world.finish(&taken[0].delivery, Next::Delivered, 0).await;
    }
    world.assert_clean().await;
}

pub(super) async fn fifo_waits_for_its_head(world: World) {
    let session = world.session().await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    let other = world.put("acme", world.in_order("acme", "hook", "other")).await;
    let taken = world.take_at(session, 9, 0).await;
    let head = taken.into_iter().map(|claimed| claimed.delivery).find(|row| row.id != other);
    let head = head.unwrap();
    world.finish(&head, retry(30), 1).await;
    assert_eq!(world.take_at(session, 9, 29).await.len(), 0, "the head holds up the rest");
    assert_eq!(ids(&world.take_at(session, 9, 30).await), [head.id]);
    world.assert_clean().await;
}

pub(super) async fn fifo_moves_on_when_its_head_is_called_off(world: World) {
    let session = world.session().await;
    let mut first = world.in_order("acme", "hook", "k");
    first.due_at = at(100);
    let first = world.put("acme", first).await;
    let second = world.put("acme", world.in_order("acme", "hook", "k")).await;
    assert_eq!(world.take_at(session, 9, 5).await.len(), 0);
    world.cancel(call_off("acme", first, 6)).await.unwrap();
    assert_eq!(ids(&world.take_at(session, 9, 7).await), [second]);
}

pub(super) async fn keys_do_not_hold_each_other_up(world: World) {
    let session = world.session().await;
    for key in ["a", "b", "c"] {
        world.put("acme", world.in_order("acme", "hook", key)).await;
    }
    assert_eq!(world.take(session, 9).await.len(), 3);
}

async fn blocked(world: &World, until: u64) -> SessionId {
    let session = world.session().await;
    world.fill("acme", "hook", 3).await;
    let row = world.take_one(session).await;
    let mut wait = settlement(&row, retry(until));
    wait.block_lane_until = Some(at(until));
    world.settle(Settle { settlements: [wait].into(), now: at(0) }).await.unwrap();
    session
}

pub(super) async fn a_block_holds_the_whole_lane(world: World) {
    let session = blocked(&world, 40).await;
    world.fill("acme", "other", 1).await;
    assert_eq!(only_of(&world, "hook").await.blocked_until, Some(at(40)));
    assert_eq!(world.take_at(session, 9, 39).await.len(), 1, "only the other lane");
    let claimed = world.claim(claim(session, 9, 39)).await.unwrap();
    assert_eq!(claimed.next_due, Some(at(40)));
    assert_eq!(world.take_at(session, 9, 40).await.len(), 3);
    world.assert_clean().await;
}

pub(super) async fn a_block_is_no_credit(world: World) {
    let session = blocked(&world, 40).await;
    world.fill("acme", "hook", 50).await;
    world.fill("beta", "hook", 200).await;
    assert_eq!(world.take_at(session, 100, 1).await.len(), 100, "all of the other");
    let mut free = 0;
    for _ in 0..20 {
        let taken = world.take_at(session, 1, 40).await;
        free += taken.iter().filter(|claimed| claimed.delivery.org == org("acme")).count();
    }
    assert!((9..=11).contains(&free), "{free} of 20");
    world.assert_clean().await;
}

async fn only_of(world: &World, integration: &str) -> icp_core::delivery::Lane {
    let lanes = world.lanes(&org("acme")).await.unwrap();
    lanes.into_iter().find(|lane| lane.integration == res(integration)).unwrap()
}

pub(super) async fn the_later_of_two_blocks_holds(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 2).await;
    let taken = world.take(session, 2).await;
    for (claimed, until) in taken.iter().zip([50, 20]) {
        let mut wait = settlement(&claimed.delivery, retry(0));
        wait.block_lane_until = Some(at(until));
        world.settle(Settle { settlements: [wait].into(), now: at(0) }).await.unwrap();
    }
    assert_eq!(only(&world).await.blocked_until, Some(at(50)));
    assert_eq!(world.take_at(session, 9, 49).await.len(), 0);
    assert_eq!(world.take_at(session, 9, 50).await.len(), 2);
}

pub(super) async fn hand_over_respects_a_block(world: World) {
    let session = blocked(&world, 40).await;
    let rest: Vec<NewDelivery> = vec![world.to("acme", "hook")];
    assert_eq!(world.hand_over(session, 9, rest).await, []);
    world.assert_clean().await;
}

pub(super) async fn a_pause_rests_and_its_end_wakes(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 3).await;
    let row = world.take_one(session).await;
    world.pause(true, 10, 1).await;
    assert!(only_of(&world, "hook").await.paused);
    let claimed = world.claim(claim(session, 9, 2)).await.unwrap();
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, None));
    world.finish(&row, retry(3), 2).await;
    world.fill("acme", "hook", 1).await;
    assert_eq!(world.take_at(session, 9, 5).await.len(), 0);
    world.pause(false, 10, 6).await;
    assert_eq!(world.take_at(session, 9, 6).await.len(), 4);
    world.assert_clean().await;
}

pub(super) async fn effects_change_existing_lanes(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 5).await;
    world.fill("acme", "other", 1).await;
    world.fill("beta", "hook", 1).await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    world.pause(false, 2, 1).await;
    world.effect("acme", Effect::Weight { weight: 7 }, 1).await;
    for lane in world.lanes(&org("acme")).await.unwrap() {
        let expected = match (lane.mode, lane.integration.as_str()) {
            (LaneMode::Fifo, _) => 1,
            (LaneMode::Parallel, "hook") => 2,
            (LaneMode::Parallel, _) => 10_000,
        };
        assert_eq!((lane.max_in_flight, lane.weight), (expected, 7));
    }
    let foreign = world.lanes(&org("beta")).await.unwrap().remove(0);
    assert_eq!((foreign.max_in_flight, foreign.weight), (10_000, 1));
    let taken = world.take(session, 99).await;
    assert_eq!(taken.len(), 5, "two of the narrowed lane, and one of each other");
    assert!(taken.iter().all(|c| c.delivery.state == DeliveryState::Leased));
}

pub(super) async fn the_next_moment_of_work_is_told(world: World) {
    let session = world.session().await;
    assert_eq!(world.claim(claim(session, 9, 0)).await.unwrap().next_due, None);
    for due in [300, 200] {
        let mut new = world.to("acme", &format!("a{due}"));
        new.due_at = at(due);
        world.put("acme", new).await;
    }
    assert_eq!(world.claim(claim(session, 9, 0)).await.unwrap().next_due, Some(at(200)));
    let claimed = world.claim(claim(session, 9, 200)).await.unwrap();
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (1, Some(at(300))));
}
