//! Event sources: followed by one node at a time, from the last checkpoint on, whatever happens.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test needs fails by panicking")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use icp_core::engine::{EngineBuilder, Running};
use icp_core::event::{EventQuery, NewEvent};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{Actor, AuditQuery, Draft, Expect, ResourceStore};
use icp_core::secret::{LocalKeys, SystemEntropy};
use icp_core::slot::{NewSlot, SlotExpect, SlotStore};
use icp_core::source::{
    EventSource, PollRequest, Polled, SourceError, SourceEvent, SourceProgress,
};
use icp_core::store::MemoryStore;
use icp_core::time::{Timestamp, TokioClock};
use icp_core::{Code, Engine, Violation};
use serde_json::{Value, json};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const KIND: &str = "event_source";

/// A table with rows of the numbers 1 to `rows`.
#[derive(Clone, Debug, Default)]
struct Table(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rows: AtomicUsize,
    polls: Mutex<Vec<Asked>>,
    told: Mutex<Vec<Value>>,
    /// What the next polls do in place of answering.
    moods: Mutex<Vec<Mood>>,
    away: AtomicBool,
}

/// What a poll was asked.
#[derive(Debug, PartialEq)]
struct Asked {
    after: Option<Value>,
    source: String,
    password: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Fail,
    Hang,
    Panic,
    NoCheckpoint,
    TooMany,
}

impl Table {
    fn of(rows: usize) -> Self {
        let table = Self::default();
        table.grow(rows);
        table
    }

    fn grow(&self, rows: usize) {
        self.0.rows.fetch_add(rows, Ordering::SeqCst);
    }

    fn feels(&self, moods: &[Mood]) {
        self.0.moods.lock().unwrap().extend(moods.iter().rev());
    }

    fn polls(&self) -> usize {
        self.0.polls.lock().unwrap().len()
    }
}

#[async_trait]
impl EventSource for Table {
    async fn poll(&self, request: &PollRequest<'_>) -> Result<Polled, SourceError> {
        self.0.polls.lock().unwrap().push(Asked {
            after: request.after.cloned(),
            source: request.source.to_string(),
            password: request.secrets.get("password").map(|secret| secret.expose().to_owned()),
        });
        let mood = self.0.moods.lock().unwrap().pop();
        let first = request.after.and_then(Value::as_u64).unwrap_or(0) + 1;
        let rows = self.0.rows.load(Ordering::SeqCst) as u64;
        let last = rows.min(first + request.limit as u64 - 1);
        let kind = request.config.and_then(Value::as_str).unwrap_or("order.paid");
        let org = request.org.as_str();
        let event = |row: u64| {
            let kind = if kind == "odd" && row % 2 == 1 { "not a type" } else { "order.paid" };
            let org = if kind == "foreign" { "other" } else { org };
            let event = NewEvent::json(org, kind, &json!({ "row": row })).unwrap();
            SourceEvent::new(row.to_string(), event)
        };
        let mut events: Vec<_> = (first..=last).map(event).collect();
        match mood {
            Some(Mood::Fail) => {
                return Err(SourceError::new("table_locked", "the table is locked"));
            }
            Some(Mood::Hang) => std::future::pending().await,
            Some(Mood::Panic) => panic!("on purpose"),
            Some(Mood::NoCheckpoint) => return Ok(Polled { events, ..Polled::default() }),
            Some(Mood::TooMany) => events.extend((0..=request.limit as u64).map(event)),
            None => {}
        }
        if events.is_empty() {
            return Ok(Polled::nothing());
        }
        let polled = Polled::new(events, json!(last));
        Ok(if last < rows { polled.and_more() } else { polled })
    }

    async fn acknowledge(&self, request: &PollRequest<'_>) -> Result<(), SourceError> {
        self.0.told.lock().unwrap().push(request.after.unwrap().clone());
        Ok(())
    }

    fn validate(&self, config: Option<&Value>) -> Vec<Violation> {
        let fine = config.is_none_or(Value::is_string);
        let wrong = || Violation::new("", "not_a_text", "the table is named by a text");
        if fine { Vec::new() } else { vec![wrong()] }
    }

    fn is_ready(&self, _: &str) -> bool {
        !self.0.away.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Stage {
    store: MemoryStore,
    clock: TokioClock,
    keys: LocalKeys,
    engine: Engine,
    org: OrgId,
    id: ResourceId,
}

impl Stage {
    async fn with(table: &Table) -> Self {
        let store = MemoryStore::new();
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000));
        let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
        let engine =
            node(&store, &clock, &keys, |builder| builder.event_source("table", table.clone()));
        let (org, id) = (OrgId::new("acme").unwrap(), ResourceId::new("orders").unwrap());
        let stage = Self { store, clock, keys, engine, org, id };
        let draft = Draft { spec: json!({}), ..Draft::default() };
        let resources = stage.engine.resources();
        resources.create(&stage.org, "organization", draft, &Actor::host()).await.unwrap();
        stage
    }

    /// Another node on the same store.
    fn beside(&self, table: &Table) -> Engine {
        let named = |builder: EngineBuilder| builder.event_source("table", table.clone());
        node(&self.store, &self.clock, &self.keys, named)
    }

    async fn put(&self, spec: Value) -> icp_core::Result<Value> {
        let draft = Draft { id: Some(self.id.clone()), spec, ..Draft::default() };
        let (resources, host) = (self.engine.resources(), Actor::host());
        let present = self.store.resource(&self.org, KIND, &self.id).await.unwrap();
        let made = match present {
            None => resources.create(&self.org, KIND, draft, &host).await?,
            Some(_) => {
                resources.replace(&self.org, KIND, &self.id, draft, Expect::Any, &host).await?
            }
        };
        Ok(made.spec)
    }

    async fn progress(&self) -> SourceProgress {
        self.engine.source_progress(&self.org, &self.id).await.unwrap()
    }

    /// The rows that were published, in order.
    async fn rows(&self) -> Vec<u64> {
        let mut query = EventQuery::default();
        query.page.limit = 1_000;
        let found = self.engine.events(&self.org, &query).await.unwrap().items;
        let mut rows = Vec::new();
        for summary in found.iter().rev() {
            let event = self.engine.event(&self.org, summary.id).await.unwrap();
            let body: Value = serde_json::from_slice(&event.body).unwrap();
            rows.push(body["row"].as_u64().unwrap());
        }
        rows
    }

    async fn start(&self) -> Running {
        self.engine.start().await.unwrap()
    }
}

fn node(
    store: &MemoryStore,
    clock: &TokioClock,
    keys: &LocalKeys,
    sources: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> Engine {
    let builder = Engine::builder(store.clone()).clock(*clock).keys(keys.clone());
    sources(builder).build().unwrap()
}

fn spec() -> Value {
    json!({ "type": "table", "batch": 10, "poll_seconds": 5 })
}

fn all(rows: u64) -> Vec<u64> {
    (1..=rows).collect()
}

#[tokio::test(start_paused = true)]
async fn what_there_is_is_published_in_order_and_told() {
    let table = Table::of(25);
    let stage = Stage::with(&table).await;
    let running = stage.start().await;
    stage.put(spec()).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(stage.rows().await, all(25));
    assert_eq!(*table.0.told.lock().unwrap(), [json!(10), json!(20), json!(25)]);
    assert_eq!(table.polls(), 3, "more is read at once");
    let progress = stage.progress().await;
    assert_eq!((progress.checkpoint, progress.events), (Some(json!(25)), 25));
    assert!(progress.holder.is_some() && progress.advanced_at.is_some());

    sleep(4 * SECOND).await;
    assert_eq!(table.polls(), 3, "then it waits");
    table.grow(1);
    sleep(SECOND).await;
    assert_eq!(stage.rows().await, all(26));
    let metrics = stage.engine.metrics().render();
    for line in ["icp_source_events_total 26", "icp_sources 1", "icp_source_failures_total 0"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    running.shutdown(SECOND).await;
    let progress = stage.progress().await;
    assert_eq!((progress.checkpoint, progress.holder), (Some(json!(26)), None));
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_named() {
    for (mood, code, message) in [
        (Mood::Fail, "table_locked", "the table is locked"),
        (Mood::Panic, "panic", "its code panicked"),
        (Mood::NoCheckpoint, "checkpoint_missing", "without a checkpoint"),
        (Mood::TooMany, "too_many_events", "14 events were answered, where at most 10 are taken"),
        (Mood::Hang, "timeout", "no answer came within 60 s"),
    ] {
        let table = Table::of(3);
        table.feels(&[mood]);
        let stage = Stage::with(&table).await;
        let running = stage.start().await;
        stage.put(spec()).await.unwrap();
        let failing = loop {
            sleep(SECOND / 10).await;
            if let Some(failing) = stage.progress().await.failing {
                break failing;
            }
        };
        assert_eq!((failing.code.as_str(), failing.times), (code, 1));
        assert!(failing.message.contains(message), "{}", failing.message);
        running.shutdown(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_shown_and_nothing_is_lost() {
    let table = Table::of(3);
    table.feels(&[Mood::Fail, Mood::Fail, Mood::Panic, Mood::NoCheckpoint, Mood::TooMany]);
    let stage = Stage::with(&table).await;
    let running = stage.start().await;
    stage.put(spec()).await.unwrap();
    for (after, times) in [(500, 1), (1_000, 2), (2_000, 3), (4_000, 4), (8_000, 5)] {
        sleep(Duration::from_millis(after)).await;
        assert_eq!((table.polls(), stage.rows().await.len()), (times, 0), "pauses double");
    }
    sleep(5 * SECOND).await;
    let failing = stage.progress().await.failing.unwrap();
    assert_eq!((failing.code.as_str(), failing.times), ("too_many_events", 5));
    assert_eq!(stage.progress().await.holder, None, "another node may try");
    sleep(16 * SECOND).await;
    assert_eq!(stage.rows().await, all(3));
    assert_eq!(stage.progress().await.failing, None);
    assert!(stage.engine.metrics().render().contains("icp_source_failures_total 5"));

    table.feels(&[Mood::Hang]);
    table.grow(1);
    sleep(64 * SECOND).await;
    assert_eq!(stage.rows().await, all(3));
    sleep(4 * SECOND).await;
    assert_eq!(stage.rows().await, all(4), "a poll has 60 s");
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_published_is_named_and_passed_over() {
    let table = Table::of(25);
    let stage = Stage::with(&table).await;
    let running = stage.start().await;
    let mut odd = spec();
    odd["config"] = json!("odd");
    stage.put(odd).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(
        stage.rows().await,
        all(25).into_iter().filter(|row| row % 2 == 0).collect::<Vec<_>>()
    );
    let progress = stage.progress().await;
    assert_eq!((progress.events, progress.refused), (12, 13));
    let query = AuditQuery::default();
    let log = stage.engine.resources().audit_log(&stage.org, &query).await.unwrap().items;
    let notes: Vec<_> = log.iter().filter(|entry| entry.action == "refuse_events").collect();
    assert_eq!(notes.len(), 3, "one for each poll");
    let text = notes[0].note.as_deref().unwrap();
    assert!(text.starts_with("3 refused: \"21\" (event_type_invalid: "), "{text}");
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn one_node_reads_and_another_goes_on() {
    let (first, second) = (Table::of(5), Table::of(10));
    let stage = Stage::with(&first).await;
    stage.put(spec()).await.unwrap();
    let running = stage.start().await;
    sleep(SECOND).await;
    let other = stage.beside(&second);
    let beside = other.start().await.unwrap();
    sleep(600 * SECOND).await;
    assert_eq!((first.polls() > 100, second.polls()), (true, 0), "what is held is renewed");
    running.shutdown(SECOND).await;
    sleep(11 * SECOND).await;
    assert_eq!(stage.rows().await, all(10));
    assert_eq!(second.0.polls.lock().unwrap()[0].after, Some(json!(5)));
    beside.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_heard_of_for_a_lease_loses_the_source() {
    let table = Table::of(5);
    let stage = Stage::with(&table).await;
    stage.put(spec()).await.unwrap();
    let gone = json!({ "version": 1, "checkpoint": 2, "holder": "ses_gone", "events": 2 });
    let slot = NewSlot {
        key: "source/acme/orders".to_owned(),
        value: gone.to_string(),
        expires_at: Timestamp::MAX,
    };
    assert!(stage.store.put_slot(slot, SlotExpect::Absent, stage.engine.now()).await.unwrap());
    let running = stage.start().await;
    sleep(59 * SECOND).await;
    assert_eq!(table.polls(), 0);
    sleep(12 * SECOND).await;
    assert_eq!(stage.rows().await, [3, 4, 5]);
    assert_eq!(stage.progress().await.events, 5);
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_moved_checkpoint_is_gone_on_from_and_nothing_is_published_twice() {
    let table = Table::of(8);
    let stage = Stage::with(&table).await;
    stage.put(spec()).await.unwrap();
    let running = stage.start().await;
    sleep(SECOND).await;
    let host = Actor::host();
    let to = |checkpoint| stage.engine.move_source(&stage.org, &stage.id, checkpoint, &host);
    to(Some(json!(3))).await.unwrap();
    sleep(21 * SECOND).await;
    let progress = stage.progress().await;
    assert_eq!((progress.checkpoint, progress.duplicates), (Some(json!(8)), 5));
    to(None).await.unwrap();
    sleep(21 * SECOND).await;
    assert_eq!(stage.progress().await.duplicates, 13);
    assert_eq!(stage.rows().await, all(8));
    let long = to(Some(json!("x".repeat(65_536)))).await.unwrap_err();
    assert_eq!(
        (long.code(), long.list()[0].pointer.as_str()),
        (Code::ResourceInvalid, "/checkpoint")
    );
    let log = stage.engine.resources().audit_log(&stage.org, &AuditQuery::default()).await.unwrap();
    assert_eq!(log.items.iter().filter(|entry| entry.action == "move_checkpoint").count(), 2);
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_calls_a_poll_off_and_a_key_of_a_source_is_not_for_others() {
    let table = Table::of(2);
    table.feels(&[Mood::Hang]);
    let stage = Stage::with(&table).await;
    let running = stage.start().await;
    stage.put(spec()).await.unwrap();
    sleep(SECOND).await;
    assert_eq!((table.polls(), stage.rows().await.len()), (1, 0));
    let mut other = spec();
    other["batch"] = json!(1);
    stage.put(other).await.unwrap();
    sleep(SECOND).await;
    assert_eq!((table.polls(), stage.rows().await), (3, all(2)));
    let event = NewEvent::json("acme", "order.paid", &json!({ "row": 3 })).unwrap();
    let refused = stage.engine.publish(event.idempotency_key("icp-source:orders:1:3")).await;
    let refused = refused.unwrap_err();
    let rule = (refused.list()[0].pointer.as_str(), refused.list()[0].code.as_str());
    assert_eq!((refused.code(), rule), (Code::EventInvalid, ("/idempotency_key", "reserved")));
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_ahead_of_its_unit_waits_for_it_and_keeps_it() {
    let table = Table::of(2);
    let stage = Stage::with(&table).await;
    let running = stage.start().await;
    let mut of_unit = spec();
    of_unit["unit"] = json!("eu");
    stage.put(of_unit).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(stage.progress().await.failing.unwrap().code, "unit_unknown");
    let (resources, host) = (stage.engine.resources(), Actor::host());
    let acme = ResourceId::new("acme").unwrap();
    let put = |units: Value| {
        let draft = Draft { spec: json!({ "units": units }), ..Draft::default() };
        resources.replace(&stage.org, "organization", &acme, draft, Expect::Any, &host)
    };
    put(json!([{ "id": "eu" }])).await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!((stage.rows().await, stage.progress().await.refused), (all(2), 0));
    let eu = ResourceId::new("eu").unwrap();
    let kept = resources.remove_unit(&stage.org, &eu, Expect::Any, &host).await.unwrap_err();
    assert_eq!(kept.code(), Code::UnitInUse);
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_changed_off_or_gone_is_treated_so() {
    let table = Table::of(3);
    let stage = Stage::with(&table).await;
    let running = stage.start().await;
    stage.put(spec()).await.unwrap();
    sleep(SECOND).await;
    let mut off = spec();
    off["enabled"] = json!(false);
    stage.put(off).await.unwrap();
    table.grow(1);
    sleep(60 * SECOND).await;
    assert_eq!(stage.rows().await, all(3));
    assert_eq!(stage.progress().await.holder, None);
    stage.put(spec()).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(stage.rows().await, all(4), "it goes on from where it was");

    table.0.away.store(true, Ordering::SeqCst);
    table.grow(1);
    sleep(20 * SECOND).await;
    assert_eq!((stage.rows().await, stage.progress().await.holder), (all(4), None));
    table.0.away.store(false, Ordering::SeqCst);
    sleep(2 * SECOND).await;
    assert_eq!(stage.rows().await, all(5));

    let (resources, host) = (stage.engine.resources(), Actor::host());
    resources.delete(&stage.org, KIND, &stage.id, Expect::Any, &host).await.unwrap();
    sleep(SECOND).await;
    let gone = stage.engine.source_progress(&stage.org, &stage.id).await.unwrap_err();
    assert_eq!(gone.code(), Code::ResourceNotFound);
    let slot = stage.store.slot("source/acme/orders", stage.engine.now()).await.unwrap();
    assert!(slot.is_none());
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_made_again_begins_anew() {
    let table = Table::of(3);
    let stage = Stage::with(&table).await;
    let running = stage.start().await;
    stage.put(spec()).await.unwrap();
    sleep(SECOND).await;
    running.shutdown(SECOND).await;
    let (resources, host) = (stage.engine.resources(), Actor::host());
    stage.put(spec()).await.unwrap();
    assert_eq!(stage.progress().await.checkpoint, Some(json!(3)), "a change is no new beginning");
    resources.delete(&stage.org, KIND, &stage.id, Expect::Any, &host).await.unwrap();
    stage.put(spec()).await.unwrap();
    assert_eq!(stage.progress().await, SourceProgress::default());
}

#[tokio::test(start_paused = true)]
async fn an_organization_that_is_suspended_gets_its_events_later() {
    let table = Table::of(3);
    let stage = Stage::with(&table).await;
    let (resources, host) = (stage.engine.resources(), Actor::host());
    let acme = ResourceId::new("acme").unwrap();
    let turn = |status: &str| {
        let draft = Draft { spec: json!({ "status": status }), ..Draft::default() };
        resources.replace(&stage.org, "organization", &acme, draft, Expect::Any, &host)
    };
    turn("suspended").await.unwrap();
    stage.put(spec()).await.unwrap();
    let running = stage.start().await;
    sleep(30 * SECOND).await;
    let failing = stage.progress().await.failing.unwrap();
    assert_eq!(failing.code, "organization_suspended");
    turn("active").await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(stage.rows().await, all(3));
    running.shutdown(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn secrets_reach_the_source_and_nobody_else() {
    let table = Table::of(1);
    let stage = Stage::with(&table).await;
    let mut sealed = spec();
    sealed["secrets"] = json!({ "password": "canary" });
    let shown = stage.put(sealed).await.unwrap();
    assert!(!shown.to_string().contains("canary"), "{shown}");
    let running = stage.start().await;
    sleep(SECOND).await;
    running.shutdown(SECOND).await;
    let progress = format!("{:?}", stage.progress().await);
    let log = stage.engine.resources().audit_log(&stage.org, &AuditQuery::default()).await;
    let slot = stage.store.slot("source/acme/orders", stage.engine.now()).await.unwrap().unwrap();
    for shown in [progress, format!("{log:?}"), slot.value] {
        assert!(!shown.contains("canary"), "{shown}");
    }
    let polls = table.0.polls.lock().unwrap();
    let (source, password) = ("orders".to_owned(), Some("canary".to_owned()));
    assert_eq!(polls[0], Asked { after: None, source, password });
}

#[tokio::test(start_paused = true)]
async fn everything_wrong_with_a_source_is_listed() {
    let stage = Stage::with(&Table::of(1)).await;
    let broken = json!({
        "type": "a b", "batch": 0, "poll_seconds": 90_000, "secrets": { "a/b": "x" },
        "config": "x".repeat(70_000),
    });
    let error = stage.put(broken).await.unwrap_err();
    let found: Vec<_> = error.list().iter().map(|one| one.pointer.as_str()).collect();
    for pointer in
        ["/spec/type", "/spec/batch", "/spec/poll_seconds", "/spec/secrets/a~1b", "/spec/config"]
    {
        assert!(found.contains(&pointer), "{pointer}: {found:?}");
    }
    let error = stage.put(json!({ "type": "table", "config": 7 })).await.unwrap_err();
    assert_eq!(
        (error.list()[0].pointer.as_str(), error.list()[0].code.as_str()),
        ("/spec/config", "not_a_text")
    );
    stage.put(json!({ "type": "of-another-program", "config": 7 })).await.unwrap();
    let running = stage.start().await;
    sleep(100 * SECOND).await;
    assert_eq!(stage.progress().await, SourceProgress::default());
    running.shutdown(SECOND).await;
}
