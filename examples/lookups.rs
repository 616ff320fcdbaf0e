//! A table of countries that is filled from a CSV file and looked up by a transformation; one unit
//! of the organization has names of its own.
//!
//! `cargo run --example lookups -- https://example.com/hook`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::lookup::{Format, Import, ImportMode, ImportReport};
use icp::resource::{Actor, Draft, Expect};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::SqliteStore;
use serde_json::json;

const BAD: &str = "\
key,json
DE,1
DE,2
FR,{
";

const GOOD: &str = "\
key,json,unit
DE,\"{\"\"name\"\": \"\"Germany\"\", \"\"dial\"\": 49}\",
DE,\"{\"\"name\"\": \"\"Deutschland\"\", \"\"dial\"\": 49}\",berlin
FR,\"{\"\"name\"\": \"\"France\"\", \"\"dial\"\": 33}\",
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the address to deliver to")?;
    let folder = tempfile::tempdir()?;
    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let store = SqliteStore::open(folder.path().join("icp.db")).await?;
    let engine = Engine::builder(store).keys(key).allow_loopback().build()?;
    let running = engine.start().await?;

    let (org, host) = (OrgId::new("acme")?, Actor::host());
    let countries = ResourceId::new("countries")?;
    let resources = engine.resources();
    let organization = Draft { spec: json!({ "units": [{ "id": "berlin" }] }), ..Draft::default() };
    resources.create(&org, "organization", organization, &host).await?;
    let spec = json!({ "reverse": ["dial"], "on_missing": "keep" });
    let table = Draft { id: Some(countries.clone()), spec, ..Draft::default() };
    resources.create(&org, "lookup", table, &host).await?;

    // A file is taken whole or not at all, and every bad row is told.
    for file in [BAD, GOOD] {
        let import = Import {
            data: file.as_bytes(),
            format: Format::Csv,
            mode: ImportMode::Merge,
            validate_only: false,
        };
        let expect = Expect::Present;
        show(&resources.import_lookup(&org, &countries, import, expect, &host).await?);
    }
    let exported = resources.export_lookup(&org, &countries, Format::Csv, true).await?;
    println!("{}", String::from_utf8(exported)?);

    let country = json!({ "table": "countries", "field": "name" });
    let dial = json!({ "table": "countries", "field": "dial" });
    let spec = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": url },
        "transform": [{ "map": { "base": "empty", "rules": [
            { "target": "country", "from": "to", "cast": "upper", "lookup": country },
            { "target": "dial", "from": "to", "cast": "upper", "lookup": dial },
        ] } }],
    });
    let draft = Draft { spec, ..Draft::default() };
    resources.create(&org, "integration", draft, &host).await?;

    let order = || NewEvent::json("acme", "order.paid", &json!({ "to": "de" }));
    engine.publish(order()?).await?;
    engine.publish(order()?.unit("berlin")).await?;
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

fn show(report: &ImportReport) {
    for problem in &report.problems {
        println!("line {}, column {}: {}", problem.line, problem.column, problem.message);
    }
    if report.applied {
        println!("applied: {} added, {} changed", report.added, report.changed);
    }
}
