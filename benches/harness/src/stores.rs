//! How fast each store leases and settles, without an engine around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icp::delivery::health::LaneRules;
use icp::delivery::{
    Attempt, AttemptOutcome, AttemptTimings, Claim, ClaimedDelivery, LaneId, LaneMode, Lease, Next,
    Settle, Settlement,
};
use icp::event::{Event, Ingest, IngestItem, JSON, LaneSeed, NewDelivery};
use icp::id::{ClockIds, DeliveryId, EventId, OrgId, ResourceId, SessionId};
use icp::resource::Revision;
use icp::store::Store;
use icp::store_mongo::MongoStore;
use icp::store_sql::mysql::MySqlStore;
use icp::store_sql::postgres::PostgresStore;
use icp::time::{Clock, SystemClock, Timestamp};

use crate::{Result, engine, usage};

/// How many organizations, each with one lane.
const LANES: u64 = 16;
/// How many tasks claim and settle at a time.
const WORKERS: u64 = 4;

/// The store at `url`, what to call it, and how many deliveries a second it has to manage.
pub(crate) async fn open(url: &str) -> Result<(&'static str, Arc<dyn Store>, f64)> {
    Ok(match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres") => ("postgres", Arc::new(PostgresStore::connect(url).await?), 12e3),
        Some("mysql") => ("mysql", Arc::new(MySqlStore::connect(url).await?), 8e3),
        Some("mongodb") => ("mongodb", Arc::new(MongoStore::connect(url).await?), 6e3),
        _ => return Err("a store's address begins with postgres:, mysql: or mongodb:".into()),
    })
}

/// Deliveries that were claimed and settled per second, in batches of 100 by four workers.
pub(crate) async fn claim_and_settle(store: &Arc<dyn Store>, count: u64) -> Result<f64> {
    fill(store, count).await?;
    let done = Arc::new(AtomicU64::new(0));
    let begun = usage::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(Arc::clone(store), count, Arc::clone(&done)));
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let per_second = count as f64 / (usage::now() - begun).as_secs_f64();
    Ok(per_second)
}

async fn work(store: Arc<dyn Store>, count: u64, done: Arc<AtomicU64>) -> Result<()> {
    let session = SessionId::generate(&ClockIds::new(SystemClock)?);
    store.open_session(session, SystemClock.now()).await?;
    while done.load(Ordering::Relaxed) < count {
        let now = SystemClock.now();
        let lease_until = now + Duration::from_secs(60);
        let claim =
            Claim { session, now, lease_until, limit: 100, per_lane: 50, without: [].into() };
        let claimed = store.claim(claim).await?.deliveries;
        let settlements: Arc<[Settlement]> = claimed.iter().map(|c| delivered(c, now)).collect();
        if settlements.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        store.settle(Settle { settlements, now }).await?;
        done.fetch_add(claimed.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn delivered(claimed: &ClaimedDelivery, now: Timestamp) -> Settlement {
    let delivery = &claimed.delivery;
    Settlement {
        lease: Lease { delivery: delivery.id, epoch: delivery.epoch },
        lane: delivery.lane,
        attempt: Some(Attempt {
            delivery: delivery.id,
            epoch: delivery.epoch,
            number: delivery.tries,
            started_at: now,
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
    }
}

/// Takes in `count` events of 1 KiB, each with a delivery that is due.
async fn fill(store: &Arc<dyn Store>, count: u64) -> Result<()> {
    let ids = ClockIds::new(SystemClock)?;
    for first in (0..count).step_by(500) {
        let now = SystemClock.now();
        let items = (first..count.min(first + 500)).map(|number| item(&ids, number, now));
        let items = items.collect::<Result<Vec<_>>>()?.into();
        store.ingest(Ingest { items, direct: None, now }).await?;
    }
    Ok(())
}

fn item(ids: &ClockIds<SystemClock>, number: u64, now: Timestamp) -> Result<IngestItem> {
    let org = OrgId::new(format!("org-{}", number % LANES))?;
    let integration = ResourceId::new("hook")?;
    let lane = LaneSeed {
        id: LaneId::of(&org, &integration, None),
        order_key: None,
        mode: LaneMode::Parallel,
        max_in_flight: 1_000,
        weight: 1,
        rules: LaneRules::default(),
    };
    let event = Event::restore(
        EventId::generate(ids),
        org,
        None,
        "order.paid".parse()?,
        JSON.into(),
        engine::body(0).into(),
        None,
        None,
        now,
        None,
        None,
        None,
        Revision::ZERO,
    );
    let delivery = NewDelivery {
        id: DeliveryId::generate(ids),
        integration,
        lane,
        due_at: now,
        at_once: true,
    };
    Ok(IngestItem {
        event: Arc::new(event),
        body_hash: [0; 32],
        idempotency_window: Duration::ZERO,
        deliveries: vec![delivery],
        outbox: None,
    })
}
