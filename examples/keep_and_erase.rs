//! How long records are kept, for each kind and organization, and how they are erased before
//! that. The clock is the example's own, so that it needs not wait for 90 days.
//!
//! `cargo run --example keep_and_erase -- https://example.com`, where `/crm` takes requests and
//! `/broken` refuses them.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icp::Engine;
use icp::delivery::{DeliveryQuery, DeliveryState};
use icp::engine::EngineConfig;
use icp::event::{EventQuery, NewEvent};
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store::PageQuery;
use icp::store_sql::sqlite::SqliteStore;
use icp::time::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

/// The system's clock, so many days ahead.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_secs(86_400 * self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let store = SqliteStore::open(folder.path().join("icp.db")).await?;
    let clock = Arc::new(Ahead::default());
    let mut config = EngineConfig::default();
    config.prune = Duration::from_millis(20);
    let builder = Engine::builder(store).keys(key).clock(Arc::clone(&clock)).config(config);
    let engine = builder.allow_loopback().build()?;
    let running = engine.start().await?;

    // One organization goes by the engine's settings, the other one has its own.
    let (acme, brief, host) = (OrgId::new("acme")?, OrgId::new("brief")?, Actor::host());
    let short = json!({ "events_days": 1, "deliveries_days": 1, "dead_letters_days": 7 });
    fill(&engine, &acme, json!({}), &url).await?;
    fill(&engine, &brief, json!({ "retention": short }), &url).await?;

    let published = engine.events(&acme, &EventQuery::default()).await?;
    let first = published.items.last().ok_or("no event was published")?.id;
    let receipt = engine.erase_events(&acme, vec![first], &host).await?;
    println!("by id: {} event, {} attempt erased", receipt.events, receipt.attempts);
    let erased = engine.event(&acme, first).await?;
    println!("left of it: {} bytes, erased: {}", erased.body.len(), erased.erased_at.is_some());
    let receipt = engine.erase_subject(&acme, "customer-7", &host).await?;
    println!("by subject: {} event, {} attempt erased", receipt.events, receipt.attempts);
    println!("the receipt: {}\n", serde_json::to_string_pretty(&receipt)?);

    for (days, left) in [(2, [3, 1]), (8, [3, 0]), (31, [1, 0]), (91, [0, 0])] {
        clock.0.store(days, Ordering::Relaxed);
        for (org, events) in [&acme, &brief].into_iter().zip(left) {
            while engine.events(org, &EventQuery::default()).await?.items.len() > events {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let kept = engine.deliveries(org, &DeliveryQuery::default()).await?.items;
            let dead = kept.iter().filter(|one| one.state == DeliveryState::Dead).count();
            println!("day {days}, {org}: {events} events, {} deliveries, {dead} dead", kept.len());
        }
    }
    let receipts = engine.erasures(&acme, PageQuery::default()).await?.items.len();
    println!("{receipts} receipts stay");
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// Makes an organization with two events that are delivered and one that dies.
async fn fill(engine: &Engine, org: &OrgId, spec: Value, url: &str) -> Result<(), Box<dyn Error>> {
    let host = Actor::host();
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(org, "organization", draft(spec), &host).await?;
    for (event, path) in [("order.paid", "crm"), ("order.lost", "broken")] {
        let spec = json!({
            "events": [event],
            "target": { "kind": "http", "url": format!("{url}/{path}") },
            "retry": { "max_attempts": 1 },
        });
        engine.resources().create(org, "integration", draft(spec), &host).await?;
    }
    for (event, subject) in
        [("order.paid", "customer-6"), ("order.paid", "customer-7"), ("order.lost", "customer-8")]
    {
        let event = NewEvent::json(org.as_str(), event, &json!({ "of": subject }))?;
        engine.publish(event.subject(subject)).await?;
    }
    while engine.counts().await?.iter().any(|(state, n)| !state.is_final() && *n > 0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
