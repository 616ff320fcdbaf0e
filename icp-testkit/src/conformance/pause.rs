use icp_core::delivery::{Lane, LaneId, Next};
use icp_core::id::DeliveryId;
use icp_core::resource::Effect;

use super::world::{World, at, claim, ids, org, res, retry, why};

async fn pause(world: &World, integration: Option<&str>, paused: bool, secs: u64) {
    let integration = integration.map(res);
    world.effect("acme", Effect::Pause { integration, paused }, secs).await;
}

async fn switch(world: &World, off: bool, secs: u64) {
    world.pause(off, 10, secs).await;
}

async fn lane(world: &World, integration: &str, key: Option<&str>) -> Lane {
    let id = LaneId::of(&org("acme"), &res(integration), key);
    let lanes = world.lanes(&org("acme")).await.unwrap();
    lanes.into_iter().find(|lane| lane.id == id).unwrap()
}

pub(super) async fn holds_an_integration_and_lets_it_go_on_in_order(world: World) {
    let session = world.session().await;
    let mut made: Vec<DeliveryId> = Vec::new();
    made.push(world.put("acme", world.in_order("acme", "hook", "k")).await);
    let other = world.fill("acme", "other", 1).await;
    pause(&world, Some("hook"), true, 1).await;
    assert!(lane(&world, "hook", Some("k")).await.paused);
    for _ in 0..2 {
        made.push(world.put("acme", world.in_order("acme", "hook", "k")).await);
    }
    assert_eq!(ids(&world.take_at(session, 9, 2).await), other);
    let claimed = world.claim(claim(session, 9, 3)).await.unwrap();
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, None), "no timer ends a pause");
    world.assert_clean().await;
    pause(&world, Some("hook"), false, 4).await;
    for id in made {
        let taken = world.take_at(session, 9, 4).await;
        assert_eq!(ids(&taken), [id]);
        assert_eq!(taken[0].delivery.tries, 1, "the pause burned no try");
        world.finish(&taken[0].delivery, Next::Delivered, 4).await;
    }
    world.assert_clean().await;
}

pub(super) async fn holds_a_whole_organization(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 2).await;
    world.fill("acme", "other", 2).await;
    let foreign = world.fill("beta", "hook", 1).await;
    pause(&world, None, true, 1).await;
    assert_eq!(ids(&world.take_at(session, 9, 2).await), foreign);
    world.assert_clean().await;
    pause(&world, None, false, 3).await;
    assert_eq!(world.take_at(session, 9, 3).await.len(), 4);
    world.assert_clean().await;
}

pub(super) async fn reasons_stand_beside_each_other(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    pause(&world, None, true, 1).await;
    pause(&world, Some("hook"), true, 1).await;
    pause(&world, Some("hook"), true, 1).await;
    switch(&world, true, 1).await;
    for ended in 0..3 {
        assert!(lane(&world, "hook", None).await.paused, "{ended} of 3 ended");
        assert_eq!(world.take_at(session, 9, 2).await.len(), 0, "{ended} of 3 ended");
        match ended {
            0 => switch(&world, false, 2).await,
            1 => pause(&world, None, false, 2).await,
            _ => pause(&world, Some("hook"), false, 2).await,
        }
    }
    assert!(!lane(&world, "hook", None).await.paused);
    assert_eq!(world.take_at(session, 9, 2).await.len(), 1);
}

pub(super) async fn holds_lanes_that_are_made_later(world: World) {
    let session = world.session().await;
    pause(&world, Some("hook"), true, 0).await;
    pause(&world, Some("other"), true, 0).await;
    pause(&world, None, true, 0).await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    world.fill("acme", "other", 1).await;
    world.fill("acme", "third", 1).await;
    let foreign = world.fill("beta", "hook", 1).await;
    assert_eq!(ids(&world.take_at(session, 9, 1).await), foreign);
    pause(&world, None, false, 2).await;
    let taken = world.take_at(session, 9, 2).await;
    assert_eq!(
        taken.iter().map(|c| c.delivery.integration.as_str()).collect::<Vec<_>>(),
        ["third"]
    );
    pause(&world, Some("hook"), false, 3).await;
    pause(&world, Some("other"), false, 3).await;
    assert_eq!(world.take_at(session, 9, 3).await.len(), 2);
    world.put("acme", world.in_order("acme", "hook", "new")).await;
    assert!(!lane(&world, "hook", Some("new")).await.paused, "the end holds for new lanes too");
    world.assert_clean().await;
}

pub(super) async fn nothing_is_handed_over_to_a_new_lane_at_rest(world: World) {
    let session = world.session().await;
    pause(&world, Some("hook"), true, 0).await;
    let (at_rest, free) = (world.to("acme", "hook"), world.to("acme", "other"));
    let leased = world.hand_over(session, 9, vec![at_rest, free.clone()]).await;
    assert_eq!(leased, [free.id]);
    pause(&world, None, true, 0).await;
    let third = world.to("acme", "third");
    assert_eq!(world.hand_over(session, 9, vec![third]).await, []);
    world.assert_clean().await;
}

pub(super) async fn what_is_under_way_ends_and_keeps_its_tries(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 2).await;
    let taken = world.take(session, 2).await;
    pause(&world, Some("hook"), true, 1).await;
    world.finish(&taken[0].delivery, Next::Delivered, 2).await;
    world.finish(&taken[1].delivery, retry(3), 2).await;
    assert_eq!(world.take_at(session, 9, 50).await.len(), 0);
    assert_eq!(lane(&world, "hook", None).await.in_flight, 0);
    pause(&world, Some("hook"), false, 60).await;
    let again = world.take_at(session, 9, 60).await;
    assert_eq!(ids(&again), [taken[1].delivery.id]);
    assert_eq!(again[0].delivery.tries, 2);
    world.assert_clean().await;
}

pub(super) async fn one_that_steps_aside_rests_too(world: World) {
    let session = world.session().await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    let head = world.take_one(session).await;
    pause(&world, Some("hook"), true, 1).await;
    let lane = world.to("acme", "hook").lane;
    let aside = Next::StepAside { due_at: at(2), reason: why("status_500"), lane };
    world.finish(&head, aside, 2).await;
    assert_eq!(world.take_at(session, 9, 5).await.len(), 0);
    pause(&world, Some("hook"), false, 6).await;
    assert_eq!(ids(&world.take_at(session, 9, 6).await), [head.id]);
    world.assert_clean().await;
}

pub(super) async fn lanes_at_rest_lend_nobody_credit(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 5).await;
    pause(&world, None, true, 0).await;
    world.fill("gamma", "hook", 1).await;
    let idle = world.take_one(session).await;
    world.finish(&idle, Next::Delivered, 0).await;
    world.fill("beta", "hook", 200).await;
    assert_eq!(world.take(session, 100).await.len(), 100);
    world.fill("gamma", "hook", 50).await;
    let mut woken = 0;
    for _ in 0..20 {
        woken += usize::from(world.take_one(session).await.org == org("gamma"));
    }
    assert!((9..=11).contains(&woken), "{woken} of 20");
}
