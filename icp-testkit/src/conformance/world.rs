use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icp_core::delivery::health::LaneRules;
use icp_core::delivery::{
    Attempt, AttemptOutcome, AttemptTimings, Cancel, Claim, ClaimedDelivery, Delivery, EndReason,
    Lane, LaneId, LaneMode, Lease, Next, Settle, Settled, Settlement,
};
use icp_core::error::Result;
use icp_core::event::{
    Direct, Event, Ingest, IngestItem, Ingested, LaneSeed, NewDelivery, TraceContext,
};
use icp_core::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId, SessionId};
use icp_core::resource::{Actor, Change, Effect, Expect, Record, Revision, Write};
use icp_core::store::{PageQuery, Store};
use icp_core::time::Timestamp;
use icp_core::transform::Transcript;

use super::Fixture;

const START: i64 = 1_795_232_700_000;

/// A fresh store with a clock that is told and ids that count up.
pub(super) struct World {
    fixture: Fixture,
    serial: AtomicU64,
}

impl Deref for World {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.fixture.store
    }
}

/// The moment `secs` after the start of every behaviour.
pub(super) fn at(secs: u64) -> Timestamp {
    Timestamp::from_millis(START) + Duration::from_secs(secs)
}

pub(super) fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

pub(super) fn res(name: &str) -> ResourceId {
    ResourceId::new(name).unwrap()
}

pub(super) fn why(code: &str) -> EndReason {
    EndReason::new(code, "for the test")
}

pub(super) fn call_off(org_name: &str, delivery: DeliveryId, secs: u64) -> Cancel {
    let (actor, now) = (Actor::host(), at(secs));
    Cancel { org: org(org_name), delivery, reason: why("host"), actor, now }
}

pub(super) fn retry(secs: u64) -> Next {
    Next::Retry { due_at: at(secs), reason: why("status_500") }
}

pub(super) fn refund(secs: u64, throttled: bool) -> Next {
    Next::Refund { due_at: at(secs), throttled }
}

pub(super) fn lease_of(delivery: &Delivery) -> Lease {
    Lease { delivery: delivery.id, epoch: delivery.epoch }
}

pub(super) fn ids(claimed: &[ClaimedDelivery]) -> Vec<DeliveryId> {
    claimed.iter().map(|claimed| claimed.delivery.id).collect()
}

/// Far more than the slowest store needs; what has not ended then never will.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the futures on tasks of their own, and gives what they give.
pub(super) async fn race<T, F>(futures: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    futures.into_iter().for_each(|future| {
        tasks.spawn(future);
    });
    let ended = tokio::time::timeout(PATIENCE, tasks.join_all()).await;
    ended.unwrap_or_else(|_| panic!("not over after {PATIENCE:?}"))
}

/// Lets the others go on. Who found nothing waits a moment, or asking again would take the time of
/// those who are to make something.
pub(super) async fn breathe(found: bool) {
    if found {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl World {
    pub(super) fn new(fixture: Fixture) -> Self {
        Self::numbered(fixture, 0)
    }

    /// As one of many processes, whose ids differ.
    pub(super) fn numbered(fixture: Fixture, process: usize) -> Self {
        let first = (process as u64) << 32 | 1;
        Self { fixture, serial: AtomicU64::new(first) }
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.fixture.store)
    }

    /// All lanes of an organization.
    pub(super) async fn lanes(&self, org: &OrgId) -> Result<Vec<Lane>> {
        let (mut lanes, mut after) = (Vec::new(), None);
        loop {
            let page = self.fixture.store.lanes(org, PageQuery { after, limit: 1_000 }).await?;
            after = page.items.last().map(|lane| lane.id);
            lanes.extend(page.items);
            if !page.more {
                return Ok(lanes);
            }
        }
    }

    fn bits(&self) -> [u8; 16] {
        let serial = u128::from(self.serial.fetch_add(1, Ordering::Relaxed));
        let millis = u128::from(START.unsigned_abs());
        (millis << 80 | 0x7 << 76 | 0b10 << 62 | serial).to_be_bytes()
    }

    pub(super) fn delivery_id(&self) -> DeliveryId {
        DeliveryId::from_bytes(self.bits())
    }

    pub(super) fn event_id(&self) -> EventId {
        EventId::from_bytes(self.bits())
    }

    pub(super) fn replay_id(&self) -> ReplayId {
        ReplayId::from_bytes(self.bits())
    }

    pub(super) fn session_id(&self) -> SessionId {
        SessionId::from_bytes(self.bits())
    }

    pub(super) fn new_event(&self, org_name: &str) -> Event {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        Event::restore(
            self.event_id(),
            org(org_name),
            None,
            "order.paid".parse().unwrap(),
            "application/json".into(),
            br#"{"order":17}"#.as_slice().into(),
            None,
            None,
            at(0),
            None,
            None,
            Some(TraceContext::new(parent, Some("a=1")).unwrap()),
            Revision(3),
        )
    }

    pub(super) fn keyed(&self, org: &str, key: &str) -> Event {
        let mut event = self.new_event(org);
        event.idempotency_key = Some(key.into());
        event
    }

    /// A delivery to `integration`, due at the start, on a parallel lane with much room.
    pub(super) fn to(&self, org_name: &str, integration: &str) -> NewDelivery {
        let integration = res(integration);
        let lane = LaneSeed {
            id: LaneId::of(&org(org_name), &integration, None),
            order_key: None,
            mode: LaneMode::Parallel,
            max_in_flight: 10_000,
            weight: 1,
            rules: LaneRules::default(),
        };
        NewDelivery { id: self.delivery_id(), integration, lane, due_at: at(0), at_once: true }
    }

    /// A delivery to `integration` on the fifo lane of `key`.
    pub(super) fn in_order(&self, org_name: &str, integration: &str, key: &str) -> NewDelivery {
        let mut new = self.to(org_name, integration);
        new.lane.id = LaneId::of(&org(org_name), &new.integration, Some(key));
        new.lane.order_key = Some(key.into());
        new.lane.mode = LaneMode::Fifo;
        new.lane.max_in_flight = 1;
        new
    }

    pub(super) fn item(&self, event: &Event, deliveries: Vec<NewDelivery>) -> IngestItem {
        IngestItem {
            event: Arc::new(event.clone()),
            body_hash: [7; 32],
            idempotency_window: Duration::from_secs(3600),
            deliveries,
            outbox: None,
        }
    }

    pub(super) async fn ingest_items(&self, items: Vec<IngestItem>, secs: u64) -> Vec<Ingested> {
        self.ingest(Ingest { items: items.into(), direct: None, now: at(secs) }).await.unwrap()
    }

    /// Takes in one event with one delivery, and gives the delivery's id.
    pub(super) async fn put(&self, org: &str, new: NewDelivery) -> DeliveryId {
        let id = new.id;
        let item = self.item(&self.new_event(org), vec![new]);
        let done = self.ingest_items(vec![item], 0).await;
        assert_eq!(done, [Ingested::Accepted { leased: vec![] }]);
        id
    }

    /// Takes in `count` events, each with a delivery to `integration`.
    pub(super) async fn fill(&self, org: &str, integration: &str, count: usize) -> Vec<DeliveryId> {
        let news: Vec<_> = (0..count).map(|_| self.to(org, integration)).collect();
        let ids = news.iter().map(|new| new.id).collect();
        let items =
            news.into_iter().map(|new| self.item(&self.new_event(org), vec![new])).collect();
        self.ingest_items(items, 0).await;
        ids
    }

    /// Takes in one event with these deliveries, as many of them handed to `session` as may be.
    pub(super) async fn hand_over(
        &self,
        session: SessionId,
        budget: usize,
        deliveries: Vec<NewDelivery>,
    ) -> Vec<DeliveryId> {
        let items = [self.item(&self.new_event("acme"), deliveries)].into();
        let direct = Some(Direct { session, budget, lease_until: at(60) });
        let done = self.ingest(Ingest { items, direct, now: at(0) }).await.unwrap();
        let [Ingested::Accepted { leased }] = &done[..] else { panic!("{done:?}") };
        leased.clone()
    }

    pub(super) async fn session(&self) -> SessionId {
        let session = self.session_id();
        self.open_session(session, at(0)).await.unwrap();
        session
    }

    pub(super) async fn put_outbox(&self, event: &Event) {
        (self.fixture.outbox)(event.clone()).await;
    }

    pub(super) async fn take(&self, by: SessionId, limit: usize) -> Vec<ClaimedDelivery> {
        self.take_at(by, limit, 0).await
    }

    pub(super) async fn take_at(
        &self,
        by: SessionId,
        limit: usize,
        secs: u64,
    ) -> Vec<ClaimedDelivery> {
        self.claim(claim(by, limit, secs)).await.unwrap().deliveries
    }

    pub(super) async fn take_one(&self, by: SessionId) -> Delivery {
        let mut taken = self.take(by, 1).await;
        assert_eq!(taken.len(), 1, "a due delivery is claimed");
        taken.remove(0).delivery
    }

    pub(super) async fn finish(&self, delivery: &Delivery, next: Next, secs: u64) -> Settled {
        let settlement = settlement(delivery, next);
        let settle = Settle { settlements: [settlement].into(), now: at(secs) };
        self.settle(settle).await.unwrap()[0]
    }

    pub(super) async fn read(&self, delivery: &Delivery) -> Delivery {
        self.delivery(&delivery.org, delivery.id).await.unwrap().unwrap()
    }

    pub(super) async fn effect(&self, org: &str, effect: Effect, secs: u64) {
        let mut change = change(org, "any", Expect::Any);
        change.effects = vec![effect];
        self.write(write(vec![change], secs)).await.unwrap();
    }

    pub(super) async fn pause(&self, paused: bool, max_in_flight: u32, secs: u64) {
        let effect = Effect::Lanes { integration: res("hook"), max_in_flight, paused };
        self.effect("acme", effect, secs).await;
    }

    pub(super) async fn assert_clean(&self) {
        let audit = self.audit().await.unwrap();
        assert!(audit.is_clean(), "{audit:?}");
    }
}

pub(super) fn claim(session: SessionId, limit: usize, secs: u64) -> Claim {
    Claim {
        session,
        now: at(secs),
        lease_until: at(secs + 60),
        limit,
        per_lane: limit,
        without: [].into(),
    }
}

pub(super) fn settlement(delivery: &Delivery, next: Next) -> Settlement {
    Settlement {
        lease: lease_of(delivery),
        lane: delivery.lane,
        attempt: Some(attempt(delivery)),
        next,
        block_lane_until: None,
        notice: None,
    }
}

pub(super) fn attempt(delivery: &Delivery) -> Attempt {
    Attempt {
        delivery: delivery.id,
        epoch: delivery.epoch,
        number: delivery.tries,
        started_at: at(0),
        outcome: AttemptOutcome::Delivered,
        status: Some(200),
        timings: AttemptTimings { dns: Some(1), connect: None, first_byte: Some(3), total: 4 },
        exchange: None,
        message: None,
        transcript: Some(Arc::new(Transcript {
            pointer: Some("/transform/0".to_owned()),
            warnings: vec!["rounded, ü".to_owned()],
            ..Transcript::default()
        })),
    }
}

pub(super) fn change(org_name: &str, id: &str, expect: Expect) -> Change {
    let record = Record {
        org: org(org_name),
        kind: "integration".into(),
        id: res(id),
        name: Some("Hook".into()),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        spec: serde_json::json!({ "url": "https://example.org/ü" }),
        status: serde_json::Value::Null,
        revision: Revision::ZERO,
        version: 0,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        deleted: false,
    };
    Change { record, expect, action: "update".into(), effects: vec![] }
}

pub(super) fn deletion(org: &str, id: &str, expect: Expect) -> Change {
    let mut change = change(org, id, expect);
    change.record.deleted = true;
    change.action = "delete".into();
    change
}

pub(super) fn write(changes: Vec<Change>, secs: u64) -> Write {
    Write { changes, actor: Actor::host(), now: at(secs) }
}
