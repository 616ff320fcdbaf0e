//! Old records are removed while others add to them and end them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icp_core::delivery::{Next, Settle, Settled, Sweep};
use icp_core::event::Ingested;
use icp_core::id::DeliveryId;
use icp_core::replay::{
    NewReplay, ReplayClaim, ReplayDeliveries, ReplayJob, ReplayNext, ReplayStep,
};
use icp_core::retention::{Cutoffs, Prune, Pruned, What};
use icp_core::store::PageQuery;
use tokio::task::yield_now;

use super::BoxFuture;
use super::world::{World, at, breathe, org, race, settlement};

/// Removes once whatever has ended, a few events at a time.
async fn prune(world: &World) -> Pruned {
    let (later, mut after) = (at(999), None);
    let what = What::Records(Cutoffs { events: later, deliveries: later, dead_letters: later });
    let mut sum = Pruned::default();
    loop {
        // Keys of events hold them for an hour.
        let prune = Prune { org: org("acme"), what, after, limit: 7, now: at(9_999) };
        let pruned = world.prune(&prune).await.unwrap();
        sum.events += pruned.events;
        sum.deliveries += pruned.deliveries;
        after = pruned.next;
        if after.is_none() {
            return sum;
        }
    }
}

const EVENTS: usize = 60;
const STEP: usize = 4;

/// Walks the events of delivered deliveries, and replays each that is still there.
async fn replay(world: Arc<World>, mut job: ReplayJob, old: Vec<DeliveryId>) -> ReplayJob {
    for ids in old.chunks(STEP) {
        let mut items = Vec::new();
        for id in ids {
            let Some(row) = world.delivery(&org("acme"), *id).await.unwrap() else { continue };
            let new = world.to("acme", "hook");
            items.push(NewReplay { event: row.event, replay_of: Some(row.id), new });
        }
        let step = ReplayStep {
            job: job.id,
            fence: job.fence,
            from: job.cursor,
            to: items.last().map(|item| item.event).or(job.cursor),
            examined: ids.len() as u64,
            skipped: (ids.len() - items.len()) as u64,
            items,
            error: None,
            next: ReplayNext::At { next_at: at(0), lease_until: at(60) },
            now: at(10),
        };
        job = world.step_replay(&step).await.unwrap();
        yield_now().await;
    }
    job
}

pub(super) async fn a_replay_counts_what_it_made_of_events_that_go(world: World) {
    let session = world.session().await;
    let old = world.fill("acme", "hook", EVENTS).await;
    for claimed in world.take(session, EVENTS).await {
        world.finish(&claimed.delivery, Next::Delivered, 5).await;
    }
    world.create_replay(super::replay::job(&world, "acme", 0)).await.unwrap();
    let claim = ReplayClaim { session, now: at(0), lease_until: at(60) };
    let job = world.claim_replay(claim).await.unwrap().job.unwrap();
    let world = Arc::new(world);
    let mut tasks: Vec<BoxFuture<Option<ReplayJob>>> = Vec::new();
    let walk = replay(Arc::clone(&world), job.clone(), old);
    tasks.push(Box::pin(async move { Some(walk.await) }));
    for _ in 0..2 {
        let world = Arc::clone(&world);
        tasks.push(Box::pin(async move {
            prune(&world).await;
            None
        }));
    }
    let ended = race(tasks).await.into_iter().flatten().next().unwrap();
    let made = ended.progress.created;
    let query = ReplayDeliveries { job: job.id, page: PageQuery { after: None, limit: 1_000 } };
    let rows = world.replay_deliveries(&org("acme"), &query).await.unwrap().items;
    assert_eq!(rows.len() as u64, made, "{ended:?}");
    assert_eq!(ended.progress.examined, EVENTS as u64);
    assert_eq!(ended.progress.skipped + made, EVENTS as u64, "{ended:?}");
    world.assert_clean().await;
    let taken = world.take_at(session, EVENTS * 2, 20).await;
    assert_eq!(taken.len() as u64, made, "each has its event");
}

/// Publishes events of one delivery each.
async fn publish(world: Arc<World>, rounds: usize, each: usize) {
    for _ in 0..rounds {
        let items = (0..each)
            .map(|_| world.item(&world.new_event("acme"), vec![world.to("acme", "hook")]))
            .collect();
        let answers = world.ingest_items(items, 0).await;
        let accepted = |answer: &Ingested| matches!(answer, Ingested::Accepted { .. });
        assert!(answers.iter().all(accepted), "{answers:?}");
        yield_now().await;
    }
}

/// Delivers until `total` are over.
async fn deliver(world: Arc<World>, over: Arc<AtomicU64>, total: u64) {
    let session = world.session().await;
    while over.load(Ordering::SeqCst) < total {
        let claimed = world.take(session, 9).await;
        let settlements: Vec<_> =
            claimed.iter().map(|c| settlement(&c.delivery, Next::Delivered)).collect();
        let settle = Settle { settlements: settlements.into(), now: at(1) };
        let settled = world.settle(settle).await.unwrap();
        assert_eq!(settled, vec![Settled::Recorded; claimed.len()]);
        over.fetch_add(claimed.len() as u64, Ordering::SeqCst);
        breathe(!claimed.is_empty()).await;
    }
}

/// Removes what has ended until `total` deliveries are gone; answers how many events went too.
async fn remove(world: Arc<World>, gone: Arc<AtomicU64>, total: u64) -> u64 {
    let mut events = 0;
    while gone.load(Ordering::SeqCst) < total {
        let pruned = prune(&world).await;
        events += pruned.events;
        gone.fetch_add(pruned.deliveries, Ordering::SeqCst);
        let swept = world.sweep(Sweep { now: at(2), limit: 50 }).await.unwrap();
        assert_eq!(swept.woken, 0);
        breathe(pruned.deliveries > 0).await;
    }
    events
}

pub(super) async fn what_is_under_way_ends_before_it_goes(world: World) {
    const TOTAL: u64 = 2 * 10 * 6;
    let world = Arc::new(world);
    let (over, gone) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks: Vec<BoxFuture<u64>> = Vec::new();
    for _ in 0..2 {
        let published = publish(Arc::clone(&world), 10, 6);
        let delivered = deliver(Arc::clone(&world), Arc::clone(&over), TOTAL);
        tasks.push(Box::pin(async move {
            published.await;
            0
        }));
        tasks.push(Box::pin(async move {
            delivered.await;
            0
        }));
    }
    tasks.push(Box::pin(remove(Arc::clone(&world), Arc::clone(&gone), TOTAL)));
    let events: u64 = race(tasks).await.into_iter().sum();
    assert_eq!((over.load(Ordering::SeqCst), gone.load(Ordering::SeqCst)), (TOTAL, TOTAL));
    assert_eq!(events + prune(&world).await.events, TOTAL);
    assert_eq!(world.counts().await.unwrap(), []);
    assert!(world.lanes(&org("acme")).await.unwrap().iter().all(|lane| lane.in_flight == 0));
    world.assert_clean().await;
}

const KEYS: usize = 5;

/// Publishes in order of keys that come again and again, and delivers all of it.
async fn keep_order(world: Arc<World>, rounds: usize, worker: usize) {
    for round in 0..rounds {
        let key = format!("key-{}", (round + worker) % KEYS);
        let item = world.item(&world.new_event("acme"), vec![world.in_order("acme", "hook", &key)]);
        let answers = world.ingest_items(vec![item], 0).await;
        assert_eq!(answers, [Ingested::Accepted { leased: vec![] }]);
        yield_now().await;
    }
}

/// Removes events that are over, and lanes that are idle, for as long as something is to come;
/// answers how many lanes went.
async fn remove_lanes(world: Arc<World>, over: Arc<AtomicU64>, total: u64) -> u64 {
    let mut lanes = 0;
    loop {
        let last = over.load(Ordering::SeqCst) == total;
        prune(&world).await;
        let (org, what, now) = (org("acme"), What::Lanes, at(9_999));
        lanes +=
            world.prune(&Prune { org, what, after: None, limit: 99, now }).await.unwrap().lanes;
        yield_now().await;
        if last {
            return lanes;
        }
    }
}

pub(super) async fn lanes_of_keys_that_come_and_go_lose_nothing(world: World) {
    const ROUNDS: u64 = 60;
    const TOTAL: u64 = 3 * ROUNDS;
    let world = Arc::new(world);
    let over = Arc::new(AtomicU64::new(0));
    let mut tasks: Vec<BoxFuture<u64>> = Vec::new();
    for worker in 0..3 {
        let published = keep_order(Arc::clone(&world), ROUNDS as usize, worker);
        tasks.push(Box::pin(async move {
            published.await;
            0
        }));
    }
    for _ in 0..2 {
        let delivered = deliver(Arc::clone(&world), Arc::clone(&over), TOTAL);
        tasks.push(Box::pin(async move {
            delivered.await;
            0
        }));
        tasks.push(Box::pin(remove_lanes(Arc::clone(&world), Arc::clone(&over), TOTAL)));
    }
    let lanes: u64 = race(tasks).await.into_iter().sum();
    assert!(lanes >= KEYS as u64, "each key's lane goes at least once, {lanes} did");
    prune(&world).await;
    assert_eq!(world.counts().await.unwrap(), [], "what was taken in was delivered and is gone");
    world.assert_clean().await;
}
