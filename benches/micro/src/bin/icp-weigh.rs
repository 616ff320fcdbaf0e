//! Weighs what the scaling model multiplies by: bytes that records take on SQLite, and memory that
//! integrations and requests under way take. Prints JSON with the names of
//! `docs/scaling-constants.json`.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "it prints, and stops where something fails"
)]

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use icp::engine::Engine;
use icp::event::{JSON, NewEvent};
use icp::resource::{Actor, Draft};
use icp::store::MemoryStore;
use icp_micro::{organization, queue};
use serde_json::json;

/// How many requests are under way at once.
const IN_FLIGHT: usize = 500;
const INTEGRATIONS: usize = 20_000;
/// What one request may take longer than others, and all of them together.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (event, delivery) = queue::weights();
    // First what leaves nothing behind.
    let in_flight = runtime.block_on(in_flight());
    let integration = runtime.block_on(integration());
    let weights = json!({
        "event_bytes": event,
        "delivery_bytes": delivery,
        "in_flight_memory": in_flight,
        "integration_memory": integration,
    });
    println!("{weights:#}");
}

/// Bytes of memory for an integration that a node has read: its text is not in it, as it is the
/// store's.
async fn integration() -> u64 {
    let store = MemoryStore::new();
    let org = organization::add_organization(&store, "acme").await;
    organization::add(&store, &org, 0..INTEGRATIONS, |n| format!("stock.moved.{n}")).await;
    let before = resident();
    let engine = organization::engine(&store);
    engine.accept(NewEvent::raw("acme", "order.paid", JSON, "{}")).await.unwrap();
    (resident() - before) / INTEGRATIONS as u64
}

/// Bytes of memory for a request that waits for its answer, its connection and body of 1 KiB
/// included.
async fn in_flight() -> u64 {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    silent.set_nonblocking(true).unwrap();
    let silent = tokio::net::TcpListener::from_std(silent).unwrap();
    let engine = Engine::builder(MemoryStore::new()).allow_loopback().build().unwrap();
    let org = organization::create(&engine, "acme").await;
    let target = json!({ "kind": "http", "url": url, "timeouts": { "total_ms": 60_000 } });
    let spec = json!({
        "events": ["*"],
        "target": target,
        "max_in_flight": IN_FLIGHT,
        "adaptive_concurrency": false,
    });
    let draft = Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "integration", draft, &Actor::host()).await.unwrap();
    let running = engine.start().await.unwrap();
    let publish = async || {
        let event = NewEvent::raw("acme", "order.paid", JSON, icp_micro::transform::order());
        engine.publish(event).await.unwrap();
        let (connection, _) = silent.accept().await.unwrap();
        connection
    };
    let mut open = vec![publish().await];
    let before = resident();
    while open.len() < IN_FLIGHT {
        open.push(tokio::time::timeout(PATIENCE, publish()).await.unwrap());
    }
    let taken = resident() - before;
    drop(open);
    running.shutdown(Duration::ZERO).await;
    taken / (IN_FLIGHT as u64 - 1)
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1_024
}
