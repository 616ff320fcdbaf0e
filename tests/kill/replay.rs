//! A replay whose worker is killed again and again.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use icp::event::NewEvent;
use icp::id::OrgId;
use icp::replay::{ReplayDeliveries, ReplayJob, ReplayRequest, ReplayState};
use icp::resource::Actor;
use icp::store::PageQuery;
use icp::{Engine, Running};
use icp_testkit::receiver::Receiver;
use serde_json::json;

use crate::{DATABASE, PATIENCE, REPLAY, TARGET, worker};

const EVENTS: u64 = 400;
const RATE: u32 = 200;
const ROUNDS: u64 = 8;

/// Works until it is killed.
pub(crate) fn run(database: &Path) -> ! {
    crate::runtime().block_on(async {
        let engine = worker::engine(database).await;
        let _running: Running = engine.start().await.unwrap();
        std::future::pending::<()>().await;
    });
    std::process::exit(1)
}

pub(crate) async fn goes_on_without_repeats_when_its_worker_is_killed() {
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("icp.db");
    worker::prepare(&database, &receiver.url("/hook")).await;
    let engine = worker::engine(&database).await;
    let since = engine.now();
    let events = (0..EVENTS).map(|n| NewEvent::json("acme", "order.paid", &json!(n)).unwrap());
    for published in engine.publish_batch(events.collect()).await {
        published.unwrap();
    }
    worker::finish(&database).await;

    let org = OrgId::new("acme").unwrap();
    let request = ReplayRequest::since(since).rate(RATE);
    let job = engine.start_replay(&org, request, Actor::host()).await.unwrap();
    for round in 0..ROUNDS {
        // Killed at another moment each time, and often in the middle of a batch.
        let enough = job_at(&engine, &job).await.progress.created + 1 + round * 5;
        one_life(&database, &receiver, &engine, &job, enough).await;
    }
    let interrupted = job_at(&engine, &job).await;
    assert!(interrupted.fence >= ROUNDS / 2, "{interrupted:?}");
    let running = worker::engine(&database).await.start().await.unwrap();
    reaches(&engine, &job, |job| job.state.is_final()).await;
    running.shutdown(Duration::from_secs(5)).await;
    worker::finish(&database).await;

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
    let received = receiver.seen().ids("/hook");
    assert_eq!(received.len() as u64, EVENTS);
    assert!(received.values().all(|times| *times >= 2), "each event was sent again");
}

async fn one_life(
    database: &Path,
    receiver: &Receiver,
    engine: &Engine,
    job: &ReplayJob,
    enough: u64,
) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(DATABASE, database)
        .env(TARGET, receiver.url("/hook"))
        .env(REPLAY, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let enough = enough.min(EVENTS);
    reaches(engine, job, |job| job.progress.created >= enough || job.state.is_final()).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn job_at(engine: &Engine, job: &ReplayJob) -> ReplayJob {
    engine.replay_job(&job.org, job.id).await.unwrap()
}

async fn reaches(engine: &Engine, job: &ReplayJob, fits: impl Fn(&ReplayJob) -> bool) {
    let reached = async {
        let mut beat = tokio::time::interval(Duration::from_millis(2));
        while !fits(&job_at(engine, job).await) {
            beat.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}
