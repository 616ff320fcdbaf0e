//! Random histories on the in-memory store break no invariant.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use icp_core::delivery::health::{BreakerSpec, LaneRules, RateLimit};
use icp_core::delivery::{
    Attempt, AttemptOutcome, AttemptTimings, Claim, Delivery, DeliveryStore, EndReason, LaneId,
    LaneMode, Lease, Next, Rescue, RescueOf, Settle, Settled, Settlement, Sweep,
};
use icp_core::event::{Direct, Event, EventStore, Ingest, IngestItem, LaneSeed, NewDelivery};
use icp_core::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use icp_core::resource::Revision;
use icp_core::store::MemoryStore;
use icp_core::time::Timestamp;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Ingest { org: u8, lane: u8, delay: u8, direct: bool },
    Claim { session: u8, limit: usize },
    Settle { pick: usize, next: u8 },
    SettleAgain { pick: usize },
    Rescue { session: u8 },
    Pass { secs: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3u8, 0..4u8, 0..9u8, any::<bool>())
            .prop_map(|(org, lane, delay, direct)| Op::Ingest { org, lane, delay, direct }),
        3 => (0..3u8, 0..6usize).prop_map(|(session, limit)| Op::Claim { session, limit }),
        4 => (any::<usize>(), 0..6u8).prop_map(|(pick, next)| Op::Settle { pick, next }),
        1 => any::<usize>().prop_map(|pick| Op::SettleAgain { pick }),
        1 => (0..3u8).prop_map(|session| Op::Rescue { session }),
        2 => (0..20u8).prop_map(|secs| Op::Pass { secs }),
    ]
}

struct Model {
    store: MemoryStore,
    now: Timestamp,
    serial: u64,
    sessions: [SessionId; 3],
    held: BTreeMap<DeliveryId, (u32, SessionId)>,
    stale: Vec<Lease>,
    made: BTreeSet<DeliveryId>,
}

impl Model {
    fn bits(&mut self) -> [u8; 16] {
        self.serial += 1;
        u128::from(self.serial).to_be_bytes()
    }

    async fn start() -> Self {
        let sessions = [201, 202, 203].map(|n| SessionId::from_bytes([n; 16]));
        let store = MemoryStore::new();
        for session in sessions {
            store.open_session(session, Timestamp::EPOCH).await.unwrap();
        }
        let now = Timestamp::from_millis(1_000_000);
        let (held, stale, made) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { store, now, serial: 0, sessions, held, stale, made }
    }

    fn item(&mut self, org: u8, lane: u8, delay: u8) -> IngestItem {
        let org = OrgId::new(format!("org-{org}")).unwrap();
        let integration = ResourceId::new(format!("hook-{lane}")).unwrap();
        let key: Option<Arc<str>> = (lane % 2 == 1).then(|| "k".into());
        let mode = if key.is_some() { LaneMode::Fifo } else { LaneMode::Parallel };
        let id = LaneId::of(&org, &integration, key.as_deref());
        let room = if key.is_some() { 1 } else { 2 };
        let rate_limit =
            (lane >= 2).then_some(RateLimit { requests: 3, per_seconds: 10, burst: 2 });
        let breaker = BreakerSpec { failures: 2, open_seconds: 5, ..BreakerSpec::default() };
        let rules = LaneRules { breaker, rate_limit, ..LaneRules::default() };
        let lane = LaneSeed { id, order_key: key, mode, max_in_flight: room, weight: 3, rules };
        let due_at = self.now + Duration::from_secs(delay.into());
        let new = NewDelivery {
            id: DeliveryId::from_bytes(self.bits()),
            integration,
            lane,
            due_at,
            at_once: true,
        };
        let event = Event::restore(
            EventId::from_bytes(self.bits()),
            org,
            None,
            "a.b".parse().unwrap(),
            "text/plain".into(),
            b"x".as_slice().into(),
            None,
            None,
            self.now,
            None,
            Some(self.now + Duration::from_secs(60)),
            None,
            Revision::ZERO,
        );
        IngestItem {
            event: Arc::new(event),
            body_hash: [0; 32],
            idempotency_window: Duration::ZERO,
            deliveries: vec![new],
            outbox: None,
        }
    }

    fn lease(&mut self, row: &Delivery) {
        let owner = row.owner.unwrap();
        let before = self.held.insert(row.id, (row.epoch, owner));
        assert!(before.is_none(), "{} was leased twice", row.id);
    }

    async fn ingest(&mut self, item: IngestItem, direct: bool) {
        let org = item.event.org.clone();
        let id = item.deliveries[0].id;
        self.made.insert(id);
        let lease_until = self.now + Duration::from_secs(30);
        let direct = direct.then_some(Direct { session: self.sessions[0], budget: 1, lease_until });
        let batch = Ingest { items: [item].into(), direct, now: self.now };
        self.store.ingest(batch).await.unwrap();
        let row = self.store.delivery(&org, id).await.unwrap().unwrap();
        if row.owner.is_some() {
            self.lease(&row);
        }
    }

    async fn claim(&mut self, session: SessionId, limit: usize) -> usize {
        let lease_until = self.now + Duration::from_secs(30);
        let claim = Claim {
            session,
            now: self.now,
            lease_until,
            limit,
            per_lane: limit,
            without: [].into(),
        };
        let taken = self.store.claim(claim).await.unwrap().deliveries;
        taken.iter().for_each(|claimed| self.lease(&claimed.delivery));
        taken.len()
    }

    async fn settle(&mut self, lease: Lease, next: u8) -> Settled {
        let attempt = self.attempt(lease, next);
        let reason = EndReason::new("test", "for the test");
        let due_at = self.now + Duration::from_secs(5);
        let block = (next == 3).then_some(due_at + Duration::from_secs(5));
        let next = match next {
            0 | 1 => Next::Delivered,
            2 => Next::Retry { due_at, reason },
            3 => Next::Refund { due_at, throttled: true },
            4 => Next::Retry { due_at: self.now, reason },
            _ => Next::Dead { reason },
        };
        let settlement = Settlement {
            lease,
            lane: LaneId::from_bytes([0; 16]),
            attempt,
            next,
            block_lane_until: block,
            notice: None,
        };
        let settle = Settle { settlements: [settlement].into(), now: self.now };
        self.store.settle(settle).await.unwrap()[0]
    }

    /// What was tried, such that breakers open and lanes are narrowed.
    fn attempt(&self, lease: Lease, next: u8) -> Option<Attempt> {
        let (outcome, status) = match next {
            0 | 1 => (AttemptOutcome::Delivered, 200),
            2 => (AttemptOutcome::Failed("status_500".into()), 500),
            3 => (AttemptOutcome::Failed("status_429".into()), 429),
            4 => (AttemptOutcome::Failed("status_404".into()), 404),
            _ => return None,
        };
        Some(Attempt {
            delivery: lease.delivery,
            epoch: lease.epoch,
            number: 1,
            started_at: self.now,
            outcome,
            status: Some(status),
            timings: AttemptTimings::default(),
            exchange: None,
            message: None,
            transcript: None,
        })
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Ingest { org, lane, delay, direct } => {
                let item = self.item(org, lane, delay);
                self.ingest(item, direct).await;
            }
            Op::Claim { session, limit } => {
                self.claim(self.sessions[usize::from(session)], limit).await;
            }
            Op::Settle { pick, next } if !self.held.is_empty() => {
                let (id, (epoch, _)) =
                    self.held.iter().nth(pick % self.held.len()).map(|(k, v)| (*k, *v)).unwrap();
                self.held.remove(&id);
                let lease = Lease { delivery: id, epoch };
                assert_eq!(self.settle(lease, next).await, Settled::Recorded);
                self.stale.push(lease);
            }
            Op::SettleAgain { pick } if !self.stale.is_empty() => {
                let lease = self.stale[pick % self.stale.len()];
                assert_eq!(self.settle(lease, 0).await, Settled::Stale);
            }
            Op::Settle { .. } | Op::SettleAgain { .. } => {}
            Op::Rescue { session } => self.rescue(self.sessions[usize::from(session)]).await,
            Op::Pass { secs } => {
                self.now = self.now + Duration::from_secs(secs.into());
                let swept = self.store.sweep(Sweep { now: self.now, limit: 100 }).await.unwrap();
                assert_eq!(swept.woken, 0);
            }
        }
        let audit = self.store.audit().await.unwrap();
        assert!(audit.is_clean(), "{audit:?}");
        assert_eq!(audit.deliveries, self.made.len() as u64);
    }

    async fn rescue(&mut self, session: SessionId) {
        let of = RescueOf::Session(session);
        let rescue = Rescue { of, now: self.now, limit: 1000, max_rescues: 3 };
        for rescued in self.store.rescue(rescue).await.unwrap() {
            let (epoch, owner) = self.held.remove(&rescued.delivery).unwrap();
            assert_eq!(owner, session);
            self.stale.push(Lease { delivery: rescued.delivery, epoch });
        }
        assert!(self.held.values().all(|(_, owner)| *owner != session));
        self.store.open_session(session, self.now).await.unwrap();
    }

    /// Delivers all that is left: what is never claimed was lost.
    async fn drain(&mut self) {
        for _ in 0..1000 {
            let held: Vec<_> = self.held.iter().map(|(id, (epoch, _))| (*id, *epoch)).collect();
            for (delivery, epoch) in held {
                self.held.remove(&delivery);
                let done = self.settle(Lease { delivery, epoch }, 0).await;
                assert_eq!(done, Settled::Recorded);
            }
            // Long enough for every breaker to let a probe go.
            self.now = self.now + Duration::from_secs(3_600);
            if self.claim(self.sessions[0], 50).await == 0 {
                break;
            }
        }
        let open = self.store.counts().await.unwrap();
        assert!(open.iter().all(|(state, _)| state.is_final()), "{open:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_an_invariant(ops in prop::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::start().await;
            for op in ops {
                model.step(op).await;
            }
            model.now = model.now + Duration::from_secs(30);
            model.drain().await;
        });
    }
}
