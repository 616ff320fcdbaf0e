//! Publishes within the host's own MongoDB transaction: what is aborted emits nothing, what is
//! committed emits everything. It needs a replica set; one of a single member will do.
//!
//! `cargo run --features mongodb --example publish_in_mongodb_session -- \
//!     https://example.com/hook mongodb://127.0.0.1:27017/shop?replicaSet=rs0`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::delivery::DeliveryState;
use icp::event::NewEvent;
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_mongo::MongoStore;
use icp::store_mongo::mongodb::Client;
use icp::store_mongo::mongodb::bson::{Document, doc};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let server = std::env::args().nth(2).ok_or("name the address of a mongodb replica set")?;

    // The shop's own client and database; the engine's collections lie beside its own.
    let client = Client::with_uri_str(&server).await?;
    let name = client.default_database().map_or("shop".to_owned(), |shop| shop.name().to_owned());
    let shop = client.database(&name);
    shop.create_collection("orders").await?;

    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let store = MongoStore::with_client(client.clone(), &name).await?;
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
        let mut session = client.start_session().await?;
        session.start_transaction().await?;
        let orders = shop.collection::<Document>("orders");
        orders.insert_one(doc! { "_id": order }).session(&mut session).await?;
        store.publish_in(&mut session, &event).await?;
        if goes_through {
            session.commit_transaction().await?;
            store.hint();
        } else {
            session.abort_transaction().await?;
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
