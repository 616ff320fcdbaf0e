//! The smallest host: an organization, an integration, one event, and its delivery.
//!
//! `cargo run --example embed -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::event::NewEvent;
use icp::id::OrgId;
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

    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "organization", draft(json!({})), &host).await?;
    let integration = json!({ "events": ["order.*"], "target": { "kind": "http", "url": url } });
    engine.resources().create(&org, "integration", draft(integration), &host).await?;

    let order = json!({ "order": 17, "total": "12.50" });
    let published = engine.publish(NewEvent::json("acme", "order.paid", &order)?).await?;
    println!("published {} to {} integration(s)", published.id, published.deliveries);

    running.shutdown(Duration::from_secs(10)).await;
    for (state, count) in engine.counts().await? {
        println!("{state}: {count}");
    }
    Ok(())
}
