use icp_core::delivery::{CancelBatch, DeliveryFilter, DeliveryState, LaneId, Next};
use icp_core::id::DeliveryId;

use super::world::{World, at, ids, org, res, retry, why};

fn batch(filter: &DeliveryFilter) -> CancelBatch {
    CancelBatch {
        org: org("acme"),
        filter: filter.clone(),
        reason: Some(why("cancelled")),
        after: None,
        limit: 100,
        now: at(9),
    }
}

/// Goes on to the end; gives how many were taken, and in how many batches.
async fn walk(world: &World, mut batch: CancelBatch) -> (u64, usize) {
    let (mut matched, mut batches) = (0, 0);
    loop {
        let some = world.cancel_some(batch.clone()).await.unwrap();
        matched += some.matched;
        batches += 1;
        assert!(batches < 1000, "the walk has no end");
        match some.next {
            Some(next) => {
                assert!(batch.after.as_ref().is_none_or(|before| *before < next));
                batch.after = Some(next);
            }
            None => return (matched, batches),
        }
    }
}

async fn state(world: &World, id: DeliveryId) -> DeliveryState {
    world.delivery(&org("acme"), id).await.unwrap().unwrap().state
}

fn to(integration: &str) -> DeliveryFilter {
    DeliveryFilter { integration: Some(res(integration)), ..DeliveryFilter::default() }
}

pub(super) async fn a_batch_ends_what_the_filter_takes(world: World) {
    let session = world.session().await;
    let meant = world.fill("acme", "hook", 5).await;
    let others = world.fill("acme", "other", 3).await;
    assert_eq!(walk(&world, batch(&to("hook"))).await.0, 5);
    for id in meant {
        let row = world.delivery(&org("acme"), id).await.unwrap().unwrap();
        assert_eq!((row.state, row.updated_at), (DeliveryState::Cancelled, at(9)));
        assert_eq!(row.reason, Some(why("cancelled")));
    }
    assert_eq!(walk(&world, batch(&to("hook"))).await.0, 0, "repeated, it finds nothing");
    let mut taken = ids(&world.take_at(session, 99, 9).await);
    taken.sort_unstable();
    assert_eq!(taken, others);
    world.assert_clean().await;
}

pub(super) async fn without_a_reason_it_only_counts(world: World) {
    let made = world.fill("acme", "hook", 3).await;
    let count = CancelBatch { reason: None, ..batch(&DeliveryFilter::default()) };
    assert_eq!(walk(&world, count.clone()).await.0, 3);
    assert_eq!(walk(&world, CancelBatch { limit: 1, ..count }).await.0, 3);
    assert_eq!(state(&world, made[0]).await, DeliveryState::Ready);
}

pub(super) async fn each_part_of_the_filter_counts(world: World) {
    let mut other_type = world.new_event("acme");
    other_type.event_type = "order.sent".parse().unwrap();
    let sent = world.item(&other_type, vec![world.to("acme", "hook")]);
    world.ingest_items(vec![sent], 0).await;
    world.fill("acme", "hook", 2).await;
    world.fill("acme", "other", 1).await;
    for key in ["a", "b"] {
        world.put("acme", world.in_order("acme", "hook", key)).await;
    }
    let late = world.item(&world.new_event("acme"), vec![world.to("acme", "hook")]);
    world.ingest_items(vec![late], 5).await;
    let any = DeliveryFilter::default;
    let event_type = "order.sent".parse().ok();
    let lane = Some(LaneId::of(&org("acme"), &res("hook"), Some("b")));
    for (filter, expected) in [
        (any(), 7),
        (to("hook"), 6),
        (to("none"), 0),
        (DeliveryFilter { event_type: event_type.clone(), ..any() }, 1),
        (DeliveryFilter { event_type, ..to("other") }, 0),
        (DeliveryFilter { since: Some(at(5)), ..any() }, 1),
        (DeliveryFilter { until: Some(at(5)), ..any() }, 6),
        (DeliveryFilter { since: Some(at(0)), until: Some(at(5)), ..to("other") }, 1),
        (DeliveryFilter { ordering_key: Some("a".into()), ..to("hook") }, 1),
        (DeliveryFilter { ordering_key: Some("a".into()), ..to("other") }, 0),
        (DeliveryFilter { lane, ..any() }, 1),
        (DeliveryFilter { lane, ..to("other") }, 0),
    ] {
        let count = CancelBatch { reason: None, ..batch(&filter) };
        assert_eq!(walk(&world, count).await.0, expected, "{filter:?}");
    }
}

pub(super) async fn leased_ones_are_left_and_counted(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 4).await;
    world.fill("acme", "other", 1).await;
    world.fill("beta", "hook", 1).await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    assert_eq!(world.leased(&org("acme"), &to("hook")).await.unwrap(), 0);
    let taken = world.take(session, 99).await;
    let again = world.fill("acme", "hook", 2).await;
    assert_eq!(walk(&world, batch(&to("hook"))).await.0, 2);
    assert_eq!(world.leased(&org("acme"), &to("hook")).await.unwrap(), 5);
    assert_eq!(world.leased(&org("acme"), &DeliveryFilter::default()).await.unwrap(), 6);
    let key = DeliveryFilter { ordering_key: Some("k".into()), ..to("hook") };
    assert_eq!(world.leased(&org("acme"), &key).await.unwrap(), 1);
    let none = DeliveryFilter { since: Some(at(1)), ..to("hook") };
    assert_eq!(world.leased(&org("acme"), &none).await.unwrap(), 0);
    let none = DeliveryFilter { event_type: "a.b".parse().ok(), ..to("hook") };
    assert_eq!(world.leased(&org("acme"), &none).await.unwrap(), 0);
    for claimed in &taken {
        assert_eq!(world.read(&claimed.delivery).await.state, DeliveryState::Leased);
        world.finish(&claimed.delivery, Next::Delivered, 9).await;
    }
    assert_eq!(state(&world, again[0]).await, DeliveryState::Cancelled);
    world.assert_clean().await;
}

pub(super) async fn batches_keep_to_their_limit_and_go_on(world: World) {
    for integration in ["a", "b", "c"] {
        world.fill("acme", integration, 7).await;
    }
    for key in ["x", "y", "z"] {
        world.put("acme", world.in_order("acme", "b", key)).await;
    }
    let first = world.cancel_some(CancelBatch { limit: 4, ..batch(&to("b")) }).await.unwrap();
    assert!(first.matched <= 4 && first.next.is_some());
    let all = CancelBatch { limit: 4, ..batch(&DeliveryFilter::default()) };
    let (matched, batches) = walk(&world, all).await;
    assert_eq!(matched + first.matched, 24);
    assert!(batches >= 5, "{batches}");
    let counts = world.counts().await.unwrap();
    assert_eq!(counts, [(DeliveryState::Cancelled, 24)]);
    world.assert_clean().await;
}

pub(super) async fn an_order_goes_on_behind_what_was_called_off(world: World) {
    let session = world.session().await;
    world.put("acme", world.in_order("acme", "hook", "k")).await;
    let head = world.take_one(session).await;
    world.finish(&head, retry(500), 1).await;
    let late = world.in_order("acme", "hook", "k");
    let second = late.id;
    let late = world.item(&world.new_event("acme"), vec![late]);
    world.ingest_items(vec![late], 5).await;
    assert_eq!(world.take_at(session, 9, 6).await.len(), 0);
    let old = DeliveryFilter { until: Some(at(5)), ..to("hook") };
    assert_eq!(walk(&world, batch(&old)).await.0, 1);
    assert_eq!(ids(&world.take_at(session, 9, 9).await), [second]);
    world.assert_clean().await;
}

pub(super) async fn another_organization_is_not_touched(world: World) {
    world.fill("beta", "hook", 3).await;
    world.fill("acme", "hook", 1).await;
    assert_eq!(walk(&world, batch(&DeliveryFilter::default())).await.0, 1);
    let lane = Some(LaneId::of(&org("beta"), &res("hook"), None));
    let foreign = DeliveryFilter { lane, ..DeliveryFilter::default() };
    assert_eq!(walk(&world, batch(&foreign)).await.0, 0);
    let counts = world.counts().await.unwrap();
    assert!(counts.contains(&(DeliveryState::Ready, 3)), "{counts:?}");
}
