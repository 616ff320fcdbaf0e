//! What a delivery costs in the store, in CPU time of the whole process, and whether a claim
//! stays as fast while the backlog grows.
//!
//! Run with `cargo bench -p icp-store-sql`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops on errors"
)]

use std::sync::Arc;
use std::time::Duration;

use icp_core::delivery::health::LaneRules;
use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::resource::Revision;
use icp_core::time::Timestamp;
use icp_store_sql::sqlite::{SqliteStore, Synchronous};
use rustix::time::{ClockId, clock_gettime};

const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);
const LANES: u128 = 16;
const SESSION: SessionId = SessionId::from_bytes([7; 16]);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        for synchronous in [Synchronous::Normal, Synchronous::Full] {
            path(synchronous).await;
        }
        for backlog in [1_000, 100_000] {
            claims(backlog).await;
        }
    });
}

/// Ingest in batches of 64 with direct hand-off, settle in batches of 200.
async fn path(synchronous: Synchronous) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::builder(dir.path().join("icp.db")).synchronous(synchronous);
    let store = store.open().await.unwrap();
    store.open_session(SESSION, NOW).await.unwrap();
    let (mut ingest, mut settle) = (Duration::ZERO, Duration::ZERO);
    let mut open = Vec::new();
    let total = 64_000;
    for first in (0..total).step_by(64) {
        let batch = batch(first..first + 64, true);
        open.extend(
            batch.items.iter().map(|item| (item.deliveries[0].id, item.deliveries[0].lane.id)),
        );
        let before = cpu();
        store.ingest(batch).await.unwrap();
        ingest += cpu() - before;
        if open.len() >= 200 {
            let outcomes = outcomes(open.drain(..200));
            let before = cpu();
            let settled = store.settle(outcomes).await.unwrap();
            settle += cpu() - before;
            assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
        }
    }
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / total as f64;
    println!(
        "{synchronous:?}: ingest {:.1} + settle {:.1} = {:.1} us CPU per delivery",
        each(ingest),
        each(settle),
        each(ingest + settle),
    );
}

/// Claims of 64 from a backlog that stays as it is: each is given back at once.
async fn claims(backlog: u128) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::builder(dir.path().join("icp.db")).synchronous(Synchronous::Normal);
    let store = store.open().await.unwrap();
    store.open_session(SESSION, NOW).await.unwrap();
    for first in (0..backlog).step_by(500) {
        store.ingest(batch(first..first + 500, false)).await.unwrap();
    }
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let lease_until = NOW + Duration::from_secs(30);
        let claim = Claim {
            session: SESSION,
            now: NOW,
            lease_until,
            limit: 64,
            per_lane: 16,
            without: [].into(),
        };
        let (before, spent) = (wall(), cpu());
        let claimed = store.claim(claim).await.unwrap();
        times.push((wall() - before, cpu() - spent));
        assert_eq!(claimed.deliveries.len(), 64);
        let back = claimed.deliveries.iter().map(|claimed| Settlement {
            lease: Lease { delivery: claimed.delivery.id, epoch: claimed.delivery.epoch },
            lane: claimed.delivery.lane,
            attempt: None,
            next: Next::Refund { due_at: NOW, throttled: false },
            block_lane_until: None,
            notice: None,
        });
        store.settle(Settle { settlements: back.collect(), now: NOW }).await.unwrap();
    }
    let at = |sorted: &[Duration], part: usize| sorted[sorted.len() * part / 100].as_micros();
    let (mut walls, mut cpus): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    walls.sort();
    cpus.sort();
    println!(
        "backlog {backlog}: claim of 64 p50 {} us, p99 {} us; CPU p50 {} us, p99 {} us",
        at(&walls, 50),
        at(&walls, 99),
        at(&cpus, 50),
        at(&cpus, 99),
    );
}

fn id(n: u128) -> [u8; 16] {
    let millis = NOW.as_millis().unsigned_abs() as u128 + n / 32;
    // Like real ids: a moment, then bits without order.
    let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 66;
    (millis << 80 | 0x7 << 76 | 0b10 << 62 | noise).to_be_bytes()
}

fn batch(ids: std::ops::Range<u128>, direct: bool) -> Ingest {
    let direct = direct.then(|| Direct {
        session: SESSION,
        budget: usize::MAX,
        lease_until: NOW + Duration::from_secs(30),
    });
    Ingest { items: ids.map(item).collect(), direct, now: NOW }
}

fn item(n: u128) -> IngestItem {
    let event = Arc::new(Event::restore(
        EventId::from_bytes(id(n)),
        OrgId::new(format!("org-{}", n % LANES)).unwrap(),
        None,
        "order.paid".parse().unwrap(),
        JSON.into(),
        vec![b'1'; 1024].into(),
        None,
        None,
        NOW,
        None,
        None,
        None,
        Revision::ZERO,
    ));
    let integration = ResourceId::new("crm").unwrap();
    let lane = LaneSeed {
        id: LaneId::of(&event.org, &integration, None),
        order_key: None,
        mode: LaneMode::Parallel,
        max_in_flight: 1 << 20,
        weight: 1,
        rules: LaneRules::default(),
    };
    let delivery = NewDelivery {
        id: DeliveryId::from_bytes(id(n)),
        integration,
        lane,
        due_at: NOW,
        at_once: true,
    };
    IngestItem {
        event,
        body_hash: [0; 32],
        idempotency_window: Duration::ZERO,
        deliveries: vec![delivery],
        outbox: None,
    }
}

fn outcomes(leases: impl Iterator<Item = (DeliveryId, LaneId)>) -> Settle {
    let settlements = leases.map(|(delivery, lane)| Settlement {
        lease: Lease { delivery, epoch: 1 },
        lane,
        attempt: Some(Attempt {
            delivery,
            epoch: 1,
            number: 1,
            started_at: NOW,
            outcome: AttemptOutcome::Delivered,
            status: Some(200),
            timings: AttemptTimings { total: 1_234, ..AttemptTimings::default() },
            exchange: None,
            message: None,
            transcript: None,
        }),
        next: Next::Delivered,
        block_lane_until: None,
        notice: None,
    });
    Settle { settlements: settlements.collect(), now: NOW }
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap())
}

fn wall() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}
