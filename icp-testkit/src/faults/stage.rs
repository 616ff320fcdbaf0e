//! What every behaviour stands on: engines on a network that fails, publishers, and a receiver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use icp_core::delivery::{DeliveryState, Sweep};
use icp_core::engine::{Engine, EngineConfig, Running};
use icp_core::error::Fault as ErrorFault;
use icp_core::event::{NewEvent, Published};
use icp_core::id::{EventId, OrgId, ResourceId};
use icp_core::resource::{Actor, Draft};
use icp_core::secret::LocalKeys;
use icp_core::store::{PageQuery, Store};
use icp_core::time::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Fault, Fixture, Ledger, Size};
use crate::receiver::{PATIENCE, Receiver};

const KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const ORG: &str = "acme";
pub(super) const PATH: &str = "/hook";
const PUBLISHERS: usize = 4;
/// How long everything may take to end after a fault.
const DRAIN: Duration = PATIENCE;

/// Engines at work behind a proxy.
pub(super) struct Stage {
    pub(super) fixture: Fixture,
    pub(super) receiver: Receiver,
    pub(super) org: OrgId,
    /// An engine on the database itself that is not started: what it publishes has to be claimed
    /// by the others.
    pub(super) outside: Engine,
    nodes: Vec<(Engine, Running)>,
    work: Work,
}

/// What the publishers share.
#[derive(Clone, Debug, Default)]
struct Work {
    next: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<BTreeMap<u64, EventId>>>,
    stop: CancellationToken,
}

impl Stage {
    /// An organization with one integration, and nobody at work.
    pub(super) async fn new(fixture: Fixture) -> Self {
        let receiver = Receiver::start().await;
        let outside = engine(Arc::clone(&fixture.direct));
        let org = OrgId::new(ORG).unwrap();
        create(&outside, &org, "organization", None, json!({})).await;
        let integration = json!({
            "events": ["*"],
            "target": { "kind": "http", "url": receiver.url(PATH) },
            "signing": { "keys": [{ "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD" }] },
            "max_in_flight": 50,
            "breaker": { "enabled": false },
        });
        create(&outside, &org, "integration", Some("hook"), integration).await;
        Self { fixture, receiver, org, outside, nodes: Vec::new(), work: Work::default() }
    }

    /// Starts an engine on a store that goes through the proxy, or on the database itself.
    pub(super) async fn start(&mut self, through: bool) {
        let store = if through {
            (self.fixture.through)().await.unwrap()
        } else {
            Arc::clone(&self.fixture.direct)
        };
        self.start_on(store, SystemClock).await;
    }

    /// Starts an engine on the database itself that goes by `clock`.
    pub(super) async fn start_at(&mut self, clock: impl Clock) {
        self.start_on(Arc::clone(&self.fixture.direct), clock).await;
    }

    async fn start_on(&mut self, store: Arc<dyn Store>, clock: impl Clock) {
        let engine = engine_at(store, clock);
        let running = engine.start().await.unwrap();
        self.nodes.push((engine, running));
    }

    /// Two engines behind the proxy work while `faults` come one after the other, each for the
    /// share of the stretch that it names; then all must be well.
    pub(super) async fn suffer(fixture: Fixture, size: Size, faults: &[(Fault, f64)]) {
        let mut stage = Self::new(fixture).await;
        stage.start(true).await;
        stage.start(true).await;
        stage.live_through(size, faults).await;
    }

    /// The engines that were started work while `faults` come; then all must be well.
    pub(super) async fn live_through(self, size: Size, faults: &[(Fault, f64)]) {
        let publishers = self.publish();
        self.delivers(50).await;
        for (fault, share) in faults {
            self.fixture.proxy.set(fault.clone());
            // The fault is to last.
            tokio::time::sleep(size.stretch.mul_f64(*share)).await;
        }
        self.fixture.proxy.heal();
        self.resume(size.resume).await;
        self.finish(publishers, usize::MAX).await;
    }

    /// Lets publishers work, some on each engine; each repeats what it got no answer for.
    pub(super) fn publish(&self) -> JoinSet<()> {
        let mut publishers = JoinSet::new();
        for at in 0..PUBLISHERS {
            let engine = self.nodes[at % self.nodes.len()].0.clone();
            publishers.spawn(publish(engine, self.work.clone()));
        }
        publishers
    }

    /// Waits until so many more requests have come in.
    pub(super) async fn delivers(&self, more: usize) {
        let enough = self.receiver.seen().count(PATH) + more;
        self.receiver.wait_until(|seen| seen.count(PATH) >= enough).await;
    }

    /// Claims go on: what is published on the outside comes in soon.
    pub(super) async fn resume(&self, within: Duration) {
        let healed = Instant::now();
        let probe = NewEvent::json(ORG, "probe.sent", &json!({})).unwrap();
        let probe = probe.idempotency_key(format!("probe-{}", self.outside.now().as_millis()));
        let id = answered(&self.outside, &probe).await.id.to_string();
        let came = self.receiver.wait_until(|seen| seen.to(PATH).any(|r| r.id() == id));
        came.await;
        let took = healed.elapsed();
        assert!(took <= within, "claims went on only {took:?} after the fault was over");
    }

    /// Waits until everything has ended, and closes the ledger; at most `again` events may have been
    /// sent again.
    pub(super) async fn finish(mut self, mut publishers: JoinSet<()>, again: usize) {
        self.work.stop.cancel();
        let published = async {
            while let Some(ended) = publishers.join_next().await {
                ended.unwrap();
            }
        };
        tokio::time::timeout(DRAIN, published).await.unwrap();
        self.drain().await;
        let acknowledged =
            self.work.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.catch_up(&acknowledged).await;
        self.stop().await;
        let received = self.receiver.requests(PATH);
        let direct = self.fixture.direct.as_ref();
        let ledger = Ledger::read(direct, &self.org, acknowledged, &received).await;
        let findings = ledger.close();
        let held = ledger.held(&findings.lost);
        assert!(findings.is_clean(), "{findings:#?}\nof what is lost the store holds {held:?}");
        let duplicates = findings.duplicates;
        assert!(duplicates <= again, "{duplicates} were sent again, at most {again} may be");
        self.clean(0).await;
    }

    /// Waits until each acknowledged event has its deliveries, and they have ended: where the fixture
    /// gives it time, what a crash took back is made again by sweeps.
    async fn catch_up(&self, acknowledged: &BTreeMap<u64, EventId>) {
        let deadline = Instant::now() + self.fixture.settling;
        let store = self.fixture.direct.as_ref();
        while Instant::now() < deadline {
            let ledger = Ledger::read(store, &self.org, acknowledged.clone(), &[]).await;
            if ledger.close().lost.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.drain().await;
    }

    /// The store is sound and holds at least so many deliveries: at once, or where the fixture gives
    /// it time, after sweeps.
    pub(super) async fn clean(&self, least: usize) {
        let direct = self.fixture.direct.as_ref();
        let deadline = Instant::now() + self.fixture.settling;
        loop {
            let audit = direct.audit().await.unwrap();
            if audit.is_clean() && audit.deliveries >= least as u64 {
                return;
            }
            if Instant::now() >= deadline {
                let lanes = direct.lanes(&self.org, PageQuery::default()).await.unwrap().items;
                panic!("of {least} deliveries or more: {audit:#?} {lanes:#?}");
            }
            direct.sweep(Sweep { now: self.outside.now(), limit: 1_000 }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops the engines.
    pub(super) async fn stop(&mut self) {
        for (_, running) in self.nodes.drain(..) {
            running.shutdown(Duration::from_secs(5)).await;
        }
    }

    pub(super) async fn drain(&self) {
        let deadline = Instant::now() + DRAIN;
        loop {
            let counts = self.fixture.direct.counts().await.unwrap();
            let open: u64 = counts.iter().filter(|(s, _)| !s.is_final()).map(|(_, n)| n).sum();
            if open == 0 {
                let all = counts.iter().all(|(s, n)| *s == DeliveryState::Delivered || *n == 0);
                assert!(all, "some ended otherwise: {counts:?}");
                return;
            }
            assert!(Instant::now() < deadline, "{}", self.left(&counts).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells of what is still open.
    async fn left(&self, counts: &[(DeliveryState, u64)]) -> String {
        let store = self.fixture.direct.as_ref();
        let ledger = Ledger::read(store, &self.org, BTreeMap::new(), &[]).await;
        let open: Vec<_> =
            ledger.deliveries.iter().filter(|d| !d.state.is_final()).take(3).collect();
        let sessions = store.sessions().await.unwrap();
        format!("still open after {DRAIN:?}: {counts:?}; {open:#?}; sessions: {sessions:?}")
    }
}

async fn publish(engine: Engine, work: Work) {
    while !work.stop.is_cancelled() {
        let number = work.next.fetch_add(1, Ordering::AcqRel);
        let published = publish_until_answered(&engine, number).await;
        work.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, published.id);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Publishes a number, and again under the same idempotency key until there is an answer.
pub(super) async fn publish_until_answered(engine: &Engine, number: u64) -> Published {
    answered(engine, &event(number)).await
}

/// Publishes an event, which has an idempotency key, until there is an answer.
async fn answered(engine: &Engine, event: &NewEvent) -> Published {
    loop {
        match engine.publish(event.clone()).await {
            Ok(published) => return published,
            Err(error) => {
                assert_eq!(error.fault(), ErrorFault::Transient, "{}: {error:?}", error.code());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The event of a number under its idempotency key.
pub(super) fn event(number: u64) -> NewEvent {
    plain(number).idempotency_key(format!("order-{number}"))
}

pub(super) fn plain(number: u64) -> NewEvent {
    NewEvent::json(ORG, "order.paid", &json!({ "number": number })).unwrap()
}

pub(super) fn engine(store: Arc<dyn Store>) -> Engine {
    engine_at(store, SystemClock)
}

fn engine_at(store: Arc<dyn Store>, clock: impl Clock) -> Engine {
    let mut config = EngineConfig::default();
    config.beat = Duration::from_millis(200);
    config.missed_beats = 5;
    config.lease = Duration::from_secs(5);
    config.poll = Duration::from_millis(100);
    config.feed = Duration::from_millis(100);
    config.sweep = Duration::from_millis(500);
    config.relay = Duration::from_millis(100);
    // A network that fails again and again takes sessions away again and again; that says nothing
    // about the deliveries they held.
    config.max_rescues = 100;
    let keys = LocalKeys::parse(KEY).unwrap();
    let builder = Engine::builder_on(store).keys(keys).config(config).clock(clock);
    builder.allow_loopback().build().unwrap()
}

async fn create(engine: &Engine, org: &OrgId, kind: &str, id: Option<&str>, spec: Value) {
    let id = id.map(|id| ResourceId::new(id).unwrap());
    let draft = Draft { id, spec, ..Draft::default() };
    engine.resources().create(org, kind, draft, &Actor::engine()).await.unwrap();
}
