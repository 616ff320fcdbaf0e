//! Event sources on a store that fails, read by nodes that die: each event arrives, and once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use icp::delivery::DeliveryState;
use icp::engine::Running;
use icp::event::NewEvent;
use icp::id::ResourceId;
use icp::source::{EventSource, PollRequest, Polled, SourceError, SourceEvent};
use icp::{Code, Error};
use icp_testkit::intercept::{Call, Intercept, Intercepted};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::stage::{Backend, Stage, config};

crate::on_every_store! {
    one_of_two_nodes_reads_and_the_other_goes_on,
    every_event_arrives_once_though_calls_fail_and_nodes_die,
    a_poll_that_has_what_the_store_needs_comes_to_its_end,
}

const ROWS: u64 = 200;

/// Leases of which a slow machine misses none, and those that are meant to be missed.
const LONG: Duration = Duration::from_secs(6);
const SHORT: Duration = Duration::from_secs(1);

/// A table with rows of the numbers 1 to `rows`.
#[derive(Clone, Debug)]
struct Table {
    rows: u64,
    polls: Arc<AtomicU32>,
    /// How long a poll takes, and what it has meanwhile.
    takes: Duration,
    writer: Arc<Mutex<()>>,
}

#[async_trait]
impl EventSource for Table {
    async fn poll(&self, request: &PollRequest<'_>) -> Result<Polled, SourceError> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let writer = self.writer.lock().await;
        tokio::time::sleep(self.takes).await;
        drop(writer);
        let after = request.after.and_then(Value::as_u64).unwrap_or(0);
        let last = self.rows.min(after + request.limit as u64);
        if last == after {
            return Ok(Polled::nothing());
        }
        let event = |row: u64| {
            let event = NewEvent::json(request.org.as_str(), "order.paid", &json!({ "row": row }));
            SourceEvent::new(row.to_string(), event.unwrap())
        };
        let polled = Polled::new((after + 1..=last).map(event).collect(), json!(last));
        Ok(if last < self.rows { polled.and_more() } else { polled })
    }
}

impl Table {
    fn of(rows: u64) -> Self {
        Self { rows, polls: Arc::default(), takes: Duration::ZERO, writer: Arc::default() }
    }

    fn polls(&self) -> u32 {
        self.polls.load(Ordering::Relaxed)
    }
}

/// Breaks some of the calls that sources are followed by, before or after they were made, and all
/// calls once the node is dead.
#[derive(Clone, Debug, Default)]
struct Trouble {
    calls: Arc<AtomicU64>,
    writer: Option<Arc<Mutex<()>>>,
    dead: Arc<AtomicBool>,
}

impl Intercept for Trouble {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
    ) -> icp::Result<T> {
        let broken = || Err(Error::new(Code::StoreUnavailable, "on purpose"));
        if self.dead.load(Ordering::Relaxed) {
            return broken();
        }
        if !["slot", "put_slot", "ingest", "resources_of_all"].contains(&operation) {
            return call.await;
        }
        if let Some(writer) = self.writer.as_ref().filter(|_| operation == "put_slot") {
            let _writing = writer.lock().await;
            return call.await;
        }
        // Spread, so that no call of a round is always the one that breaks.
        let turn = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match (turn >> 32) % 12 {
            2 => broken(),
            5 => call.await.and(broken()),
            _ => call.await,
        }
    }
}

/// A node whose sources are taken over when it was not heard of for `lease`.
async fn node(
    backend: &Backend,
    table: &Table,
    trouble: Option<&Trouble>,
    lease: Duration,
) -> Running {
    let mut quick = config();
    quick.beat = lease / 6;
    quick.lease = lease;
    let builder = match trouble {
        None => backend.builder(),
        Some(trouble) => {
            Backend::builder_on(Arc::new(Intercepted::new(backend.store.clone(), trouble.clone())))
        }
    };
    let engine = builder.config(quick).event_source("table", table.clone()).build().unwrap();
    engine.start().await.unwrap()
}

async fn put(stage: &Stage, batch: u64) {
    let spec = json!({ "type": "table", "batch": batch, "poll_seconds": 1 });
    crate::stage::create(&stage.engine, &stage.org, "event_source", Some("orders"), spec)
        .await
        .unwrap();
}

/// Waits until the source is read up to `row` or further.
async fn reached(stage: &Stage, row: u64) {
    let id = ResourceId::new("orders").unwrap();
    stage
        .until(async || {
            let progress = stage.engine.source_progress(&stage.org, &id).await.unwrap();
            progress.checkpoint.and_then(|found| found.as_u64()).filter(|found| *found >= row)
        })
        .await;
}

async fn all_arrived(stage: &Stage) {
    stage.settled(DeliveryState::Delivered, ROWS).await;
    let bodies = stage.receiver.seen();
    let rows: BTreeSet<u64> = stage
        .receiver
        .requests("/crm")
        .iter()
        .map(|request| {
            serde_json::from_slice::<Value>(&request.body).unwrap()["row"].as_u64().unwrap()
        })
        .collect();
    assert_eq!((rows.len() as u64, bodies.ids("/crm").len() as u64), (ROWS, ROWS));
}

async fn one_of_two_nodes_reads_and_the_other_goes_on(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let (first, second) = (Table::of(ROWS / 2), Table::of(ROWS));
    let one = node(&stage.backend, &first, None, LONG).await;
    put(&stage, ROWS / 4).await;
    reached(&stage, ROWS / 2).await;
    let two = node(&stage.backend, &second, None, LONG).await;
    let polls = first.polls();
    stage.until(async || (first.polls() > polls + 1).then_some(())).await;
    assert_eq!(second.polls(), 0);
    one.shutdown(Duration::from_secs(5)).await;
    reached(&stage, ROWS).await;
    all_arrived(&stage).await;
    two.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

async fn every_event_arrives_once_though_calls_fail_and_nodes_die(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    put(&stage, 20).await;
    for rows in [60, 140] {
        let trouble = Trouble::default();
        let running = node(&stage.backend, &Table::of(rows), Some(&trouble), SHORT).await;
        reached(&stage, rows).await;
        trouble.dead.store(true, Ordering::Relaxed);
        drop(running);
    }
    let trouble = Trouble::default();
    let running = node(&stage.backend, &Table::of(ROWS), Some(&trouble), SHORT).await;
    reached(&stage, ROWS).await;
    all_arrived(&stage).await;
    running.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

async fn a_poll_that_has_what_the_store_needs_comes_to_its_end(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    // Longer than a hold is good without being renewed.
    let table = Table { takes: SHORT / 2, ..Table::of(ROWS) };
    let trouble = Trouble { writer: Some(Arc::clone(&table.writer)), ..Trouble::default() };
    let running = node(&stage.backend, &table, Some(&trouble), SHORT).await;
    put(&stage, ROWS).await;
    reached(&stage, ROWS).await;
    running.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}
