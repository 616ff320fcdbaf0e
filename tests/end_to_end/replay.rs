//! Replays, from the request to the receiver.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use icp::delivery::{Delivery, DeliveryState};
use icp::engine::Engine;
use icp::replay::{
    ReplayChange, ReplayDeliveries, ReplayJob, ReplayMode, ReplayRequest, ReplayState,
};
use icp::resource::Actor;
use icp::store::PageQuery;
use icp::time::Timestamp;
use icp_testkit::intercept::{Call, Intercept, Intercepted};
use serde_json::json;

use crate::stage::{Backend, Stage, config};

crate::on_every_store! {
    an_engine_that_is_dropped_leaves_no_gap_and_repeats_nothing,
    two_engines_work_on_one_job,
    a_paused_replay_sends_nothing_more,
    an_endpoint_that_was_added_catches_up_in_order,
}

/// Refuses the first batch of a replay for good.
#[derive(Debug, Default)]
struct Refusing(AtomicBool);

impl Intercept for Refusing {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
    ) -> icp::Result<T> {
        if operation == "step_replay" && !self.0.swap(true, Ordering::SeqCst) {
            return Err(icp::Error::new(icp::Code::Internal, "this batch cannot be written"));
        }
        call.await
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_written_holds_up_no_other() {
    let mut backend = Backend::memory().await;
    backend.store = Arc::new(Intercepted::new(backend.store, Refusing::default()));
    let (stage, since) = delivered(backend, 3).await;
    let first = start(&stage, ReplayRequest::since(since)).await;
    let ended = once_job(&stage, &first, |job| job.state.is_final()).await;
    assert_eq!(
        (ended.state, ended.error.unwrap().code.as_str()),
        (ReplayState::Failed, "internal")
    );
    let second = start(&stage, ReplayRequest::since(since)).await;
    let done = once_job(&stage, &second, |job| job.state.is_final()).await;
    assert_eq!((done.state, done.progress.created), (ReplayState::Done, 3));
    stage.end().await;
}

/// A stage whose integration `crm` has taken `count` events.
async fn delivered(backend: Backend, count: usize) -> (Stage, Timestamp) {
    let stage = Stage::new(backend).await;
    let since = stage.engine.now();
    stage.integration("crm", json!({ "max_in_flight": 50 })).await;
    for n in 0..count {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.settled(DeliveryState::Delivered, count as u64).await;
    (stage, since)
}

async fn start(stage: &Stage, request: ReplayRequest) -> ReplayJob {
    stage.engine.start_replay(&stage.org, request, Actor::host()).await.unwrap()
}

/// The job, once it fits.
async fn once_job(stage: &Stage, job: &ReplayJob, fits: impl Fn(&ReplayJob) -> bool) -> ReplayJob {
    stage
        .until(async || {
            let job = stage.engine.replay_job(&stage.org, job.id).await.unwrap();
            fits(&job).then_some(job)
        })
        .await
}

async fn made(engine: &Engine, job: &ReplayJob) -> Vec<Delivery> {
    let page = PageQuery { after: None, limit: 1_000 };
    let query = ReplayDeliveries { job: job.id, page };
    engine.replay_deliveries(&job.org, &query).await.unwrap().items
}

/// Checks that the job made `count` deliveries, each of another old one.
async fn assert_made_once(stage: &Stage, job: &ReplayJob, count: usize) {
    let made = made(&stage.engine, job).await;
    let old: BTreeSet<_> = made.iter().map(|row| row.replay_of.unwrap().to_string()).collect();
    assert_eq!((made.len(), old.len(), job.progress.created), (count, count, count as u64));
}

async fn an_engine_that_is_dropped_leaves_no_gap_and_repeats_nothing(backend: Backend) {
    let (mut stage, since) = delivered(backend, 60).await;
    let job = start(&stage, ReplayRequest::since(since).rate(40)).await;
    let mut running = stage.running();
    for enough in [1, 20, 41] {
        once_job(&stage, &job, |job| job.progress.created >= enough).await;
        drop(running);
        let mut quick = config();
        quick.beat = Duration::from_millis(50);
        let next = stage.backend.builder().config(quick).build().unwrap();
        running = next.start().await.unwrap();
    }
    let done = once_job(&stage, &job, |job| job.state.is_final()).await;
    assert_eq!((done.state, done.progress.examined), (ReplayState::Done, 60));
    stage.settled(DeliveryState::Delivered, 120).await;
    assert_made_once(&stage, &done, 60).await;
    let received = stage.receiver.seen().ids("/crm");
    assert!(received.len() == 60 && received.values().all(|times| *times >= 2), "{received:?}");
    running.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

async fn two_engines_work_on_one_job(backend: Backend) {
    let (stage, since) = delivered(backend, 150).await;
    let other = stage.backend.builder().build().unwrap().start().await.unwrap();
    let all = || ReplayRequest::since(since).rate(1_000);
    let jobs = [start(&stage, all()).await, start(&stage, all().mode(ReplayMode::Missing)).await];
    let done = once_job(&stage, &jobs[0], |job| job.state.is_final()).await;
    assert_made_once(&stage, &done, 150).await;
    let nothing = once_job(&stage, &jobs[1], |job| job.state.is_final()).await;
    assert_eq!((nothing.progress.examined, nothing.progress.created), (150, 0));
    stage.settled(DeliveryState::Delivered, 300).await;
    let received = stage.receiver.seen().ids("/crm");
    assert!(received.values().all(|times| *times == 2), "{received:?}");
    other.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

async fn a_paused_replay_sends_nothing_more(backend: Backend) {
    let (stage, since) = delivered(backend, 30).await;
    let job = start(&stage, ReplayRequest::since(since).rate(10)).await;
    once_job(&stage, &job, |job| job.progress.created >= 1).await;
    let host = Actor::host();
    let change = |change| stage.engine.change_replay(&stage.org, job.id, change, &host);
    let paused = change(ReplayChange::Pause).await.unwrap();
    assert!(paused.progress.created < 30, "{paused:?}");
    stage.settled(DeliveryState::Delivered, 30 + paused.progress.created).await;
    let still = stage.engine.replay_job(&stage.org, job.id).await.unwrap();
    assert_eq!(still, paused);
    change(ReplayChange::Resume).await.unwrap();
    let done = once_job(&stage, &job, |job| job.state.is_final()).await;
    assert_made_once(&stage, &done, 30).await;
    stage.settled(DeliveryState::Delivered, 60).await;
    stage.end().await;
}

async fn an_endpoint_that_was_added_catches_up_in_order(backend: Backend) {
    let stage = Stage::new(backend).await;
    let since = stage.engine.now();
    for n in 0..20 {
        let event = stage.event("order.paid", &json!(n)).ordering_key("17");
        stage.engine.publish(event).await.unwrap();
    }
    stage.integration("late", json!({ "ordering": "by_key" })).await;
    let request = ReplayRequest::since(since).mode(ReplayMode::Missing).rate(1_000);
    let preview = stage.engine.preview_replay(&stage.org, request.clone()).await.unwrap();
    assert_eq!((preview.deliveries, preview.exact), (20, true));
    let job = start(&stage, request).await;
    stage.settled(DeliveryState::Delivered, 20).await;
    let done = once_job(&stage, &job, |job| job.state.is_final()).await;
    assert_eq!(done.progress.created, 20);
    let requests = stage.receiver.requests("/late");
    let order: Vec<_> = requests.iter().map(|r| String::from_utf8_lossy(&r.body)).collect();
    assert_eq!(order, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    stage.end().await;
}
