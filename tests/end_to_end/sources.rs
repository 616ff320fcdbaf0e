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
use icp::{Code, Engine, Error};
use icp_testkit::intercept::{Call, Intercept, Intercepted};
use serde_json::{Value, json};

use crate::stage::{Backend, Stage, config};

crate::on_every_store! {
    one_of_two_nodes_reads_and_the_other_goes_on,
    every_event_arrives_once_though_calls_fail_and_nodes_die,
}

const ROWS: u64 = 200;

/// A table with rows of the numbers 1 to [`ROWS`].
#[derive(Clone, Debug, Default)]
struct Table(Arc<AtomicU32>);

#[async_trait]
impl EventSource for Table {
    async fn poll(&self, request: &PollRequest<'_>) -> Result<Polled, SourceError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let after = request.after.and_then(Value::as_u64).unwrap_or(0);
        let last = ROWS.min(after + request.limit as u64);
        if last == after {
            return Ok(Polled::nothing());
        }
        let event = |row: u64| {
            let event = NewEvent::json(request.org.as_str(), "order.paid", &json!({ "row": row }));
            SourceEvent::new(row.to_string(), event.unwrap())
        };
        let polled = Polled::new((after + 1..=last).map(event).collect(), json!(last));
        Ok(if last < ROWS { polled.and_more() } else { polled })
    }
}

impl Table {
    fn polls(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Breaks some of the calls that sources are followed by, before or after they were made, and all
/// calls once the node is dead.
#[derive(Clone, Debug, Default)]
struct Trouble {
    calls: Arc<AtomicU64>,
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
        // Spread, so that no call of a round is always the one that breaks.
        let turn = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match (turn >> 32) % 12 {
            2 => broken(),
            5 => call.await.and(broken()),
            _ => call.await,
        }
    }
}

/// A node whose sessions and sources are taken over within seconds of its death.
async fn node(backend: &Backend, table: &Table, trouble: Option<&Trouble>) -> (Engine, Running) {
    let mut quick = config();
    quick.beat = Duration::from_millis(200);
    quick.lease = Duration::from_secs(1);
    let builder = match trouble {
        None => backend.builder(),
        Some(trouble) => {
            Backend::builder_on(Arc::new(Intercepted::new(backend.store.clone(), trouble.clone())))
        }
    };
    let engine = builder.config(quick).event_source("table", table.clone()).build().unwrap();
    let running = loop {
        // The first calls may be broken as well.
        if let Ok(running) = engine.start().await {
            break running;
        }
    };
    (engine, running)
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
    let (first, second) = (Table::default(), Table::default());
    let (_, one) = node(&stage.backend, &first, None).await;
    put(&stage, ROWS / 2).await;
    reached(&stage, ROWS).await;
    let (_, two) = node(&stage.backend, &second, None).await;
    let polls = first.polls();
    stage.until(async || (first.polls() > polls + 1).then_some(())).await;
    assert_eq!(second.polls(), 0);
    one.shutdown(Duration::from_secs(5)).await;
    stage.until(async || (second.polls() > 0).then_some(())).await;
    all_arrived(&stage).await;
    two.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}

async fn every_event_arrives_once_though_calls_fail_and_nodes_die(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    put(&stage, 20).await;
    for dies_at in [40, 100] {
        let trouble = Trouble::default();
        let (_, running) = node(&stage.backend, &Table::default(), Some(&trouble)).await;
        reached(&stage, dies_at).await;
        trouble.dead.store(true, Ordering::Relaxed);
        drop(running);
    }
    let (_, running) = node(&stage.backend, &Table::default(), Some(&Trouble::default())).await;
    reached(&stage, ROWS).await;
    all_arrived(&stage).await;
    running.shutdown(Duration::from_secs(5)).await;
    stage.end().await;
}
