//! A store of one's own: it limits how many calls reach the one behind it at once.
//!
//! `cargo run --example write_a_store`; `tests/write_a_store.rs` mounts the conformance suite on
//! it, as the tests of every store do.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

mod limit;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::try_join_all;
use icp::Engine;
use icp::event::{EventQuery, EventStore, NewEvent};
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store::Store;
use icp::store_sql::sqlite::SqliteStore;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;

    let sqlite = SqliteStore::open(folder.path().join("icp.db")).await?;
    let store = Arc::new(limit::limited(Arc::new(sqlite), 4));
    let shared: Arc<dyn Store> = Arc::clone(&store) as _;
    let engine = Engine::builder_on(shared).keys(key).build()?;
    let running = engine.start().await?;

    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let draft = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", draft, &host).await?;
    engine.publish(NewEvent::json("acme", "order.paid", &json!({ "order": 17 }))?).await?;

    let query = EventQuery::default();
    let pages = try_join_all((0..100).map(|_| store.events(&org, &query))).await?;
    let events: usize = pages.iter().map(|page| page.items.len()).sum();
    let most = store.intercept().most.load(Ordering::Relaxed);
    println!("{} reads of {events} events, at most {most} calls at once", pages.len());

    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
