//! Deliveries that break what works on them: they harm none beside them, and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icp::delivery::health::Verdict;
use icp::delivery::{AttemptOutcome, DeliveryState};
use icp::engine::{Engine, EngineConfig};
use icp::id::{ClockIds, IdSource, OrgId};
use icp::notice::DELIVERY_DEAD;
use icp::time::SystemClock;
use icp::transform::{Outcome, Plan, Report, TransformContext, TransformError, Transformer};
use icp_testkit::receiver::{Behaviour, Reaction};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::stage::{Backend, Stage, config};

crate::on_every_store! {
    what_takes_nodes_down_is_quarantined,
    what_hangs_ends_at_the_deadline,
    a_second_panic_gives_the_lease_back,
    a_suspect_that_runs_takes_no_other_along,
    answers_without_an_end_harm_nobody,
    answers_that_are_too_much_or_make_no_sense_harm_nobody,
}

/// A transformer that never comes back from events of the type `poison`, and tells of each.
#[derive(Debug)]
struct Fatal(UnboundedSender<()>);

#[async_trait]
impl Transformer for Fatal {
    async fn check(&self, _: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        Ok(())
    }

    async fn run(
        &self,
        _: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        if cx.event_type.as_str() == "poison" {
            self.0.send(()).unwrap();
            std::future::pending::<()>().await;
        }
        Ok(Report::new(Outcome::Value(input)))
    }
}

/// Intervals at which a dead node is found out at once.
pub(crate) fn hasty() -> EngineConfig {
    let mut config = config();
    config.beat = Duration::from_millis(50);
    config.missed_beats = 4;
    config.lease = Duration::from_secs(60);
    config
}

/// A node that dies as a process does: at any moment, with nothing tidied up.
pub(crate) struct Node(Option<tokio::runtime::Runtime>);

impl Node {
    pub(crate) fn start(engine: Engine) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        runtime.spawn(async move {
            let running = engine.start().await.unwrap();
            std::future::pending::<()>().await;
            drop(running);
        });
        Self(Some(runtime))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

async fn met(fatal: &mut UnboundedReceiver<()>) {
    tokio::time::timeout(Duration::from_secs(20), fatal.recv()).await.unwrap().unwrap();
}

async fn what_takes_nodes_down_is_quarantined(backend: Backend) {
    let (sender, mut fatal) = unbounded_channel();
    let build = async |backend: &Backend| {
        let transformer = Fatal(sender.clone());
        let builder = backend.another_node().await.config(hasty());
        builder.transformer(transformer).build().unwrap()
    };
    let engine = build(&backend).await;
    let mut stage = Stage::with(backend, engine).await;
    stage.running().shutdown(Duration::from_secs(5)).await;
    stage.integration("crm", json!({ "transform": [{ "map": {} }] })).await;
    stage.integration("ops", json!({ "events": [DELIVERY_DEAD] })).await;
    let poison = stage.publish("poison", &json!({})).await;
    for n in 0..20 {
        stage.publish("order.paid", &json!(n)).await;
    }
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.clear();
        nodes.push(Node::start(build(&stage.backend).await));
        met(&mut fatal).await;
    }
    nodes.clear();
    let last = Node::start(build(&stage.backend).await);
    stage.settled(DeliveryState::Dead, 1).await;
    let told = stage.receiver.wait_for_to("/ops", 1).await;
    assert_eq!(told[0].header("icp-event-type"), DELIVERY_DEAD);
    stage.settled(DeliveryState::Delivered, 21).await;
    let deliveries = stage.deliveries().await;
    let dead = deliveries.iter().find(|d| d.state == DeliveryState::Dead).unwrap();
    assert_eq!((dead.event, dead.rescues), (poison.id, 3));
    assert_eq!(dead.reason.as_ref().unwrap().code, "poison");
    assert!(fatal.try_recv().is_err(), "it was met three times and no more");
    drop(last);
    stage.end().await;
}

/// Ids that panic once when they are told to.
#[derive(Debug)]
struct Moody {
    ids: ClockIds<SystemClock>,
    armed: Arc<AtomicBool>,
}

impl IdSource for Moody {
    fn next(&self) -> u128 {
        assert!(!self.armed.swap(false, Ordering::AcqRel), "as the test asks");
        self.ids.next()
    }
}

/// A transformer that arms the ids with its first run, and panics then.
#[derive(Debug)]
struct Arming {
    armed: Arc<AtomicBool>,
    first: AtomicBool,
}

#[async_trait]
impl Transformer for Arming {
    async fn check(&self, _: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        Ok(())
    }

    async fn run(
        &self,
        _: &Plan,
        _: Bytes,
        _: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        self.armed.store(self.first.swap(false, Ordering::AcqRel), Ordering::Release);
        panic!("as the test asks");
    }
}

async fn a_second_panic_gives_the_lease_back(backend: Backend) {
    let armed = Arc::new(AtomicBool::new(false));
    let ids = Moody { ids: ClockIds::new(SystemClock).unwrap(), armed: Arc::clone(&armed) };
    let transformer = Arming { armed, first: AtomicBool::new(true) };
    let mut config = config();
    config.poll = Duration::from_millis(20);
    let builder = backend.builder().config(config).ids(ids).transformer(transformer);
    let engine = builder.build().unwrap();
    let stage = Stage::with(backend, engine).await;
    let only = json!({
        "events": ["order.*"],
        "transform": [{ "map": {} }],
        "retry": { "max_attempts": 1 },
    });
    stage.integration("crm", only).await;
    stage.integration("ops", json!({ "events": [DELIVERY_DEAD] })).await;
    stage.publish("order.paid", &json!({})).await;
    // The first lease ended with the notice of the dead letter, the second with the letter.
    stage.settled(DeliveryState::Dead, 1).await;
    stage.receiver.wait_for_to("/ops", 1).await;
    let dead = stage.deliveries().await.remove(0);
    assert_eq!((dead.epoch, dead.tries), (2, 1));
    assert!(stage.engine.metrics().render().contains("icp_panics_total 3"));
    stage.settled(DeliveryState::Delivered, 1).await;
    stage.end().await;
}

async fn a_suspect_that_runs_takes_no_other_along(backend: Backend) {
    let (sender, mut fatal) = unbounded_channel();
    let mut config = hasty();
    // Time enough for others to be due again.
    config.attempt_deadline = Duration::from_millis(1_500);
    let build = async |backend: &Backend| {
        let transformer = Fatal(sender.clone());
        let builder = backend.another_node().await.config(config.clone());
        builder.transformer(transformer).build().unwrap()
    };
    let engine = build(&backend).await;
    let mut stage = Stage::with(backend, engine).await;
    stage.running().shutdown(Duration::from_secs(5)).await;
    let more = json!({ "transform": [{ "map": {} }], "retry": { "max_attempts": 1 } });
    stage.integration("crm", more).await;
    let hangs = vec![Reaction::Hang; 2];
    stage.receiver.behave("/crm", Behaviour::Script { first: hangs, rest: Reaction::OK });
    stage.publish("poison", &json!({})).await;
    let beside = stage.publish("order.paid", &json!({})).await;
    for kill in 1..=2 {
        let node = Node::start(build(&stage.backend).await);
        met(&mut fatal).await;
        stage.receiver.wait_for_to("/crm", kill).await;
        drop(node);
    }
    let node = Node::start(build(&stage.backend).await);
    stage.settled(DeliveryState::Dead, 1).await;
    stage.settled(DeliveryState::Delivered, 1).await;
    let deliveries = stage.deliveries().await;
    let other = deliveries.iter().find(|d| d.event == beside.id).unwrap();
    // Two claims of nodes that died, one that gave it back while the first had the node to itself,
    // perhaps more while the node was for others after that, and one of its own.
    assert_eq!(other.rescues, 2, "{other:?}");
    assert!((4..=6).contains(&other.epoch), "{other:?}");
    drop(node);
    stage.end().await;
}

async fn what_hangs_ends_at_the_deadline(backend: Backend) {
    let (sender, mut fatal) = unbounded_channel();
    let mut config = config();
    config.attempt_deadline = Duration::from_millis(300);
    let engine = backend.builder().config(config).transformer(Fatal(sender)).build().unwrap();
    let stage = Stage::with(backend, engine).await;
    stage.integration("crm", json!({ "transform": [{ "map": {} }] })).await;
    stage.publish("poison", &json!({})).await;
    met(&mut fatal).await;
    for n in 0..20 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.settled(DeliveryState::Delivered, 20).await;
    stage.settled(DeliveryState::Dead, 1).await;
    let deliveries = stage.deliveries().await;
    let hung = deliveries.iter().find(|d| d.state == DeliveryState::Dead).unwrap();
    let attempts = stage.engine.attempts(&stage.org, hung.id).await.unwrap();
    let timed_out = AttemptOutcome::Failed("timeout_attempt".into());
    assert!(attempts.len() == 4 && attempts.iter().all(|a| a.outcome == timed_out), "{attempts:?}");
    // What hung was the transformation: nothing was sent, and the receiver is not to blame.
    assert!(attempts.iter().all(|a| Verdict::of(a).is_none()), "{attempts:?}");
    let ended = hung.updated_at.since(attempts[3].started_at);
    assert!(ended >= Duration::from_millis(290), "{ended:?}: it tells when it began");
    stage.end().await;
}

async fn answers_without_an_end_harm_nobody(backend: Backend) {
    let stage = Stage::new(backend).await;
    let timeouts = json!({ "body_ms": 300 });
    let url = stage.receiver.url("/drip");
    let target = json!({ "kind": "http", "url": url, "timeouts": timeouts });
    stage.integration("drip", json!({ "target": target })).await;
    stage.integration("crm", json!({})).await;
    stage.receiver.behave("/drip", Reaction::SlowBody(Duration::from_millis(20)));
    for n in 0..5 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.settled(DeliveryState::Delivered, 5).await;
    stage.settled(DeliveryState::Dead, 5).await;
    assert_eq!(stage.receiver.seen().count("/crm"), 5);
    stage.end().await;
}

async fn answers_that_are_too_much_or_make_no_sense_harm_nobody(backend: Backend) {
    let (sender, mut fatal) = unbounded_channel();
    let engine = backend.builder().transformer(Fatal(sender)).build().unwrap();
    let mut stage = Stage::with(backend, engine).await;
    for id in ["large", "endless", "garbled", "crm"] {
        stage.integration(id, json!({ "events": ["order.*"] })).await;
    }
    let hung = json!({ "events": ["poison"], "transform": [{ "map": {} }] });
    stage.integration("hung", hung).await;
    stage.receiver.behave("/large", Reaction::LargeBody(64 << 20));
    stage.receiver.behave("/endless", Reaction::LargeBody(usize::MAX));
    stage.receiver.behave("/garbled", Reaction::Undecodable);
    stage.publish("poison", &json!({})).await;
    met(&mut fatal).await;
    let started = stage.engine.now();
    for n in 0..10 {
        stage.publish("order.paid", &json!(n)).await;
    }
    // What the receivers answered was a 200: the rest of the answer is cut or not understood.
    stage.settled(DeliveryState::Delivered, 40).await;
    let mut truncated = 0;
    for delivery in stage.deliveries().await {
        let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
        let id = delivery.integration.as_str();
        if id == "hung" {
            assert_eq!((delivery.state, attempts.len()), (DeliveryState::Leased, 0));
            continue;
        }
        assert_eq!(attempts.len(), 1, "{delivery:?}");
        let exchange = attempts[0].exchange.as_ref().unwrap();
        assert!(exchange.response_body.len() <= 64 << 10, "{id}");
        assert_eq!(exchange.response_truncated, ["large", "endless"].contains(&id), "{id}");
        truncated += u32::from(exchange.response_truncated);
        if id == "crm" {
            let took = delivery.updated_at.since(started);
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
    }
    assert_eq!(truncated, 20);
    assert!(stage.engine.health().await.ready);
    let drained = stage.running().shutdown(Duration::from_millis(50)).await;
    assert_eq!((drained.released, drained.unsettled), (1, 0));
    stage.end().await;
}
