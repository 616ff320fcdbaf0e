//! What becomes of a receiver that fails: its lane is left alone, probed, and goes on.
//!
//! `cargo run --example receiver_in_trouble -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::delivery::DeliveryState;
use icp::event::NewEvent;
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store::PageQuery;
use icp::store_sql::sqlite::SqliteStore;
use serde_json::json;

const EVENTS: u64 = 6;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let store = SqliteStore::open(folder.path().join("icp.db")).await?;
    let engine = Engine::builder(store).keys(key).allow_loopback().build()?;
    let running = engine.start().await?;

    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "organization", draft(json!({})), &host).await?;
    let integration = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": url },
        "retry": { "schedule": { "type": "list", "delays_seconds": [0, 1, 1] } },
        "breaker": { "failures": 2, "open_seconds": 1 },
        "rate_limit": { "requests": 10, "per_seconds": 1, "burst": 2 },
    });
    engine.resources().create(&org, "integration", draft(integration), &host).await?;
    for order in 0..EVENTS {
        engine.publish(NewEvent::json("acme", "order.paid", &json!(order))?).await?;
    }

    let mut told = None;
    for _ in 0..500 {
        for status in engine.lane_statuses(&org, PageQuery::default()).await?.items {
            if told.replace(status.state) != Some(status.state) {
                println!("{:?}, {} waiting", status.state, status.waiting);
            }
        }
        if engine.counts().await?.contains(&(DeliveryState::Delivered, EVENTS)) {
            println!("all delivered");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
