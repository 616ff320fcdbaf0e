//! An operator at work: a receiver that fails in the middle of an order, a pause, and events that
//! should never have been sent.
//!
//! `cargo run --example operate -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::delivery::DeliveryFilter;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, BulkAction, Draft};
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

    let (org, crm) = (OrgId::new("acme")?, ResourceId::new("crm")?);
    let actor = Actor { name: "operator:ada".into(), ..Actor::host() };
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", organization, &actor).await?;
    let spec = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": url },
        // One that fails loses its place: those behind it go on, and it is tried beside them.
        "ordering": "by_key",
        "on_failure": { "type": "skip_after", "tries": 1 },
        "retry": { "schedule": { "type": "list", "delays_seconds": [1, 1] } },
    });
    let draft = Draft { id: Some(crm.clone()), spec, ..Draft::default() };
    engine.resources().create(&org, "integration", draft, &actor).await?;

    let paused = engine.pause_integration(&org, &crm, "the receiver is repaired", &actor).await?;
    println!("paused: {}", paused.status["paused"]["reason"]);
    for step in ["placed", "paid", "sent"] {
        let event = NewEvent::json("acme", format!("order.{step}"), &json!({ "order": 17 }))?;
        engine.publish(event.ordering_key("order-17")).await?;
    }
    engine.publish(NewEvent::json("acme", "order.test", &json!({}))?).await?;

    let tests = DeliveryFilter { event_type: Some("order.test".parse()?), ..Default::default() };
    let found = engine.preview_cancel(&org, &tests).await?;
    println!("{} waiting deliveries would be called off", found.ready);
    let done = engine.cancel_many(&org, &tests, "sent by mistake", &actor).await?;
    println!("{} called off", done.cancelled);

    engine.resume_integration(&org, &crm, &actor).await?;
    while engine.counts().await?.iter().any(|(state, _)| !state.is_final()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for delivery in engine.deliveries(&org, &Default::default()).await?.items.iter().rev() {
        let place = if delivery.out_of_order { ", out of order" } else { "" };
        println!("{}: {} after {} tries{place}", delivery.id, delivery.state, delivery.tries);
    }

    let copy = engine.resources().duplicate(&org, &crm, &actor).await?;
    println!("copied as {:?}", copy.document.name.as_deref().unwrap_or_default());
    let ids = [crm, copy.document.id];
    for item in engine.resources().bulk(&org, BulkAction::Disable, &ids, &actor).await? {
        println!("{} switched off: {}", item.id, item.outcome.is_ok());
    }
    for entry in engine.resources().audit_log(&org, &Default::default()).await?.items.iter().rev() {
        println!("{} {} {} {}", entry.actor.name, entry.action, entry.kind, entry.id);
    }
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
