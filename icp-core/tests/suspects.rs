//! What may have taken nodes down has a node to itself, and for no longer than it may take.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use icp_core::Engine;
use icp_core::delivery::{
    AttemptTimings, Claim, DeliveryQuery, DeliveryState, DeliveryStore, Rescue, RescueOf,
};
use icp_core::egress::AddressPolicy;
use icp_core::engine::{EngineConfig, Running};
use icp_core::error::{Result, Violation};
use icp_core::event::NewEvent;
use icp_core::id::{OrgId, ResourceId, SessionId};
use icp_core::integration::{Binding, Connector, Integration, Judgement, Outgoing, Preview, Sent};
use icp_core::resource::{Actor, Draft};
use icp_core::store::MemoryStore;
use icp_core::time::{Clock, Timestamp, TokioClock};
use serde_json::{Value, json};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// When an attempt was under way, in milliseconds; the end is missing where it broke off.
#[derive(Clone, Copy, Debug)]
struct Span {
    suspect: bool,
    begun: i64,
    ended: Option<i64>,
}

/// A connector whose attempts take as many seconds as their target says, and tell when.
#[derive(Clone, Debug)]
struct Timed {
    clock: TokioClock,
    spans: Arc<Mutex<Vec<Span>>>,
    secs: u32,
    suspect: bool,
}

impl Connector for Timed {
    fn kind(&self) -> &'static str {
        "timed"
    }

    fn validate(&self, _: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }

    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>> {
        let secs = binding.target["secs"].as_u64().unwrap().try_into().unwrap();
        let suspect = binding.target["of"] == "slow";
        Ok(Arc::new(Self { secs, suspect, ..self.clone() }))
    }
}

#[async_trait]
impl Integration for Timed {
    async fn send(&self, _: Outgoing<'_>) -> Sent {
        let begun = self.clock.now().as_millis();
        let suspect = self.suspect;
        let at = {
            let mut spans = self.spans.lock().unwrap();
            spans.push(Span { suspect, begun, ended: None });
            spans.len() - 1
        };
        sleep(self.secs * SECOND).await;
        self.spans.lock().unwrap()[at].ended = Some(self.clock.now().as_millis());
        Sent {
            judgement: Judgement::Delivered,
            status: None,
            timings: AttemptTimings::default(),
            exchange: None,
        }
    }

    fn preview(&self, _: &Outgoing<'_>) -> Result<Preview> {
        unreachable!("nobody asks for it here")
    }
}

struct Stage {
    engine: Engine,
    store: MemoryStore,
    org: OrgId,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Stage {
    /// An engine that is not started; `order.slow` takes `slow` seconds, `order.quick` takes `quick`.
    async fn new(slow: u64, quick: u64, config: EngineConfig) -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000));
        let (store, spans) = (MemoryStore::new(), Arc::default());
        let timed = Timed { clock, spans: Arc::clone(&spans), secs: 0, suspect: false };
        let builder = Engine::builder(store.clone()).clock(clock).config(config);
        let engine = builder.connector(timed).build().unwrap();
        let org = OrgId::new("acme").unwrap();
        let organization = Draft { spec: json!({}), ..Draft::default() };
        let actor = Actor::host();
        engine.resources().create(&org, "organization", organization, &actor).await.unwrap();
        for (name, secs) in [("slow", slow), ("quick", quick)] {
            let target = json!({ "kind": "timed", "secs": secs, "of": name });
            let spec = json!({ "events": [format!("order.{name}")], "target": target });
            let draft = Draft { id: ResourceId::new(name).ok(), spec, ..Draft::default() };
            engine.resources().create(&org, "integration", draft, &actor).await.unwrap();
        }
        Self { engine, store, org, spans }
    }

    async fn publish(&self, name: &str, count: usize) {
        for _ in 0..count {
            let kind = format!("order.{name}");
            let event = NewEvent::json(self.org.as_str(), &kind, &json!({})).unwrap();
            self.engine.publish(event).await.unwrap();
        }
    }

    /// Makes what waits suspect: two nodes take it and go down.
    async fn go_down_twice(&self) {
        for session in [SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16])] {
            let now = self.engine.now();
            self.store.open_session(session, now).await.unwrap();
            let lease_until = now + 60 * SECOND;
            let without = [].into();
            let claim = Claim { session, now, lease_until, limit: 9, per_lane: 9, without };
            assert!(!self.store.claim(claim).await.unwrap().deliveries.is_empty());
            let of = RescueOf::Session(session);
            self.store.rescue(Rescue { of, now, limit: 9, max_rescues: 9 }).await.unwrap();
        }
    }

    fn spans(&self, suspect: bool) -> Vec<Span> {
        let spans = self.spans.lock().unwrap().clone();
        spans.into_iter().filter(|span| span.suspect == suspect).collect()
    }

    async fn delivered(&self, count: usize) {
        let query = DeliveryQuery { state: Some(DeliveryState::Delivered), ..Default::default() };
        while self.engine.deliveries(&self.org, &query).await.unwrap().items.len() < count {
            sleep(SECOND / 10).await;
        }
    }

    async fn end(self, running: Running) {
        running.shutdown(SECOND).await;
        assert!(self.engine.verify().await.unwrap().is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_beside_a_suspect() {
    let stage = Stage::new(10, 1, EngineConfig::default()).await;
    stage.publish("slow", 1).await;
    stage.go_down_twice().await;
    stage.publish("quick", 3).await;
    let running = stage.engine.start().await.unwrap();
    // Before it, beside it, and behind it.
    for _ in 0..15 {
        sleep(SECOND).await;
        stage.publish("quick", 2).await;
    }
    stage.delivered(34).await;
    let [suspect] = stage.spans(true)[..] else { panic!("it goes once") };
    let others = stage.spans(false);
    assert_eq!(others.len(), 33);
    let ended = suspect.ended.unwrap();
    for other in &others {
        let apart = other.ended.unwrap() <= suspect.begun || other.begun >= ended;
        assert!(apart, "{other:?} beside {suspect:?}");
    }
    assert!(others.iter().any(|other| other.begun < suspect.begun));
    let after = others.iter().filter(|other| other.begun >= ended).count();
    assert!(after >= 20, "{after} had to wait for it");
    stage.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_stops_the_node_until_its_deadline_only() {
    let mut config = EngineConfig::default();
    config.attempt_deadline = 7 * SECOND;
    let stage = Stage::new(3_600, 1, config).await;
    stage.publish("slow", 1).await;
    stage.go_down_twice().await;
    let running = stage.engine.start().await.unwrap();
    sleep(SECOND).await;
    stage.publish("quick", 1).await;
    let published = stage.engine.now().as_millis();
    stage.delivered(1).await;
    let waited = stage.spans(false)[0].begun - published;
    assert!((5_500..6_500).contains(&waited), "{waited} ms");
    stage.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn suspects_leave_the_others_half_of_the_time() {
    let stage = Stage::new(10, 1, EngineConfig::default()).await;
    stage.publish("slow", 3).await;
    stage.go_down_twice().await;
    let running = stage.engine.start().await.unwrap();
    stage.delivered(3).await;
    let suspects = stage.spans(true);
    assert_eq!(suspects.len(), 3);
    for pair in suspects.windows(2) {
        let between = pair[1].begun - pair[0].ended.unwrap();
        assert!((10_000..13_000).contains(&between), "{between} ms");
    }
    stage.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_is_given_back_when_the_engine_stops() {
    let stage = Stage::new(1, 20, EngineConfig::default()).await;
    stage.publish("slow", 1).await;
    stage.go_down_twice().await;
    stage.publish("quick", 1).await;
    let running = stage.engine.start().await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!((stage.spans(false).len(), stage.spans(true).len()), (1, 0));
    let drained = running.shutdown(30 * SECOND).await;
    assert_eq!((drained.finished, drained.released, drained.unsettled), (1, 1, 0));
    let counts = stage.store.counts().await.unwrap();
    assert_eq!(counts, [(DeliveryState::Delivered, 1), (DeliveryState::Ready, 1)]);
    assert!(stage.engine.verify().await.unwrap().is_clean());
}
