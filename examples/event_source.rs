//! Pulls events out of a table of the product, from the last row that was read on: also after the
//! engine was away.
//!
//! `cargo run --example event_source -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::source::{EventSource, PollRequest, Polled, SourceError, SourceEvent, SourceProgress};
use icp::store_sql::sqlite::SqliteStore;
use icp::{Engine, Running};
use serde_json::{Value, json};
use sqlx::sqlite::SqlitePool;

/// The rows of the shop's table, in the order of their numbers.
///
/// That is safe as SQLite has one writer at a time. On a database with many, a row with a smaller
/// number may commit after a larger one was read; there, read what is older than any transaction
/// that may be open, or let the product publish in its own transaction.
#[derive(Debug)]
struct Orders(SqlitePool);

#[async_trait]
impl EventSource for Orders {
    async fn poll(&self, request: &PollRequest<'_>) -> Result<Polled, SourceError> {
        let after = request.after.and_then(Value::as_i64).unwrap_or(0);
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT id, total FROM orders WHERE shop = ? AND id > ? ORDER BY id LIMIT ?",
        )
        // Whoever configures a source sees no orders but its own organization's.
        .bind(request.org.as_str())
        .bind(after)
        .bind(i64::try_from(request.limit).unwrap_or(i64::MAX))
        .fetch_all(&self.0)
        .await
        .map_err(|_| SourceError::new("table", "the table of orders cannot be read"))?;
        let Some((last, _)) = rows.last() else { return Ok(Polled::nothing()) };
        let (last, full) = (*last, rows.len() == request.limit);
        let event = |(id, total): &(i64, i64)| {
            let body = json!({ "order": id, "total": total });
            let event = NewEvent::json(request.org.as_str(), "order.paid", &body)
                .map_err(|_| SourceError::new("row", "an order has no json form"))?;
            Ok(SourceEvent::new(id.to_string(), event))
        };
        let events = rows.iter().map(event).collect::<Result<_, _>>()?;
        Ok(Polled { more: full, ..Polled::new(events, json!(last)) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let place = format!("sqlite://{}/shop.db?mode=rwc", folder.path().display());
    let shop = SqlitePool::connect(&place).await?;
    sqlx::query(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, shop TEXT NOT NULL, total INTEGER NOT NULL)",
    )
    .execute(&shop)
    .await?;
    let keys = LocalKeys::generate("example", &SystemEntropy)?;
    let database = folder.path().join("icp.db");

    let (engine, running) = start(&database, &keys, &shop).await?;
    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let draft = |id: Option<&str>, spec| -> icp::Result<Draft> {
        Ok(Draft { id: id.map(ResourceId::new).transpose()?, spec, ..Draft::default() })
    };
    let resources = engine.resources();
    resources.create(&org, "organization", draft(None, json!({}))?, &host).await?;
    let integration = json!({ "events": ["*"], "target": { "kind": "http", "url": url } });
    resources.create(&org, "integration", draft(None, integration)?, &host).await?;
    let source = draft(Some("orders"), json!({ "type": "orders", "batch": 2, "poll_seconds": 1 }))?;
    resources.create(&org, "event_source", source, &host).await?;

    sqlx::query("INSERT INTO orders VALUES (1, 'globex', 5)").execute(&shop).await?;
    pay(&shop, [17, 18, 19]).await?;
    show(&engine, &org, 3).await?;
    running.shutdown(Duration::from_secs(10)).await;

    pay(&shop, [20, 21]).await?;
    let (engine, running) = start(&database, &keys, &shop).await?;
    show(&engine, &org, 5).await?;
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

async fn start(
    database: &Path,
    keys: &LocalKeys,
    shop: &SqlitePool,
) -> Result<(Engine, Running), Box<dyn Error>> {
    let store = SqliteStore::open(database).await?;
    let builder = Engine::builder(store).keys(keys.clone()).allow_loopback();
    let engine = builder.event_source("orders", Orders(shop.clone())).build()?;
    let running = engine.start().await?;
    Ok((engine, running))
}

async fn pay<const N: usize>(shop: &SqlitePool, orders: [i64; N]) -> Result<(), sqlx::Error> {
    for order in orders {
        let row =
            sqlx::query("INSERT INTO orders VALUES (?, 'acme', ?)").bind(order).bind(order * 10);
        row.execute(shop).await?;
    }
    Ok(())
}

/// Waits until `events` were pulled and delivered, and shows how far the source is.
async fn show(engine: &Engine, org: &OrgId, events: u64) -> Result<(), Box<dyn Error>> {
    let source = ResourceId::new("orders")?;
    for _ in 0..400 {
        let SourceProgress { checkpoint, events: found, .. } =
            engine.source_progress(org, &source).await?;
        let counts = engine.counts().await?;
        let waits = counts.iter().any(|(state, count)| !state.is_final() && *count > 0);
        if found == events && !waits {
            println!("{found} orders delivered, read up to {}", checkpoint.unwrap_or_default());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the orders were not pulled".into())
}
