//! An endpoint that was added late catches up: a replay is counted ahead, started and watched.
//!
//! `cargo run --example replay -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::event::NewEvent;
use icp::id::OrgId;
use icp::replay::{ReplayMode, ReplayRequest};
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::SqliteStore;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;

    let store = SqliteStore::open(folder.path().join("icp.db")).await?;
    let engine = Engine::builder(store).keys(key).allow_loopback().build()?;
    let running = engine.start().await?;
    let (org, host, began) = (OrgId::new("acme")?, Actor::host(), engine.now());
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "organization", draft(json!({})), &host).await?;

    // Twelve orders are paid before anybody listens.
    for order in 0..12 {
        let order = json!({ "order": order });
        engine.publish(NewEvent::json("acme", "order.paid", &order)?).await?;
    }
    let integration = json!({ "events": ["order.*"], "target": { "kind": "http", "url": url } });
    engine.resources().create(&org, "integration", draft(integration), &host).await?;

    let request = ReplayRequest::since(began)
        .mode(ReplayMode::Missing)
        .rate(20)
        .reason("the endpoint was added late");
    let preview = engine.preview_replay(&org, request.clone()).await?;
    println!("{} of {} events are missing", preview.deliveries, preview.events);

    let mut job = engine.start_replay(&org, request, host).await?;
    while !job.state.is_final() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        job = engine.replay_job(&org, job.id).await?;
        let percent = job.percent().unwrap_or_default();
        println!("{}: {percent} %, {} deliveries made", job.state, job.progress.created);
    }
    // What it made is spread over time, and sent by the lanes.
    while open(&engine).await? > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.shutdown(Duration::from_secs(10)).await;
    for (state, count) in engine.counts().await? {
        println!("{state}: {count}");
    }
    Ok(())
}

/// How many deliveries have not ended.
async fn open(engine: &Engine) -> icp::Result<u64> {
    let counts = engine.counts().await?;
    Ok(counts.iter().filter(|(state, _)| !state.is_final()).map(|(_, count)| count).sum())
}
