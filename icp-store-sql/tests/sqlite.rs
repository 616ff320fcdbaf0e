//! What is special to SQLite: files, locks, the host's transactions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::collections::HashSet;
use std::time::Duration;

use icp_core::Code;
use icp_core::delivery::*;
use icp_core::erasure::{Erase, ErasureStore, Target};
use icp_core::event::*;
use icp_core::id::*;
use icp_core::store::Store;
use icp_store_sql::sqlite::SqliteStore;
use sqlx::{Connection, Executor, SqliteConnection};

use fixture::{NOW, batch, claim, event, item, settle};

#[tokio::test]
async fn everything_taken_in_is_claimed_and_settled_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("icp.db")).await.unwrap();
    let session = SessionId::from_bytes([1; 16]);
    store.open_session(session, NOW).await.unwrap();
    let ingested = store.ingest(batch(0..150)).await.unwrap();
    assert!(ingested.iter().all(|i| matches!(i, Ingested::Accepted { .. })));
    let again = store.ingest(batch(0..150)).await.unwrap();
    assert!(again.iter().all(|i| matches!(i, Ingested::Duplicate { .. })));
    let mut seen = HashSet::new();
    loop {
        let claimed = store.claim(claim(session)).await.unwrap();
        assert!(store.audit().await.unwrap().is_clean());
        if claimed.deliveries.is_empty() {
            break;
        }
        assert!(claimed.deliveries.iter().all(|c| seen.insert(c.delivery.id)));
        let settled = store.settle(settle(&claimed)).await.unwrap();
        assert!(settled.iter().all(|s| *s == Settled::Recorded));
        let settled = store.settle(settle(&claimed)).await.unwrap();
        assert!(settled.iter().all(|s| *s == Settled::Stale));
    }
    assert_eq!(seen.len(), 150);
    assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Delivered, 150)]);
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn two_stores_on_one_file_never_claim_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let (a, b) = tokio::join!(SqliteStore::open(&path), SqliteStore::open(&path));
    let (a, b) = (a.unwrap(), b.unwrap());
    a.ingest(batch(0..400)).await.unwrap();
    let drain = async |store: &SqliteStore, session: u8| {
        let session = SessionId::from_bytes([session; 16]);
        store.open_session(session, NOW).await.unwrap();
        let mut all = Vec::new();
        loop {
            let claimed = store.claim(claim(session)).await.unwrap();
            if claimed.deliveries.is_empty() {
                return all;
            }
            all.extend(claimed.deliveries.into_iter().map(|c| c.delivery.id));
        }
    };
    let (one, two) = tokio::join!(drain(&a, 1), drain(&b, 2));
    assert_eq!(one.len() + two.len(), 400);
    assert_eq!(one.iter().chain(&two).collect::<HashSet<_>>().len(), 400);
    assert!(a.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn a_dropped_call_leaves_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("icp.db")).await.unwrap();
    for round in 0..60_u64 {
        let first = u128::from(round) * 100;
        let call = store.ingest(batch(first..first + 100));
        let _ = tokio::time::timeout(Duration::from_micros(round * 200), call).await;
        let count: u64 = store.counts().await.unwrap().iter().map(|(_, n)| n).sum();
        assert_eq!(count % 100, 0);
        assert!(store.audit().await.unwrap().is_clean());
    }
    store.ping().await.unwrap();
    store.ingest(batch(0..6_000)).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Ready, 6_000)]);
}

#[tokio::test]
async fn host_transactions_emit_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let url = format!("sqlite://{}", path.display());
    let mut host = SqliteConnection::connect(&url).await.unwrap();
    let mut tx = host.begin().await.unwrap();
    store.publish_in(&mut tx, &event(1)).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(store.outbox(&[], 10).await.unwrap().is_empty());
    let mut tx = host.begin().await.unwrap();
    store.publish_in(&mut tx, &event(2)).await.unwrap();
    store.publish_in(&mut tx, &event(3)).await.unwrap();
    assert!(store.outbox(&[], 10).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    store.hint();
    store.wakeup().await;
    let entries = store.outbox(&[], 10).await.unwrap();
    assert_eq!(entries.iter().map(|e| &e.event).collect::<Vec<_>>(), [&event(2), &event(3)]);
    let mut relayed = item(2, 1);
    relayed.outbox = Some(relayed.event.id);
    let batch = Ingest { items: [relayed.clone(), relayed].into(), direct: None, now: NOW };
    let answers = store.ingest(batch).await.unwrap();
    assert_eq!(answers, [Ingested::Accepted { leased: vec![] }, Ingested::Gone]);
    assert_eq!(store.outbox(&[], 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lock_held_too_long_is_told_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::builder(&path).busy_timeout(Duration::from_millis(20));
    let store = store.open().await.unwrap();
    let url = format!("sqlite://{}", path.display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    assert_eq!(store.ingest(batch(0..9)).await.unwrap_err().code(), Code::StoreLocked);
    other.execute("ROLLBACK").await.unwrap();
    assert!(store.counts().await.unwrap().is_empty());
    store.ingest(batch(0..9)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn files_that_are_no_database_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert_eq!(SqliteStore::open(&path).await.unwrap_err().code(), Code::StoreCorrupt);
    let missing = dir.path().join("missing").join("icp.db");
    assert_eq!(SqliteStore::open(&missing).await.unwrap_err().code(), Code::StoreUnavailable);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_belongs_to_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    SqliteStore::open(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_is_erased_is_not_in_the_file_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let mut canary = event(1);
    let body = b"ann-canary-".repeat(2_000);
    canary.body = body.clone().into();
    canary.subject = Some("subject-canary".into());
    let mut taken = item(1, 10);
    taken.event = std::sync::Arc::new(canary);
    let items = [taken].into();
    store.ingest(Ingest { items, direct: None, now: NOW }).await.unwrap();
    let checkpoint = async || {
        let mut conn = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
        conn.close().await.unwrap();
    };
    let found = |text: &[u8]| {
        let bytes = std::fs::read(&path).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    };
    checkpoint().await;
    assert!(found(b"ann-canary") && found(b"subject-canary"));
    let target = Target::Subject("subject-canary".into());
    let erase = Erase { org: OrgId::new("acme").unwrap(), target, limit: 10, now: NOW };
    assert_eq!(store.erase(&erase).await.unwrap().events, 1);
    checkpoint().await;
    assert!(!found(b"ann-canary") && !found(b"subject-canary"));
}

/// Spoils a column of a delivery, as a damaged page or a careless hand does.
async fn spoil(path: &std::path::Path, delivery: u128, set: &str) {
    let url = format!("sqlite://{}", path.display());
    let mut host = SqliteConnection::connect(&url).await.unwrap();
    let sql = format!("UPDATE icp_delivery SET {set} WHERE id = ?");
    let spoilt = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(fixture::id(delivery).to_vec());
    assert_eq!(spoilt.execute(&mut host).await.unwrap().rows_affected(), 1);
    host.close().await.unwrap();
}

fn in_order(n: u128) -> IngestItem {
    let mut item = item(n, 1);
    let new = &mut item.deliveries[0];
    new.lane.mode = LaneMode::Fifo;
    new.lane.order_key = Some("k".into());
    new.lane.id = LaneId::of(&item.event.org, &new.integration, Some("k"));
    item
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_keeps_nobody_from_going_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let session = SessionId::from_bytes([1; 16]);
    store.open_session(session, NOW).await.unwrap();
    store.ingest(batch(0..40)).await.unwrap();
    let items = (100..103).map(in_order).collect();
    store.ingest(Ingest { items, direct: None, now: NOW }).await.unwrap();
    let bad = [3, 4, 5, 6, 100];
    spoil(&path, 3, "rescues = -1").await;
    spoil(&path, 4, "integration = 'no name!'").await;
    spoil(&path, 5, "reason_code = CAST(x'fffe' AS TEXT)").await;
    spoil(&path, 6, "round = -1").await;
    spoil(&path, 100, "throttles = 99999999999").await;

    let claimed = store.claim(claim(session)).await.unwrap();
    assert_eq!(claimed.unreadable, 5);
    let taken: HashSet<_> = claimed.deliveries.iter().map(|c| c.delivery.id).collect();
    let good = (0..40).filter(|n| !bad.contains(n)).chain([101]);
    let good: HashSet<_> = good.map(|n| DeliveryId::from_bytes(fixture::id(n))).collect();
    assert_eq!(taken, good);
    let again = store.claim(claim(session)).await.unwrap();
    assert_eq!((again.deliveries.len(), again.unreadable), (0, 0), "each is met once");
    store.settle(settle(&claimed)).await.unwrap();
    let next = store.claim(claim(session)).await.unwrap().deliveries;
    let behind = DeliveryId::from_bytes(fixture::id(102));
    assert_eq!(next.iter().map(|c| c.delivery.id).collect::<Vec<_>>(), [behind]);
    let counts = store.counts().await.unwrap();
    assert!(counts.contains(&(DeliveryState::Dead, 5)), "{counts:?}");
    assert!(store.audit().await.unwrap().is_clean());

    let org = OrgId::new("acme").unwrap();
    let page = icp_core::store::PageQuery { after: None, limit: 40 };
    let query = DeliveryQuery { page, ..DeliveryQuery::default() };
    let listed = store.deliveries(&org, &query).await.unwrap();
    // A reason that could not be read gave way to another, and one is of no integration.
    assert_eq!((listed.items.len(), listed.more), (37, true));
    let id = DeliveryId::from_bytes(fixture::id(3));
    assert_eq!(store.delivery(&org, id).await.unwrap_err().code(), Code::StoreCorrupt);
    let due = icp_core::letter::LetterStore::due_letters(&store, NOW, 9).await.unwrap();
    assert_eq!(due.len(), 0, "no round is tried");

    spoil(&path, 3, "rescues = 0").await;
    let replay = Replay {
        org,
        delivery: id,
        id: DeliveryId::from_bytes(fixture::id(200)),
        expires_at: None,
        actor: None,
        now: NOW,
    };
    assert_eq!(store.replay(replay).await.unwrap().state, DeliveryState::Ready, "mended");
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_keeps_no_other_from_its_rescue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let session = SessionId::from_bytes([1; 16]);
    store.open_session(session, NOW).await.unwrap();
    store.ingest(batch(0..3)).await.unwrap();
    assert_eq!(store.claim(claim(session)).await.unwrap().deliveries.len(), 3);
    spoil(&path, 1, "rescues = -1").await;
    let of = RescueOf::Session(session);
    let rescue = Rescue { of, now: NOW, limit: 9, max_rescues: 3 };
    let rescued = store.rescue(rescue).await.unwrap();
    assert_eq!(rescued.len(), 2);
    let counts = store.counts().await.unwrap();
    assert_eq!(counts, [(DeliveryState::Ready, 2), (DeliveryState::Dead, 1)]);
    assert!(store.audit().await.unwrap().is_clean());
}
