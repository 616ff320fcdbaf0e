use icp_core::delivery::{Next, RescueOf};

use super::session::rescue;
use super::world::{World, refund, retry};

pub(super) async fn clean_when_empty(world: World) {
    let audit = world.audit().await.unwrap();
    assert_eq!(audit.deliveries, 0);
    assert!(audit.is_clean());
}

pub(super) async fn clean_after_every_transition(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 6).await;
    let taken = world.take(session, 5).await;
    let nexts = [Next::Delivered, retry(30), refund(0, true), Next::Expired];
    for (claimed, next) in taken.iter().zip(nexts) {
        world.finish(&claimed.delivery, next, 1).await;
        world.assert_clean().await;
    }
    world.rescue(rescue(RescueOf::Session(session), 2)).await.unwrap();
    world.assert_clean().await;
    assert_eq!(world.audit().await.unwrap().deliveries, 6);
}

pub(super) async fn replays_do_not_count_as_fan_out(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let done = world.take_one(session).await;
    world.finish(&done, Next::Delivered, 1).await;
    let replay = super::delivery::replay_of(&world, &done);
    world.replay(replay).await.unwrap();
    world.assert_clean().await;
    assert_eq!(world.take_at(session, 5, 10).await.len(), 1);
    world.assert_clean().await;
}

pub(super) async fn paused_lanes_are_not_asleep(world: World) {
    world.fill("acme", "hook", 2).await;
    world.pause(true, 5, 1).await;
    world.assert_clean().await;
}
