//! What a process does that is killed, and how its work is prepared and finished.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icp::delivery::DeliveryState;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::secret::LocalKeys;
use icp::store::Store;
use icp::{Engine, EngineConfig};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::PATIENCE;
use crate::database::{self, Database};

/// At most so many deliveries are sent again after one kill: a delivery under way, or whose outcome
/// waits for its batch, takes room in its lane, and the lane has no more.
pub(crate) const MOST_UNDER_WAY: u64 = 50;

/// How long a process that is told to stop goes on with what is under way.
pub(crate) const GRACE: Duration = Duration::from_secs(3);

const PUBLISHERS: usize = 8;
/// What a publisher waits for after each event: without it, most of what a life takes would be
/// events that are like one another.
const PAUSE: Duration = Duration::from_millis(10);
const KEY: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub(crate) fn org() -> OrgId {
    OrgId::new("acme").unwrap()
}

pub(crate) fn event(number: u64) -> NewEvent {
    NewEvent::json("acme", "order.paid", &json!({ "number": number })).unwrap()
}

pub(crate) async fn engine(url: &str) -> Engine {
    engine_on(database::open(url).await)
}

pub(crate) fn engine_on(store: Arc<dyn Store>) -> Engine {
    let mut config = EngineConfig::default();
    config.beat = Duration::from_millis(200);
    config.missed_beats = 5;
    config.lease = Duration::from_secs(2);
    config.poll = Duration::from_millis(50);
    config.feed = Duration::from_millis(50);
    config.sweep = Duration::from_millis(100);
    config.prune = Duration::from_millis(100);
    config.relay = Duration::from_millis(50);
    config.replay = Duration::from_millis(50);
    // Hundreds of kills in a row are no sign of poison here.
    config.max_rescues = 10_000;
    let keys = LocalKeys::parse(KEY).unwrap();
    Engine::builder_on(store).keys(keys).config(config).allow_loopback().build().unwrap()
}

/// Makes the organization, and an integration to each of the targets.
pub(crate) async fn prepare(database: &Database, targets: &[String], max_in_flight: u64) {
    let engine = engine(&database.url).await;
    let host = Actor::host();
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org(), "organization", organization, &host).await.unwrap();
    for (at, target) in targets.iter().enumerate() {
        let integration = Draft {
            id: Some(ResourceId::new(format!("hook-{at}")).unwrap()),
            spec: json!({
                "events": ["*"],
                "target": { "kind": "http", "url": target },
                "signing": { "keys": [{ "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD" }] },
                "max_in_flight": max_in_flight,
                "breaker": { "enabled": false },
            }),
            ..Draft::default()
        };
        engine.resources().create(&org(), "integration", integration, &host).await.unwrap();
    }
}

/// Publishes and delivers until it is killed or told to stop; prints the number and the id of each
/// event it was answered for.
pub(crate) async fn work(store: Arc<dyn Store>, first: u64) -> ! {
    let engine = engine_on(store);
    let next = AtomicU64::new(first);
    let publishers = (0..PUBLISHERS).map(|_| publish(&engine, &next));
    serve(&engine, async {
        futures_util::future::join_all(publishers).await;
    })
    .await
}

/// Delivers until it is killed or told to stop.
pub(crate) async fn deliver(store: Arc<dyn Store>) -> ! {
    serve(&engine_on(store), std::future::pending()).await
}

async fn serve(engine: &Engine, beside: impl Future<Output = ()>) -> ! {
    let mut told = signal(SignalKind::terminate()).unwrap();
    let running = engine.start().await.unwrap();
    say("started");
    tokio::select! {
        _ = told.recv() => {}
        () = beside => {}
    }
    let drained = running.shutdown(GRACE).await;
    let (finished, released, unsettled) = (drained.finished, drained.released, drained.unsettled);
    say(format_args!("drained {finished} {released} {unsettled}"));
    std::process::exit(0)
}

async fn publish(engine: &Engine, next: &AtomicU64) {
    loop {
        let number = next.fetch_add(1, Ordering::AcqRel);
        match engine.publish(event(number)).await {
            Ok(published) => say(format_args!("acknowledged {number} {}", published.id)),
            Err(error) => assert_eq!(error.fault(), icp::Fault::Transient, "{error:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Takes over what the killed processes left, until nothing is open.
pub(crate) async fn finish(url: &str) {
    let engine = engine(url).await;
    let running = engine.start().await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let counts = engine.counts().await.unwrap();
        let open: u64 = counts.iter().filter(|(state, _)| !state.is_final()).map(|(_, n)| n).sum();
        if open == 0 {
            let dead = counts.iter().find(|(state, _)| *state == DeliveryState::Dead);
            assert!(dead.is_none_or(|(_, n)| *n == 0), "{counts:?}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "still open: {counts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.shutdown(Duration::from_secs(5)).await;
    let audit = engine.verify().await.unwrap();
    assert!(audit.is_clean(), "{audit:?}");
}
