//! A host that hears of its customers' failing endpoints: by operational events, sent like any
//! other.
//!
//! `cargo run --example watch_endpoints -- https://example.com`, where `/crm` fails and `/ops`
//! takes what is told.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::delivery::DeliveryState;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::notice::{DELIVERY_DEAD, ENDPOINT_FAILING};
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::SqliteStore;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let store = SqliteStore::open(folder.path().join("icp.db")).await?;
    let engine = Engine::builder(store).keys(key).allow_loopback().build()?;
    let running = engine.start().await?;

    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let resources = engine.resources();
    let acme = Draft { spec: json!({}), ..Draft::default() };
    resources.create(&org, "organization", acme, &host).await?;
    let crm = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": format!("{base}/crm") },
        "retry": { "schedule": { "type": "list", "delays_seconds": [0, 0, 0, 0] } },
        "failing": { "disable_after_seconds": 86_400 },
    });
    let ops = json!({
        "events": [ENDPOINT_FAILING, DELIVERY_DEAD],
        "target": { "kind": "http", "url": format!("{base}/ops") },
    });
    for (id, spec) in [("crm", crm), ("ops", ops)] {
        let draft = Draft { id: Some(ResourceId::new(id)?), spec, ..Draft::default() };
        resources.create(&org, "integration", draft, &host).await?;
    }

    engine.publish(NewEvent::json("acme", "order.paid", &json!({ "order": 17 }))?).await?;
    while count(&engine, DeliveryState::Delivered).await? < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let crm = resources.get(&org, "integration", &ResourceId::new("crm")?).await?;
    println!("crm fails since {}", crm.status["failing"]["since"]);
    println!("{} delivery is dead", count(&engine, DeliveryState::Dead).await?);
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

async fn count(engine: &Engine, state: DeliveryState) -> icp::Result<u64> {
    let counts = engine.counts().await?;
    Ok(counts.into_iter().find(|(found, _)| *found == state).map_or(0, |(_, count)| count))
}
