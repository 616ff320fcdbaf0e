//! A replay whose worker is killed again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use icp::Engine;
use icp::replay::{ReplayDeliveries, ReplayJob, ReplayRequest, ReplayState};
use icp::resource::Actor;
use icp::store::PageQuery;
use icp_testkit::receiver::Receiver;

use crate::account::PATH;
use crate::child::{Act, Other};
use crate::database::{Database, Kind};
use crate::node::{self, MOST_UNDER_WAY};
use crate::point::{Point, Side};
use crate::{PATIENCE, rounds};

const EVENTS: u64 = 400;
const RATE: u32 = 200;
/// Where it ends itself, beside being killed at any moment.
const POINTS: [&str; 3] = ["claim_replay", "scan_replay", "step_replay"];

pub(crate) async fn goes_on_without_repeats(kind: Kind) {
    let rounds = rounds(12);
    let receiver = Receiver::start().await;
    let database = Database::fresh(kind).await;
    node::prepare(&database, &[receiver.url(PATH)], MOST_UNDER_WAY).await;
    let engine = node::engine(&database.url).await;
    let since = engine.now();
    for published in engine.publish_batch((0..EVENTS).map(node::event).collect()).await {
        published.unwrap();
    }
    node::finish(&database.url).await;

    let org = node::org();
    let request = ReplayRequest::since(since).rate(RATE);
    let job = engine.start_replay(&org, request, Actor::host()).await.unwrap();
    for round in 0..rounds {
        one_life(&database, &engine, &job, round).await;
    }
    let interrupted = job_at(&engine, &job).await;
    assert!(interrupted.fence >= rounds.min(EVENTS) / 2, "{interrupted:?}");
    let running = node::engine(&database.url).await.start().await.unwrap();
    reaches(&engine, &job, |job| job.state.is_final()).await;
    running.shutdown(Duration::from_secs(5)).await;
    node::finish(&database.url).await;

    let done = job_at(&engine, &job).await;
    assert_eq!((done.state, done.progress.examined), (ReplayState::Done, EVENTS));
    let page = PageQuery { after: None, limit: 1_000 };
    let query = ReplayDeliveries { job: job.id, page };
    let made = engine.replay_deliveries(&org, &query).await.unwrap().items;
    let old: BTreeSet<_> = made.iter().map(|row| row.replay_of.unwrap().to_string()).collect();
    assert_eq!(
        (made.len() as u64, old.len() as u64, done.progress.created),
        (EVENTS, EVENTS, EVENTS)
    );
    let received = receiver.seen().ids(PATH);
    assert_eq!(received.len() as u64, EVENTS);
    assert!(received.values().all(|times| *times >= 2), "each event was sent again");
}

/// Half of the lives end at a point of their own, the others at another moment each time, and often
/// in the middle of a batch.
async fn one_life(database: &Database, engine: &Engine, job: &ReplayJob, round: u64) {
    let now = job_at(engine, job).await;
    if now.state.is_final() {
        return;
    }
    if round.is_multiple_of(2) {
        let at = round / 2;
        let operation = POINTS[usize::try_from(at).unwrap() % POINTS.len()].to_owned();
        let side = if (at / 3).is_multiple_of(2) { Side::After } else { Side::Before };
        let point = Point { operation, side, call: 1 + at % 3 };
        let child = Other::start(Act::Deliver, database, round, Some(&point));
        tokio::select! {
            _ = child.end() => {}
            // Nothing is left of which the point could be met; the child is killed with its handle.
            () = reaches(engine, job, |job| job.state.is_final()) => {}
        }
        return;
    }
    let child = Other::start(Act::Deliver, database, round, None);
    let enough = (now.progress.created + 1 + round * 3).min(EVENTS);
    reaches(engine, job, |job| job.progress.created >= enough || job.state.is_final()).await;
    child.kill().await;
}

async fn job_at(engine: &Engine, job: &ReplayJob) -> ReplayJob {
    engine.replay_job(&job.org, job.id).await.unwrap()
}

async fn reaches(engine: &Engine, job: &ReplayJob, fits: impl Fn(&ReplayJob) -> bool) {
    let reached = async {
        while !fits(&job_at(engine, job).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}
