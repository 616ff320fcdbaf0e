//! An organization on a store in memory, with a clock that is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::once;
use crate::delivery::DeliveryStore;
use crate::delivery::{Claim, Delivery, Lease, Next, Settle, Settlement};
use crate::engine::core::Core;
use crate::engine::{Engine, EngineConfig};
use crate::event::NewEvent;
use crate::id::{EventId, OrgId, ResourceId, SessionId};
use crate::replay::{
    ReplayClaim, ReplayDeliveries, ReplayJob, ReplayPreview, ReplayRequest, ReplayStore, work,
};
use crate::resource::{Actor, Draft, Expect};
use crate::store::{MemoryStore, PageQuery};
use crate::time::{Clock, Timestamp};

pub(super) const START: Timestamp = Timestamp::from_millis(1_795_232_700_000);

#[derive(Clone, Debug)]
pub(super) struct Told(Arc<Mutex<Timestamp>>);

impl Told {
    pub(super) fn pass(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = *now + time;
    }
}

impl Clock for Told {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.now().since(START)
    }
}

pub(super) mod states {
    use crate::delivery::{EndReason, Next};

    pub(in super::super) fn delivered() -> Next {
        Next::Delivered
    }

    pub(in super::super) fn dead() -> Next {
        Next::Dead { reason: EndReason::new("exhausted", "for the test") }
    }

    pub(in super::super) fn skipped() -> Next {
        Next::Skipped { reason: EndReason::new("dropped", "for the test") }
    }
}

pub(super) fn res(id: &str) -> ResourceId {
    ResourceId::new(id).unwrap()
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) engine: Engine,
    pub(super) clock: Told,
    pub(super) org: OrgId,
    store: MemoryStore,
    session: SessionId,
}

impl Stage {
    /// An organization whose integrations take every event.
    pub(super) async fn with(integrations: &[&str]) -> Self {
        let (store, org) = (MemoryStore::new(), OrgId::new("acme").unwrap());
        let clock = Told(Arc::new(Mutex::new(START)));
        let session = SessionId::from_bytes([9; 16]);
        store.open_session(session, START).await.unwrap();
        let engine = engine(&store, &clock);
        let stage = Self { engine, clock, org, store, session };
        stage.create("organization", None, json!({})).await;
        for id in integrations {
            stage.integrate(id, json!({})).await;
        }
        stage
    }

    /// Another engine on the same store.
    pub(super) fn another(&self) -> Engine {
        engine(&self.store, &self.clock)
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        self.engine.core()
    }

    pub(super) fn all(&self) -> ReplayRequest {
        ReplayRequest::since(START)
    }

    async fn create(&self, kind: &str, id: Option<&str>, spec: Value) {
        let draft = Draft { id: id.map(res), spec, ..Draft::default() };
        self.engine.resources().create(&self.org, kind, draft, &Actor::host()).await.unwrap();
    }

    pub(super) async fn integrate(&self, id: &str, more: Value) {
        let target = json!({ "kind": "http", "url": "https://example.com/hook" });
        let mut spec = json!({ "events": ["**"], "target": target, "max_in_flight": 1_000 });
        for (name, value) in more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        self.create("integration", Some(id), spec).await;
    }

    async fn merge(&self, kind: &str, id: &str, spec: Value) {
        let (id, patch, actor) = (res(id), json!({ "spec": spec }), Actor::host());
        let resources = self.engine.resources();
        resources.merge_patch(&self.org, kind, &id, &patch, Expect::Present, &actor).await.unwrap();
    }

    pub(super) async fn patch(&self, id: &str, spec: Value) {
        self.merge("integration", id, spec).await;
    }

    pub(super) async fn suspend(&self, suspended: bool) {
        let status = if suspended { "suspended" } else { "active" };
        self.merge("organization", "acme", json!({ "status": status })).await;
    }

    async fn remove(&self, kind: &str, id: &str) {
        let (resources, actor) = (self.engine.resources(), Actor::host());
        resources.delete(&self.org, kind, &res(id), Expect::Present, &actor).await.unwrap();
    }

    pub(super) async fn delete(&self, id: &str) {
        self.remove("integration", id).await;
    }

    pub(super) async fn delete_organization(&self) {
        self.remove("organization", "acme").await;
    }

    /// Publishes events, a millisecond apart.
    pub(super) async fn publish(&self, event_type: &str, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for n in 0..count {
            let event = NewEvent::json("acme", event_type, &json!(n)).unwrap();
            ids.push(self.engine.publish(event).await.unwrap().id);
            self.clock.pass(Duration::from_millis(1));
        }
        ids
    }

    /// Ends every delivery that is due; `next` is asked with the place of each.
    pub(super) async fn end_all(&self, next: impl Fn(usize) -> Next) {
        let place = std::cell::Cell::new(0);
        self.settle(|_| Some(next(place.replace(place.get() + 1)))).await;
    }

    /// Ends the deliveries that are due as `next` says; the others stay under way.
    pub(super) async fn settle(&self, next: impl Fn(&Delivery) -> Option<Next>) {
        let now = self.clock.now() + Duration::from_secs(3_600);
        let (session, lease_until) = (self.session, now + Duration::from_secs(60));
        let claim =
            Claim { session, now, lease_until, limit: 1_000, per_lane: 1_000, without: [].into() };
        let mut claimed = self.store.claim(claim).await.unwrap().deliveries;
        claimed.sort_by_key(|claimed| claimed.delivery.id);
        let settlements = claimed.into_iter().filter_map(|claimed| {
            let row = claimed.delivery;
            Some(Settlement {
                lease: Lease { delivery: row.id, epoch: row.epoch },
                lane: row.lane,
                attempt: None,
                next: next(&row)?,
                block_lane_until: None,
                notice: None,
            })
        });
        let settle = Settle { settlements: settlements.collect(), now: self.clock.now() };
        self.store.settle(settle).await.unwrap();
    }

    pub(super) async fn preview(&self, request: ReplayRequest) -> ReplayPreview {
        self.clock.pass(Duration::from_millis(1));
        self.engine.preview_replay(&self.org, request).await.unwrap()
    }

    pub(super) async fn start(&self, request: ReplayRequest) -> ReplayJob {
        self.clock.pass(Duration::from_millis(1));
        self.engine.start_replay(&self.org, request, Actor::host()).await.unwrap()
    }

    /// Works on what there is for the next ten minutes.
    pub(super) async fn run(&self) {
        for _ in 0..600 {
            while once(self.core()).await.unwrap().is_zero() {}
            self.clock.pass(Duration::from_secs(1));
        }
    }

    /// Starts a replay and answers it once it is through.
    pub(super) async fn replay(&self, request: ReplayRequest) -> ReplayJob {
        let job = self.start(request).await;
        self.run().await;
        let done = self.job(&job).await;
        assert!(done.state.is_final(), "{done:?}");
        done
    }

    pub(super) async fn job(&self, job: &ReplayJob) -> ReplayJob {
        self.store.replay_job(&self.org, job.id).await.unwrap().unwrap()
    }

    pub(super) async fn made(&self, job: &ReplayJob) -> Vec<Delivery> {
        let page = PageQuery { after: None, limit: 1_000 };
        let query = ReplayDeliveries { job: job.id, page };
        self.engine.replay_deliveries(&self.org, &query).await.unwrap().items
    }

    /// Lets a node take the job, and do nothing with it yet.
    pub(super) async fn claim(&self, core: &Core) -> Option<ReplayJob> {
        let (session, now) = (core.session.id(), self.clock.now());
        let claim = ReplayClaim { session, now, lease_until: now + work::lease(core) };
        self.store.claim_replay(claim).await.unwrap().job
    }

    pub(super) async fn assert_clean(&self) {
        let audit = self.engine.verify().await.unwrap();
        assert!(audit.is_clean(), "{audit:?}");
    }
}

fn engine(store: &MemoryStore, clock: &Told) -> Engine {
    let config = EngineConfig::default();
    Engine::builder(store.clone()).clock(clock.clone()).config(config).build().unwrap()
}
