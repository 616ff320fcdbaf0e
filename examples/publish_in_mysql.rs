//! Publishes within the host's own MySQL or MariaDB transaction, on the host's own pool: what is rolled
//! back emits nothing, what is committed emits everything.
//!
//! `cargo run --features mysql --example publish_in_mysql -- mysql://app@localhost/app https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::delivery::DeliveryState;
use icp::event::NewEvent;
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::mysql::MySqlStore;
use serde_json::json;
use sqlx::mysql::MySqlPoolOptions;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let database = args.next().ok_or("name the database")?;
    let url = args.next().ok_or("name the address to deliver to")?;

    // The shop's own pool, with its own table; the store keeps to names of its own.
    let pool = MySqlPoolOptions::new().max_connections(8).connect(&database).await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS orders (id int)").execute(&pool).await?;
    let store =
        MySqlStore::builder_with_pool(pool.clone()).table_prefix("icp_example_").open().await?;

    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let engine = Engine::builder(store.clone()).keys(key).allow_loopback().build()?;
    let running = engine.start().await?;
    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "organization", draft(json!({})), &host).await?;
    let integration = json!({ "events": ["*"], "target": { "kind": "http", "url": url } });
    engine.resources().create(&org, "integration", draft(integration), &host).await?;

    for (order, goes_through) in [(17, true), (18, false), (19, true)] {
        let event = NewEvent::json("acme", "order.paid", &json!({ "order": order }))?;
        let event = engine.accept(event).await?;
        let mut transaction = pool.begin().await?;
        sqlx::query("INSERT INTO orders VALUES (?)").bind(order).execute(&mut *transaction).await?;
        store.publish_in(&mut transaction, &event).await?;
        if goes_through {
            transaction.commit().await?;
            store.hint();
        } else {
            transaction.rollback().await?;
        }
    }

    let delivered = delivered(&engine, 2).await?;
    println!("3 orders, 1 rolled back, {delivered} delivered");
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// Waits until `count` deliveries have arrived.
async fn delivered(engine: &Engine, count: u64) -> Result<u64, Box<dyn Error>> {
    for _ in 0..200 {
        let counts = engine.counts().await?;
        let delivered = counts.iter().find(|(state, _)| *state == DeliveryState::Delivered);
        if let Some((_, delivered)) = delivered.filter(|(_, delivered)| *delivered >= count) {
            return Ok(*delivered);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the deliveries did not arrive".into())
}
