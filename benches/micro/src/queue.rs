//! Claims and settlements, as an engine makes them, from 16 lanes in batches.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use icp::delivery::health::LaneRules;
use icp::delivery::{
    Attempt, AttemptOutcome, AttemptTimings, Claim, LaneId, LaneMode, Lease, Next, Settle, Settled,
    Settlement,
};
use icp::event::{Direct, Event, Ingest, IngestItem, Ingested, JSON, LaneSeed, NewDelivery};
use icp::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use icp::resource::Revision;
use icp::store::{MemoryStore, Store};
use icp::store_sql::sqlite::{SqliteStore, Synchronous};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{NOW, Round, transform};

/// How many deliveries one round does.
pub const BATCH: u32 = 50;

/// How many lanes there are, each of another organization.
const LANES: u64 = 16;
/// A batch takes from four lanes at least, as in an engine.
const PER_LANE: u32 = BATCH / 4;
/// So many more are due than are claimed, so that no lane is empty in the last round.
const SPARE: u64 = LANES * PER_LANE as u64;
/// How many deliveries are taken in at once where nobody measures it.
const AT_ONCE: u64 = 1_000;
/// The first number of deliveries that come after stored ones.
const FRESH: u64 = 10_000_000;
const SESSION: SessionId = SessionId::from_bytes([7; 16]);
const LEASE: Duration = Duration::from_secs(60);

/// A kind of store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// In maps.
    Memory,
    /// In a file, with `synchronous=NORMAL`.
    Sqlite,
}

/// Claims a batch in each round.
#[must_use]
pub fn claims(kind: Kind, rounds: u32) -> Round {
    let queue = Queue::of(kind);
    queue.add(0..due(rounds), BODY);
    Box::new(move || {
        queue.claim();
    })
}

/// Settles a batch in each round.
#[must_use]
pub fn settles(kind: Kind, rounds: u32) -> Round {
    let queue = Queue::of(kind);
    queue.add(0..due(rounds), BODY);
    let mut claimed: Vec<_> = (0..rounds).map(|_| queue.claim()).collect();
    Box::new(move || queue.settle(claimed.pop().unwrap()))
}

/// Claims and settles a batch in each round.
#[must_use]
pub fn delivers(kind: Kind, rounds: u32) -> Round {
    let queue = Queue::of(kind);
    queue.add(0..due(rounds), BODY);
    Box::new(move || queue.settle(queue.claim()))
}

/// The same on the SQLite file at `path`, beside what [`store`] put there; once for each file.
#[must_use]
pub fn delivers_on(path: &Path, rounds: u32) -> Round {
    let queue = Queue::on(path, None);
    queue.add(FRESH..FRESH + due(rounds), BODY);
    Box::new(move || queue.settle(queue.claim()))
}

/// Stores so many events, each with so many deliveries that have ended and so many bytes, in the
/// SQLite file at `path`.
pub fn store(path: &Path, events: u64, fan_out: u64, body: usize) {
    let runtime = transform::runtime();
    let sqlite = open(path, &runtime);
    let queue = Queue::new(runtime, Arc::new(sqlite.clone()), None);
    let at_once = AT_ONCE / fan_out;
    for first in (0..events).step_by(usize::try_from(at_once).unwrap()) {
        queue.pass(first..events.min(first + at_once), fan_out, body);
    }
    // Brings what is beside the file into it.
    queue.runtime.block_on(sqlite.close()).unwrap();
}

/// The bytes that an event takes beyond its body, and those of a delivery with its one attempt,
/// lanes and indexes included, in a file of SQLite.
#[must_use]
pub fn weights() -> (u64, u64) {
    const EVENTS: u64 = 2_000;
    let size = |fan_out: u64| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("icp.db");
        store(&path, EVENTS, fan_out, BODY);
        std::fs::metadata(&path).unwrap().len()
    };
    let (one, six) = (size(1), size(6));
    let delivery = (six - one) / (5 * EVENTS);
    ((one / EVENTS).saturating_sub(delivery + BODY as u64), delivery)
}

/// The bytes of an event's body where nothing else is said.
const BODY: usize = 1_024;

fn due(rounds: u32) -> u64 {
    u64::from(rounds * BATCH) + SPARE
}

/// Deliveries in a store, claimed by one session.
struct Queue {
    runtime: Runtime,
    store: Arc<dyn Store>,
    _folder: Option<TempDir>,
}

impl Queue {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Memory => Self::new(transform::runtime(), Arc::new(MemoryStore::new()), None),
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                Self::on(&folder.path().join("icp.db"), Some(folder))
            }
        }
    }

    fn on(path: &Path, folder: Option<TempDir>) -> Self {
        let runtime = transform::runtime();
        let store = open(path, &runtime);
        Self::new(runtime, Arc::new(store), folder)
    }

    fn new(runtime: Runtime, store: Arc<dyn Store>, folder: Option<TempDir>) -> Self {
        runtime.block_on(store.open_session(SESSION, NOW)).unwrap();
        Self { runtime, store, _folder: folder }
    }

    /// Takes deliveries in that are due.
    fn add(&self, numbers: Range<u64>, body: usize) {
        for first in numbers.clone().step_by(usize::try_from(AT_ONCE).unwrap()) {
            let items =
                (first..numbers.end.min(first + AT_ONCE)).map(|n| item(n, 1, body)).collect();
            let batch = Ingest { items, direct: None, now: NOW };
            self.runtime.block_on(self.store.ingest(batch)).unwrap();
        }
    }

    /// Takes deliveries in and has them end.
    fn pass(&self, numbers: Range<u64>, fan_out: u64, body: usize) {
        let items: Arc<[_]> = numbers.map(|n| item(n, fan_out, body)).collect();
        let lease_until = NOW + LEASE;
        let direct = Direct { session: SESSION, budget: usize::MAX, lease_until };
        let batch = Ingest { items: Arc::clone(&items), direct: Some(direct), now: NOW };
        let answers = self.runtime.block_on(self.store.ingest(batch)).unwrap();
        let settlements = answers.iter().zip(&*items).flat_map(|(answer, item)| {
            let Ingested::Accepted { leased } = answer else { panic!("{answer:?}") };
            assert_eq!(leased.len(), item.deliveries.len());
            let lanes = item.deliveries.iter().map(|delivery| delivery.lane.id);
            leased
                .iter()
                .zip(lanes)
                .map(|(id, lane)| delivered(Lease { delivery: *id, epoch: 1 }, lane))
        });
        self.settle(settlements.collect());
    }

    fn claim(&self) -> Vec<Settlement> {
        let claim = Claim {
            session: SESSION,
            now: NOW,
            lease_until: NOW + LEASE,
            limit: BATCH as usize,
            per_lane: PER_LANE as usize,
            without: [].into(),
        };
        let claimed = self.runtime.block_on(self.store.claim(claim)).unwrap().deliveries;
        assert_eq!(claimed.len(), BATCH as usize);
        let settlements = claimed.into_iter().map(|claimed| {
            let delivery = claimed.delivery;
            let lease = Lease { delivery: delivery.id, epoch: delivery.epoch };
            delivered(lease, delivery.lane)
        });
        settlements.collect()
    }

    fn settle(&self, settlements: Vec<Settlement>) {
        let settle = Settle { settlements: settlements.into(), now: NOW };
        let settled = self.runtime.block_on(self.store.settle(settle)).unwrap();
        assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
    }
}

fn open(path: &Path, runtime: &Runtime) -> SqliteStore {
    let store = SqliteStore::builder(path).synchronous(Synchronous::Normal);
    runtime.block_on(store.open()).unwrap()
}

fn item(n: u64, fan_out: u64, body: usize) -> IngestItem {
    let org = OrgId::new(format!("org-{}", n % LANES)).unwrap();
    let event = Event::restore(
        EventId::from_bytes(id(n)),
        org.clone(),
        None,
        "order.paid".parse().unwrap(),
        JSON.into(),
        vec![b'1'; body].into(),
        None,
        None,
        NOW,
        None,
        None,
        None,
        Revision::ZERO,
    );
    IngestItem {
        event: Arc::new(event),
        body_hash: [7; 32],
        idempotency_window: Duration::ZERO,
        deliveries: (0..fan_out).map(|to| delivery(&org, to, n * fan_out + to)).collect(),
        outbox: None,
    }
}

fn delivery(org: &OrgId, to: u64, n: u64) -> NewDelivery {
    let integration = ResourceId::new(format!("hook-{to}")).unwrap();
    let lane = LaneSeed {
        id: LaneId::of(org, &integration, None),
        order_key: None,
        mode: LaneMode::Parallel,
        max_in_flight: 1 << 20,
        weight: 1,
        rules: LaneRules::default(),
    };
    NewDelivery { id: DeliveryId::from_bytes(id(n)), integration, lane, due_at: NOW, at_once: true }
}

/// Like real ids: a moment, then bits without order.
fn id(n: u64) -> [u8; 16] {
    let millis = u128::from(NOW.as_millis().unsigned_abs()) + u128::from(n) / 32;
    let noise = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 66;
    (millis << 80 | 0x7 << 76 | 0b10 << 62 | noise).to_be_bytes()
}

fn delivered(lease: Lease, lane: LaneId) -> Settlement {
    let attempt = Attempt {
        delivery: lease.delivery,
        epoch: lease.epoch,
        number: 1,
        started_at: NOW,
        outcome: AttemptOutcome::Delivered,
        status: Some(200),
        timings: AttemptTimings { total: 4, ..AttemptTimings::default() },
        exchange: None,
        message: None,
        transcript: None,
    };
    Settlement {
        lease,
        lane,
        attempt: Some(attempt),
        next: Next::Delivered,
        block_lane_until: None,
        notice: None,
    }
}
