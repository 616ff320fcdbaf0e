//! The process that is killed.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use icp::delivery::DeliveryState;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::secret::LocalKeys;
use icp::store_sql::sqlite::SqliteStore;
use icp::{Engine, EngineConfig};
use serde_json::json;

/// At most so many deliveries are sent again after one kill: a delivery under way, or whose outcome
/// waits for its batch, takes room in its lane, and the lane has no more.
pub(crate) const MOST_UNDER_WAY: usize = 50;

const KEY: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub(crate) async fn engine(database: &Path) -> Engine {
    let store = SqliteStore::open(database).await.unwrap();
    let mut config = EngineConfig::default();
    config.beat = Duration::from_millis(100);
    config.missed_beats = 5;
    config.poll = Duration::from_millis(50);
    let keys = LocalKeys::parse(KEY).unwrap();
    Engine::builder(store).keys(keys).config(config).allow_loopback().build().unwrap()
}

/// Makes the organization and its integration.
pub(crate) async fn prepare(database: &Path, target: &str) {
    let engine = engine(database).await;
    let org = OrgId::new("acme").unwrap();
    let host = Actor::host();
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", organization, &host).await.unwrap();
    let integration = Draft {
        id: Some(ResourceId::new("hook").unwrap()),
        spec: json!({
            "events": ["*"],
            "target": { "kind": "http", "url": target },
            "signing": { "keys": [{ "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD" }] },
            "max_in_flight": MOST_UNDER_WAY,
        }),
        ..Draft::default()
    };
    engine.resources().create(&org, "integration", integration, &host).await.unwrap();
}

/// Publishes and delivers until it is killed; prints the id of each event it was answered for.
pub(crate) fn run(database: &Path, _: &str) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = engine(database).await;
        let running = engine.start().await.unwrap();
        let publishers = (0..8).map(|_| publish(&engine));
        futures_util::future::join_all(publishers).await;
        drop(running);
    });
    std::process::exit(1)
}

async fn publish(engine: &Engine) {
    for number in 0..u64::MAX {
        let event = NewEvent::json("acme", "order.paid", &json!({ "number": number })).unwrap();
        let published = engine.publish(event).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", published.id).unwrap();
        out.flush().unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Takes over what the killed workers left, until nothing is open.
pub(crate) async fn finish(database: &Path) {
    let engine = engine(database).await;
    let running = engine.start().await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::PATIENCE;
    loop {
        let counts = engine.counts().await.unwrap();
        let open: u64 = counts.iter().filter(|(state, _)| !state.is_final()).map(|(_, n)| n).sum();
        if open == 0 {
            let dead = counts.iter().find(|(state, _)| *state == DeliveryState::Dead);
            assert!(dead.is_none_or(|(_, n)| *n == 0), "{counts:?}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "still open: {counts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.shutdown(Duration::from_secs(5)).await;
    let audit = engine.verify().await.unwrap();
    assert!(audit.is_clean(), "{audit:?}");
}
