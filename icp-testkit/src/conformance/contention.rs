use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use icp_core::delivery::{ClaimedDelivery, DeliveryState, Next, Settle, Settled, Sweep};
use icp_core::event::{Direct, Ingest, Ingested};
use icp_core::id::{DeliveryId, EventId, SessionId};
use icp_core::replay::ReplayClaim;
use icp_core::resource::{Effect, Expect, Revision};

use super::BoxFuture;
use super::world::{
    World, at, breathe, change, claim, ids, org, race, res, retry, settlement, write,
};

async fn settle(
    world: &World,
    claimed: &[ClaimedDelivery],
    next: impl Fn(&ClaimedDelivery) -> Next,
    secs: u64,
) -> Vec<Settled> {
    let settlements =
        claimed.iter().map(|claimed| settlement(&claimed.delivery, next(claimed))).collect();
    world.settle(Settle { settlements, now: at(secs) }).await.unwrap()
}

pub(super) async fn claims_race_settles_and_every_delivery_is_taken_once(world: World) {
    let mut made = Vec::new();
    for lane in 0..8 {
        let org = ["acme", "beta"][lane % 2];
        made.extend(world.fill(org, &format!("hook-{lane}"), 40).await);
    }
    let total = made.len();
    let (world, taken) = (Arc::new(world), Arc::new(AtomicUsize::new(0)));
    let workers = (0..8).map(|_| {
        let (world, taken) = (Arc::clone(&world), Arc::clone(&taken));
        async move {
            let (session, mut won) = (world.session().await, Vec::new());
            while taken.load(Ordering::SeqCst) < total {
                let claimed = world.take(session, 7).await;
                taken.fetch_add(claimed.len(), Ordering::SeqCst);
                won.extend(ids(&claimed));
                let settled = settle(&world, &claimed, |_| Next::Delivered, 1).await;
                assert_eq!(settled, vec![Settled::Recorded; claimed.len()]);
                breathe(!claimed.is_empty()).await;
            }
            won
        }
    });
    let mut won = race(workers).await.concat();
    won.sort();
    made.sort();
    assert_eq!(won, made);
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Delivered, 320)]);
    world.assert_clean().await;
}

pub(super) async fn one_that_changes_hands_is_counted_all_the_time(world: World) {
    const HANDS: u64 = 200;
    world.fill("acme", "hook", 1).await;
    let (world, given_back) = (Arc::new(world), Arc::new(AtomicUsize::new(0)));
    let counting = (Arc::clone(&world), Arc::clone(&given_back));
    let worker: BoxFuture<()> = Box::pin({
        let (world, given_back) = (Arc::clone(&world), Arc::clone(&given_back));
        async move {
            let session = world.session().await;
            for hand in 1..=HANDS {
                let claimed = world.take_at(session, 1, hand).await;
                assert_eq!(claimed.len(), 1, "it is due again at once");
                settle(&world, &claimed, |_| retry(hand), hand).await;
                given_back.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let counter: BoxFuture<()> = Box::pin(async move {
        let (world, given_back) = counting;
        while given_back.load(Ordering::SeqCst) < usize::try_from(HANDS).unwrap() {
            let counts = world.counts().await.unwrap();
            let open: u64 = counts.iter().map(|(_, count)| count).sum();
            assert_eq!(open, 1, "{counts:?}");
        }
    });
    race([worker, counter]).await;
}

pub(super) async fn racing_reports_of_one_outcome_are_recorded_once(world: World) {
    let session = world.session().await;
    world.fill("acme", "a", 20).await;
    world.fill("acme", "b", 20).await;
    let taken = world.take(session, 40).await;
    assert_eq!(taken.len(), 40);
    let world = Arc::new(world);
    let reporters = (0..8).map(|reporter: usize| {
        let (world, mut batch) = (Arc::clone(&world), taken.clone());
        // Each in an order of its own, which is where locks of rows cross.
        batch.rotate_left(reporter * 5);
        if reporter % 2 == 1 {
            batch.reverse();
        }
        async move {
            let settled = settle(&world, &batch, |_| Next::Delivered, 1).await;
            let recorded = ids(&batch).into_iter().zip(settled);
            let recorded = recorded.filter(|(_, settled)| *settled == Settled::Recorded);
            recorded.map(|(id, _)| id).collect::<Vec<_>>()
        }
    });
    let mut recorded = race(reporters).await.concat();
    recorded.sort();
    let mut all = ids(&taken);
    all.sort();
    assert_eq!(recorded, all);
    for id in all {
        assert_eq!(world.attempts(&org("acme"), id).await.unwrap().len(), 1);
    }
    world.assert_clean().await;
}

struct Publication {
    event: EventId,
    hash: [u8; 32],
    answer: Ingested,
}

/// What one publisher is answered for each of 200 keys, which it publishes in batches and in an
/// order of its own.
async fn publish_keys(world: Arc<World>, publisher: usize) -> Vec<(usize, Publication)> {
    let hash = if publisher.is_multiple_of(5) { [8; 32] } else { [7; 32] };
    let mut keys: Vec<usize> = (0..200).collect();
    keys.rotate_left(publisher * 10);
    if publisher % 2 == 1 {
        keys.reverse();
    }
    let mut told = Vec::new();
    for batch in keys.chunks(20) {
        let items: Vec<_> = batch
            .iter()
            .map(|key| {
                let event = world.keyed("acme", &format!("k{key}"));
                let mut item = world.item(&event, vec![world.to("acme", "hook")]);
                item.body_hash = hash;
                item
            })
            .collect();
        let answers = world.ingest_items(items.clone(), 0).await;
        for ((key, item), answer) in batch.iter().zip(items).zip(answers) {
            told.push((*key, Publication { event: item.event.id, hash, answer }));
        }
    }
    told
}

pub(super) async fn racing_publishers_of_many_keys_make_one_event_each(world: World) {
    let world = Arc::new(world);
    let publishers = (0..20).map(|publisher| publish_keys(Arc::clone(&world), publisher));
    let mut by_key: BTreeMap<usize, Vec<Publication>> = BTreeMap::new();
    for (key, told) in race(publishers).await.into_iter().flatten() {
        by_key.entry(key).or_default().push(told);
    }
    assert_eq!(by_key.len(), 200);
    for (key, told) in by_key {
        let is_accepted = |told: &&Publication| matches!(told.answer, Ingested::Accepted { .. });
        let accepted: Vec<_> = told.iter().filter(is_accepted).collect();
        let [winner] = accepted[..] else { panic!("{} events of key {key}", accepted.len()) };
        for loser in told.iter().filter(|told| !is_accepted(told)) {
            let expected = if loser.hash == winner.hash {
                Ingested::Duplicate { of: winner.event }
            } else {
                Ingested::Conflict { with: winner.event }
            };
            assert_eq!(loser.answer, expected, "key {key}");
        }
    }
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Ready, 200)]);
    world.assert_clean().await;
}

const WRITERS: usize = 6;
const WRITES: usize = 15;

/// Makes its writes, each of two resources that all writers share; answers their revisions.
async fn write_on(world: Arc<World>, writer: usize, over: Arc<AtomicUsize>) -> Vec<Revision> {
    let mut made = Vec::new();
    for round in 0..WRITES {
        let mut names = ["a", "b"];
        if (writer + round) % 2 == 1 {
            names.reverse();
        }
        let changes = names.map(|name| change("acme", name, Expect::Any)).to_vec();
        let records = world.write(write(changes, 1)).await.unwrap();
        made.extend(records.iter().map(|record| record.revision));
    }
    over.fetch_add(1, Ordering::SeqCst);
    made
}

/// Follows the feed until all writers are over and it has nothing more; answers what it saw.
async fn follow(world: Arc<World>, over: Arc<AtomicUsize>) -> Vec<Revision> {
    let (mut seen, mut after) = (Vec::new(), Revision::ZERO);
    loop {
        let all_written = over.load(Ordering::SeqCst) == WRITERS;
        let page = world.changes(after, 7).await.unwrap();
        if all_written && page.is_empty() {
            return seen;
        }
        let found = !page.is_empty();
        for record in page {
            assert!(record.revision > after, "{:?} after {after:?}", record.revision);
            after = record.revision;
            seen.push(after);
        }
        breathe(found).await;
    }
}

pub(super) async fn followers_of_the_feed_miss_nothing_while_it_grows(world: World) {
    let (world, over) = (Arc::new(world), Arc::new(AtomicUsize::new(0)));
    let mut tasks: Vec<BoxFuture<(bool, Vec<Revision>)>> = Vec::new();
    for writer in 0..WRITERS {
        let made = write_on(Arc::clone(&world), writer, Arc::clone(&over));
        tasks.push(Box::pin(async move { (true, made.await) }));
    }
    for _ in 0..3 {
        let seen = follow(Arc::clone(&world), Arc::clone(&over));
        tasks.push(Box::pin(async move { (false, seen.await) }));
    }
    let (made, seen): (Vec<_>, Vec<_>) =
        race(tasks).await.into_iter().partition(|(is_writer, _)| *is_writer);
    let mut made: Vec<_> = made.into_iter().flat_map(|(_, revisions)| revisions).collect();
    made.sort();
    assert_eq!(made.len(), WRITERS * WRITES * 2);
    for (_, seen) in seen {
        assert_eq!(seen, made);
    }
}

pub(super) async fn racing_relays_take_each_outbox_row_once(world: World) {
    for _ in 0..60 {
        let event = world.new_event("acme");
        world.put_outbox(&event).await;
    }
    let world = Arc::new(world);
    let relays = (0..4).map(|relay: usize| {
        let world = Arc::clone(&world);
        async move {
            let mut taken = Vec::new();
            loop {
                let mut rows = world.outbox(&[], 16).await.unwrap();
                if rows.is_empty() {
                    return taken;
                }
                if relay % 2 == 1 {
                    rows.reverse();
                }
                let relayed = |row: &icp_core::event::OutboxEntry| {
                    let mut item = world.item(&row.event, vec![world.to("acme", "hook")]);
                    item.outbox = Some(row.event.id);
                    item
                };
                let answers = world.ingest_items(rows.iter().map(relayed).collect(), 1).await;
                for (row, answer) in rows.iter().zip(answers) {
                    match answer {
                        Ingested::Accepted { .. } => taken.push(row.event.id),
                        other => assert_eq!(other, Ingested::Gone),
                    }
                }
            }
        }
    });
    let mut taken = race(relays).await.concat();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 60);
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Ready, 60)]);
    world.assert_clean().await;
}

pub(super) async fn racing_nodes_take_each_replay_once(world: World) {
    let mut made = Vec::new();
    for _ in 0..4 {
        let job = super::replay::job(&world, "acme", 0);
        made.push(world.create_replay(job).await.unwrap().id);
    }
    let (world, taken) = (Arc::new(world), Arc::new(AtomicUsize::new(0)));
    let nodes = (0..8).map(|_| {
        let (world, taken) = (Arc::clone(&world), Arc::clone(&taken));
        async move {
            let mut won = Vec::new();
            while taken.load(Ordering::SeqCst) < 4 {
                // A node of its own each time: its owner may claim a job again.
                let session = world.session_id();
                let claim = ReplayClaim { session, now: at(1), lease_until: at(61) };
                let job = world.claim_replay(claim).await.unwrap().job;
                let found = job.is_some();
                if let Some(job) = job {
                    taken.fetch_add(1, Ordering::SeqCst);
                    won.push((job.id, job.fence));
                }
                breathe(found).await;
            }
            won
        }
    });
    let mut won = race(nodes).await.concat();
    won.sort();
    made.sort();
    assert_eq!(won, made.into_iter().map(|id| (id, 1)).collect::<Vec<_>>());
}

/// Publishes events with three deliveries each, and ends what is handed over to it.
async fn publish(world: Arc<World>, ended: Arc<AtomicUsize>) {
    let session = world.session().await;
    for round in 0..15 {
        let key = ["x", "y"][round % 2];
        let news = vec![
            world.to("acme", "hook"),
            world.in_order("acme", "line", key),
            world.to("acme", "resting"),
        ];
        let items = [world.item(&world.new_event("acme"), news)].into();
        let direct = Some(Direct { session, budget: 2, lease_until: at(60) });
        let done = world.ingest(Ingest { items, direct, now: at(0) }).await.unwrap();
        let [Ingested::Accepted { leased }] = &done[..] else { panic!("{done:?}") };
        finish_handed_over(&world, session, leased, &ended).await;
    }
}

async fn finish_handed_over(
    world: &World,
    session: SessionId,
    leased: &[DeliveryId],
    ended: &AtomicUsize,
) {
    for id in leased {
        let delivery = world.delivery(&org("acme"), *id).await.unwrap().unwrap();
        assert_eq!((delivery.owner, delivery.epoch), (Some(session), 1));
        assert_eq!(world.finish(&delivery, Next::Delivered, 1).await, Settled::Recorded);
        ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Claims until everything has ended; what it takes is delivered at the second try.
async fn work(world: Arc<World>, ended: Arc<AtomicUsize>, total: usize) {
    let session = world.session().await;
    let next = |claimed: &ClaimedDelivery| {
        if claimed.delivery.tries < 2 { retry(5) } else { Next::Delivered }
    };
    while ended.load(Ordering::SeqCst) < total {
        let claimed = world.claim(claim(session, 5, 10)).await.unwrap().deliveries;
        let settled = settle(&world, &claimed, next, 10).await;
        assert_eq!(settled, vec![Settled::Recorded; claimed.len()]);
        let over = claimed.iter().filter(|claimed| claimed.delivery.tries >= 2).count();
        ended.fetch_add(over, Ordering::SeqCst);
        breathe(!claimed.is_empty()).await;
    }
}

/// Puts lanes to rest and wakes them, and sweeps, while the others work.
async fn disturb(world: Arc<World>) {
    for round in 0..20 {
        let paused = round % 2 == 0;
        let effect = Effect::Lanes { integration: res("resting"), max_in_flight: 10_000, paused };
        world.effect("acme", effect, 1).await;
        let swept = world.sweep(Sweep { now: at(10), limit: 50 }).await.unwrap();
        assert_eq!((swept.expired, swept.woken), (0, 0));
    }
}

pub(super) async fn nothing_is_lost_where_everything_happens_at_once(world: World) {
    const TOTAL: usize = 3 * 15 * 3;
    let (world, ended) = (Arc::new(world), Arc::new(AtomicUsize::new(0)));
    let mut tasks: Vec<BoxFuture<()>> = vec![Box::pin(disturb(Arc::clone(&world)))];
    for _ in 0..3 {
        tasks.push(Box::pin(publish(Arc::clone(&world), Arc::clone(&ended))));
        tasks.push(Box::pin(work(Arc::clone(&world), Arc::clone(&ended), TOTAL)));
    }
    race(tasks).await;
    let total = u64::try_from(TOTAL).unwrap();
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Delivered, total)]);
    for lane in world.lanes(&org("acme")).await.unwrap() {
        assert_eq!(lane.in_flight, 0, "{lane:?}");
    }
    world.assert_clean().await;
}
