//! Programs of an organization in its integration: a schema, JavaScript, and what happens where one
//! is broken. They run in worker processes, which are this executable started again.
//!
//! `cargo run --example transform --features sandbox -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::sandbox::{Sandbox, worker};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::SqliteStore;
use icp::trial::{Sample, TestOf};
use serde_json::{Value, json};

const PROGRAM: &str = r#"
    const total = payload.lines.reduce((sum, line) => sum + line.price * line.count, 0);
    if (total === 0) return context.drop("nothing to pay");
    console.log("total", total);
    return { order: payload.id, total, at: context.event.receivedAt };
"#;

fn main() -> Result<(), Box<dyn Error>> {
    // Before anything else: a worker must start no runtime and read no settings.
    worker::run_if_asked();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let store = SqliteStore::open(folder.path().join("icp.db")).await?;
    let sandbox = Sandbox::builder().own_executable().build()?;
    sandbox.probe().await?;
    let builder = Engine::builder(store).keys(key).transformer(sandbox);
    let engine = builder.allow_loopback().build()?;
    let running = engine.start().await?;

    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", organization, &host).await?;
    let integration = |program: &str| {
        json!({
            "events": ["order.*"],
            "target": { "kind": "http", "url": url },
            "transform": [
                { "schema": { "type": "object", "required": ["id", "lines"] } },
                { "javascript": { "source": program } },
            ],
        })
    };

    // A program that cannot be read is refused when it is saved, at its place.
    let draft =
        Draft { spec: integration("return {\n  order: payload.id,,\n}"), ..Draft::default() };
    let refused = engine.resources().create(&org, "integration", draft, &host).await;
    for violation in refused.err().iter().flat_map(icp::Error::list) {
        println!("refused: {} {}: {}", violation.pointer, violation.code, violation.message);
    }

    let crm = ResourceId::new("crm")?;
    let draft = Draft { id: Some(crm.clone()), spec: integration(PROGRAM), ..Draft::default() };
    engine.resources().create(&org, "integration", draft, &host).await?;
    for payload in [
        json!({ "id": 17, "lines": [{ "price": 5, "count": 3 }, { "price": 2, "count": 1 }] }),
        json!({ "id": 18, "lines": [] }),
        json!({ "id": 19, "lines": [null] }),
        json!({ "id": 20 }),
    ] {
        try_out(&engine, &org, &crm, &payload).await?;
    }
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// Makes one test delivery, and shows what became of the payload.
async fn try_out(
    engine: &Engine,
    org: &OrgId,
    integration: &ResourceId,
    payload: &Value,
) -> Result<(), Box<dyn Error>> {
    let sample = Sample::of(NewEvent::json(org.as_str(), "order.paid", payload)?);
    let report = engine.test_delivery(org, TestOf::Saved(integration.clone()), sample).await?;
    println!("{payload}: {}", serde_json::to_string(&report.outcome)?);
    report.console.iter().for_each(|line| println!("  console: {line}"));
    if let Some(request) = &report.request {
        println!("  sent: {}", String::from_utf8_lossy(&request.body));
    }
    Ok(())
}
