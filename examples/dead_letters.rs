//! What a host does about deliveries that died: group, note, replay, give up; and erase.
//!
//! `cargo run --example dead_letters -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::delivery::DeliveryQuery;
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
    let kept = json!({ "retention": { "deliveries_days": 14, "dead_letters_days": 60 } });
    engine.resources().create(&org, "organization", draft(kept), &host).await?;
    let integration = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": url },
        "retry": { "max_attempts": 1 },
        "auto_retry": { "type": "exponential", "rounds": 3 },
    });
    engine.resources().create(&org, "integration", draft(integration), &host).await?;
    for order in 1..=3 {
        let event = NewEvent::json("acme", "order.paid", &json!({ "order": order }))?;
        engine.publish(event.subject("customer-7")).await?;
    }

    let query = DeliveryQuery::default();
    let letters = loop {
        let page = engine.letters(&org, &query).await?;
        if page.items.len() == 3 {
            break page.items;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for group in engine.letter_groups(&org, None).await?.groups {
        println!("{} died of {} ({:?})", group.count, group.class, group.category);
    }

    let ids: Vec<_> = letters.iter().map(|letter| letter.delivery.id).collect();
    engine.note_letter(&org, ids[0], "their deployment was broken; fixed now", &host).await?;
    let replay = engine.replay(&org, ids[0], &host).await?;
    for letter in engine.abandon_letters(&org, &ids[1..], "older than their backup", &host).await? {
        println!("{:?}", letter?.status);
    }
    while !engine.delivery(&org, replay.id).await?.state.is_final() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("the replayed one is {:?}", engine.letter(&org, ids[0]).await?.status);

    let receipt = engine.erase_subject(&org, "customer-7", &host).await?;
    println!("erased {} events and {} attempts", receipt.events, receipt.attempts);
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
