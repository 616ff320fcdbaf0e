//! Engines and a receiver that fails, hangs or takes only so much, in virtual time.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use icp_core::delivery::health::BreakerState;
use icp_core::delivery::{
    AttemptTimings, Delivery, DeliveryQuery, DeliveryState, LaneState, LaneStatus,
};
use icp_core::egress::AddressPolicy;
use icp_core::engine::Running;
use icp_core::error::{Result, Violation};
use icp_core::event::NewEvent;
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::{
    Binding, Connector, Failure, Hint, Integration, Judgement, Outgoing, Preview, Sent,
};
use icp_core::resource::{Actor, Draft};
use icp_core::store::{MemoryStore, PageQuery};
use icp_core::time::{Timestamp, TokioClock};
use icp_core::{Engine, EngineConfig};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What the receiver does with a request to `to` that comes so long after the start.
type Reaction = fn(to: &str, after: Duration) -> (Duration, Option<u16>);

/// A receiver within the process; `target.to` names an endpoint of it.
#[derive(Clone, Debug)]
struct Desk {
    start: Instant,
    reaction: Reaction,
    seen: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone, Debug)]
struct Request {
    to: String,
    at: Duration,
    event: Value,
}

#[derive(Debug)]
struct Bound {
    desk: Desk,
    to: String,
}

impl Connector for Desk {
    fn kind(&self) -> &'static str {
        "desk"
    }

    fn validate(&self, _: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }

    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>> {
        let to = binding.target["to"].as_str().unwrap().to_owned();
        Ok(Arc::new(Bound { desk: self.clone(), to }))
    }
}

#[async_trait]
impl Integration for Bound {
    async fn send(&self, outgoing: Outgoing<'_>) -> Sent {
        let at = self.desk.start.elapsed();
        let event = serde_json::from_slice(&outgoing.body).unwrap();
        self.desk.seen.lock().unwrap().push(Request { to: self.to.clone(), at, event });
        let (takes, status) = (self.desk.reaction)(&self.to, at);
        tokio::time::sleep(takes).await;
        let judgement = match status {
            Some(200) => Judgement::Delivered,
            _ => Judgement::Failed(Failure {
                class: status.map_or("timeout_headers".into(), |s| format!("status_{s}")),
                message: "as the test wants it".into(),
                hint: Hint::Retry,
            }),
        };
        let timings = AttemptTimings { total: 1 + takes.as_micros() as u64, ..Default::default() };
        Sent { judgement, status, timings, exchange: None }
    }

    fn preview(&self, _: &Outgoing<'_>) -> Result<Preview> {
        unreachable!("nobody asks for it here")
    }
}

struct Stage {
    desk: Desk,
    engines: Vec<Engine>,
    running: Vec<Running>,
    org: OrgId,
}

impl Stage {
    async fn start(nodes: usize, max_in_flight: usize, reaction: Reaction) -> Self {
        let (store, org) = (MemoryStore::new(), OrgId::new("acme").unwrap());
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000));
        let desk = Desk { start: Instant::now(), reaction, seen: Arc::default() };
        let (mut engines, mut running) = (Vec::new(), Vec::new());
        for _ in 0..nodes {
            let mut config = EngineConfig::default();
            config.max_in_flight = max_in_flight;
            let engine = Engine::builder(store.clone()).config(config).clock(clock);
            engines.push(engine.connector(desk.clone()).build().unwrap());
        }
        let draft = Draft { spec: json!({}), ..Draft::default() };
        let resources = engines[0].resources();
        resources.create(&org, "organization", draft, &Actor::host()).await.unwrap();
        for engine in &engines {
            running.push(engine.start().await.unwrap());
        }
        Self { desk, engines, running, org }
    }

    /// An integration that takes the events `hook.<id>`, with what `more` sets.
    async fn integration(&self, id: &str, more: Value) {
        let mut spec = json!({
            "events": [format!("hook.{id}")],
            "target": { "kind": "desk", "to": id },
            "retry": { "schedule": { "type": "list", "delays_seconds": vec![1; 90] } },
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let draft = Draft { id: Some(ResourceId::new(id).unwrap()), spec, ..Draft::default() };
        let resources = self.engines[0].resources();
        resources.create(&self.org, "integration", draft, &Actor::host()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    async fn publish(&self, node: usize, id: &str, body: Value) {
        let event = NewEvent::json(self.org.as_str(), format!("hook.{id}"), &body).unwrap();
        self.engines[node % self.engines.len()].publish(event).await.unwrap();
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        let page = PageQuery { after: None, limit: 1_000 };
        let query = DeliveryQuery { page, ..DeliveryQuery::default() };
        self.engines[0].deliveries(&self.org, &query).await.unwrap().items
    }

    async fn lane(&self) -> LaneStatus {
        self.engines[0]
            .lane_statuses(&self.org, PageQuery::default())
            .await
            .unwrap()
            .items
            .remove(0)
    }

    async fn delivered(&self, count: u64) {
        let done = async {
            loop {
                let counts = self.engines[0].counts().await.unwrap();
                if counts.contains(&(DeliveryState::Delivered, count)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(86_400), done).await.unwrap();
    }

    fn seen(&self) -> Vec<Request> {
        self.desk.seen.lock().unwrap().clone()
    }

    async fn end(self) {
        for running in self.running {
            running.shutdown(Duration::from_secs(5)).await;
        }
        let audit = self.engines[0].verify().await.unwrap();
        assert!(audit.is_clean(), "{audit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn three_nodes_probe_a_dead_receiver_once_in_each_window() {
    const OUTAGE: Duration = Duration::from_secs(1_000);
    let stage = Stage::start(3, 64, |_, after| {
        let status = if after < OUTAGE { 500 } else { 200 };
        (Duration::from_millis(20), Some(status))
    })
    .await;
    stage.integration("a", json!({ "max_in_flight": 5 })).await;
    for n in 0..60 {
        stage.publish(n, "a", json!(n)).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let open = stage.lane().await;
    assert_eq!((open.state, open.breaker), (LaneState::Open, BreakerState::Open));
    assert_eq!((open.waiting, open.lane.in_flight), (60, 0));
    let metrics = stage.engines[1].metrics().render();
    assert!(metrics.contains("icp_lanes_open 1\n"), "{metrics}");

    tokio::time::sleep(OUTAGE).await;
    let failed: Vec<_> = stage.seen().into_iter().filter(|seen| seen.at < OUTAGE).collect();
    // What was under way when the fifth failed may be answered after it.
    let first = failed.iter().filter(|seen| seen.at < Duration::from_secs(20)).count();
    assert!((5..=9).contains(&first), "{first} before it opened");
    let mut least = Duration::from_secs(24);
    for pair in failed[first - 1..].windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= least && gap <= least * 2, "{gap:?} after {least:?}");
        least *= 2;
    }
    assert!((first + 4..=first + 6).contains(&failed.len()), "{} probes", failed.len() - first);
    let mut tries: u32 = 0;
    for delivery in stage.deliveries().await {
        tries +=
            u32::try_from(stage.engines[0].attempts(&stage.org, delivery.id).await.unwrap().len())
                .unwrap();
    }
    assert_eq!(tries as usize, stage.seen().len(), "no try without a request");

    stage.delivered(60).await;
    assert_eq!(stage.lane().await.breaker, BreakerState::Closed);
    assert_eq!(stage.lane().await.state, LaneState::Idle);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flapping_receiver_never_gets_more_than_its_breaker_allows() {
    // Up and down each for 40 s.
    let stage = Stage::start(3, 64, |_, after| {
        let up = (after.as_secs() / 40).is_multiple_of(2);
        (Duration::from_millis(5), Some(if up { 200 } else { 503 }))
    })
    .await;
    stage.integration("a", json!({ "max_in_flight": 4 })).await;
    for n in 0..600 {
        stage.publish(n, "a", json!(n)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.delivered(600).await;
    let failed = stage.seen().iter().filter(|seen| (seen.at.as_secs() / 40) % 2 == 1).count();
    let windows = stage.seen().last().unwrap().at.as_secs().div_ceil(80);
    // In each time down: what goes until it opens, and two probes.
    assert!(failed as u64 <= windows * (5 + 4 + 2), "{failed} in {windows} times down");
    assert!(failed >= 10, "{failed}: it was tried more than once");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn three_nodes_keep_to_one_rate() {
    let stage = Stage::start(3, 64, |_, _| (Duration::from_millis(30), Some(200))).await;
    let rate = json!({ "requests": 10, "per_seconds": 1, "burst": 3 });
    stage.integration("a", json!({ "rate_limit": rate, "ordering": "none" })).await;
    for n in 0..50 {
        stage.publish(n, "a", json!(n)).await;
    }
    tokio::time::sleep(Duration::from_millis(2_050)).await;
    let status = stage.lane().await;
    assert_eq!(status.state, LaneState::Throttled);
    let left = status.rate.unwrap();
    assert_eq!((left.limit, left.burst, left.remaining), (10, 3, 0));
    assert!(status.drained_in.unwrap() > Duration::ZERO);
    stage.delivered(50).await;
    let seen = stage.seen();
    for (first, fifth) in seen.iter().zip(&seen[13..]) {
        assert!(fifth.at - first.at >= Duration::from_secs(1), "{first:?} {fifth:?}");
    }
    let whole = seen.last().unwrap().at - seen[0].at;
    assert!(whole <= Duration::from_millis(4_950), "{whole:?}: no time is wasted");
    assert!(stage.deliveries().await.iter().all(|delivery| delivery.tries == 1));
    stage.end().await;
}

const SERVICE: Duration = Duration::from_millis(20);

/// How long each event to the last ninety of a hundred receivers took until it was answered, and
/// how many requests the first ten got.
async fn latencies(reaction: Reaction) -> (Vec<Duration>, usize) {
    let stage = Stage::start(1, 1_024, reaction).await;
    let ids: Vec<String> = (0..100).map(|n| format!("e{n:02}")).collect();
    for id in &ids {
        stage.integration(id, json!({})).await;
    }
    for _ in 0..450 {
        let at = json!(u64::try_from(stage.desk.start.elapsed().as_micros()).unwrap());
        for id in &ids {
            stage.publish(0, id, at.clone()).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (well, others): (Vec<_>, Vec<_>) =
        stage.seen().into_iter().partition(|seen| seen.to.as_str() >= "e10");
    let took =
        |seen: &Request| seen.at + SERVICE - Duration::from_micros(seen.event.as_u64().unwrap());
    let mut took: Vec<_> = well.iter().map(took).collect();
    took.sort_unstable();
    (took, others.len())
}

#[tokio::test(start_paused = true)]
async fn ten_hanging_receivers_of_a_hundred_slow_no_other() {
    let (well, _) = latencies(|_, _| (SERVICE, Some(200))).await;
    let (beside, hung) = latencies(|to, _| match to {
        to if to < "e10" => (Duration::from_secs(30), None),
        _ => (SERVICE, Some(200)),
    })
    .await;
    assert_eq!(well.len(), 90 * 450);
    assert!(beside.len() * 100 >= well.len() * 95, "{} of {}", beside.len(), well.len());
    let p99 = |all: &[Duration]| all[all.len() * 99 / 100];
    let (before, after) = (p99(&well), p99(&beside));
    assert!(after <= before.mul_f64(1.2), "{after:?} for {before:?}");
    // Each lane is full once; when that times out its breaker opens, and one probe hangs.
    assert!((100..=120).contains(&hung), "{hung} requests to those that hang");
}

#[tokio::test(start_paused = true)]
async fn poison_slows_no_other() {
    let (well, _) = latencies(|_, _| (SERVICE, Some(200))).await;
    let (beside, poison) = latencies(|to, _| match to {
        to if to < "e05" => std::panic::panic_any("poison"),
        to if to < "e10" => (Duration::from_secs(86_400), None),
        _ => (SERVICE, Some(200)),
    })
    .await;
    assert_eq!((beside.len(), well.len()), (90 * 450, 90 * 450));
    let p99 = |all: &[Duration]| all[all.len() * 99 / 100];
    let (before, after) = (p99(&well), p99(&beside));
    assert!(after <= before.mul_f64(1.5), "{after:?} for {before:?}");
    assert!(poison >= 10, "{poison}: each was tried");
}
