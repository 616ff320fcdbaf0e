//! What a person is shown who sets an integration up: a test of what is not saved yet, a test of
//! what is, and the requests as commands for a shell.
//!
//! `cargo run --example try_out -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::delivery::DeliveryQuery;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::SqliteStore;
use icp::trial::{CurlCommand, Sample, TestOf, TestReport};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let store = SqliteStore::open(folder.path().join("icp.db")).await?;
    let engine = Engine::builder(store).keys(key).allow_loopback().build()?;
    let running = engine.start().await?;

    let (org, crm, host) = (OrgId::new("acme")?, ResourceId::new("crm")?, Actor::host());
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", organization, &host).await?;
    let spec = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": format!("{url}?token=in-the-address") },
        "auth": { "type": "bearer", "token": "in-the-header" },
        "transform": [{ "map": { "rules": [{ "from": "order", "target": "number" }] } }],
    });
    let paid = || NewEvent::json("acme", "order.paid", &json!({ "order": 17 }));

    // Tried out as it is being written, before anything is saved.
    let draft = TestOf::Draft(spec.clone());
    let sample = Sample::of(NewEvent::json("acme", "user.made", &json!({}))?);
    show("a draft", &engine.test_delivery(&org, draft.clone(), sample).await?);
    show("a draft", &engine.test_delivery(&org, draft.clone(), Sample::of(paid()?)).await?);
    print("a draft", &engine.integration_curl(&org, draft, Sample::default()).await?);

    let draft = Draft { id: Some(crm.clone()), spec, ..Draft::default() };
    engine.resources().create(&org, "integration", draft, &host).await?;
    let saved = TestOf::Saved(crm);
    show("what is saved", &engine.test_delivery(&org, saved.clone(), Sample::default()).await?);
    print("what is saved", &engine.integration_curl(&org, saved, Sample::of(paid()?)).await?);
    let stored = engine.deliveries(&org, &DeliveryQuery::default()).await?.items.len();
    println!("{stored} deliveries are stored\n");

    engine.publish(paid()?).await?;
    let delivery = loop {
        let page = engine.deliveries(&org, &DeliveryQuery::default()).await?;
        match page.items.into_iter().find(|delivery| delivery.state.is_final()) {
            Some(delivery) => break delivery,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    print("an attempt", &engine.attempt_curl(&org, delivery.id, 1, None).await?);
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// Shows the whole request and the whole answer of a test.
fn show(what: &str, report: &TestReport) {
    println!("test of {what} with {}: {:?}", report.event_type, report.outcome);
    if let Some(request) = &report.request {
        println!("> {} {}", request.method, request.url);
        request.headers.iter().for_each(|(name, value)| println!("> {name}: {value}"));
        println!("> {}", String::from_utf8_lossy(&request.body));
    }
    if let Some(response) = &report.response {
        println!("< {}", response.status);
        response.headers.iter().for_each(|(name, value)| println!("< {name}: {value}"));
        println!("< {}", response.body);
    }
    println!("{} µs\n", report.timings.total);
}

/// Prints a command with what there is to know about it.
fn print(what: &str, curl: &CurlCommand) {
    println!("command of {what}:\n{}", curl.command);
    curl.notes.iter().for_each(|note| println!("# {note}"));
    println!();
}
