//! What a host's transaction notices of an engine that delivers: it publishes, and waits for no
//! lock of the engine's for longer than 5 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use icp::Code;
use icp::engine::{Engine, EngineConfig};
use icp::event::{Event, NewEvent};
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::secret::LocalKeys;
use icp::store::Store;
use icp::store_sql::sqlite::SqliteStore;
use icp_testkit::receiver::{PATIENCE, Receiver};
use serde_json::json;
use sqlx::{Connection, Executor, MySqlConnection, PgConnection, SqliteConnection};
use tokio::time::Instant;

use crate::database::{self, Database, Server};

const SEALING_KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TRANSACTIONS: u32 = 400;
/// A host has other things to do in between.
const PAUSE: Duration = Duration::from_millis(5);
/// What 99 of 100 stay below where it is not a lock that they wait for, on a machine that is busy
/// with other tests.
const SLOW: Duration = Duration::from_millis(500);
/// How long a host waits for its turn on SQLite.
const PATIENT: Duration = Duration::from_secs(5);
/// How many events publishers of the engine keep under way meanwhile.
const UNDER_WAY: usize = 8;

/// A connection of the host's own, which is not ready to wait.
#[async_trait]
trait Host: Send {
    /// An order and its event in one transaction; answers how long it took to begin and to
    /// publish, and leaves the transaction open where it is not to be committed.
    async fn order(&mut self, number: u32, event: &Event, end: bool) -> icp::Result<Duration>;
}

macro_rules! host {
    ($host:ident, $connection:ty, $impatient:expr, $begin:literal, $insert:literal, $family:ident) => {
        struct $host($connection);

        impl $host {
            async fn open(url: &str) -> Self {
                let mut conn = <$connection>::connect(url).await.unwrap();
                conn.execute($impatient).await.unwrap();
                conn.execute("CREATE TABLE IF NOT EXISTS orders (number BIGINT)").await.unwrap();
                Self(conn)
            }
        }

        #[async_trait]
        impl Host for $host {
            async fn order(
                &mut self,
                number: u32,
                event: &Event,
                end: bool,
            ) -> icp::Result<Duration> {
                let begun = Instant::now();
                let mut tx = self.0.begin_with($begin).await.unwrap();
                let mut taken = begun.elapsed();
                sqlx::query($insert).bind(i64::from(number)).execute(&mut *tx).await.unwrap();
                let asked = Instant::now();
                icp::store_sql::$family::publish_in(&mut tx, event).await?;
                taken += asked.elapsed();
                if !end {
                    std::mem::forget(tx);
                } else if number % 10 < 3 {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                }
                Ok(taken)
            }
        }
    };
}

// The server itself ends a statement that waits for a lock for longer.
host!(
    PostgresHost,
    PgConnection,
    "SET lock_timeout = '5ms'",
    "BEGIN",
    "INSERT INTO orders VALUES ($1)",
    postgres
);
// It counts whole seconds, so that this is not to wait at all.
host!(
    MySqlHost,
    MySqlConnection,
    "SET SESSION innodb_lock_wait_timeout = 0, lock_wait_timeout = 0",
    "START TRANSACTION",
    "INSERT INTO orders VALUES (?)",
    mysql
);
// One writes at a time, so that there is no way not to wait.
host!(
    SqliteHost,
    SqliteConnection,
    "PRAGMA busy_timeout = 5000",
    "BEGIN IMMEDIATE",
    "INSERT INTO orders VALUES (?)",
    sqlite
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_no_lock_on_postgres() {
    let database = Database::create(Server::Postgres).await;
    let store = database::connect(&database.url).await;
    let mut host = PostgresHost::open(&database.url).await;
    let mut other = PostgresHost::open(&database.url).await;
    let waits = compare(store, &mut host, Some(&mut other)).await;
    assert!(waits.busy < waits.quiet + SLOW, "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_no_lock_on_mysql() {
    let database = Database::create(Server::MySql).await;
    let store = database::connect(&database.url).await;
    let mut host = MySqlHost::open(&database.url).await;
    let mut other = MySqlHost::open(&database.url).await;
    let waits = compare(store, &mut host, Some(&mut other)).await;
    assert!(waits.busy < waits.quiet + SLOW, "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_its_turn_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("icp.db");
    let store = Arc::new(SqliteStore::open(&path).await.unwrap());
    let mut host = SqliteHost::open(&format!("sqlite://{}", path.display())).await;
    // Each gets it before SQLite gives up, which would fail the order.
    let waits = compare(store, &mut host, None).await;
    assert!(waits.busy < PATIENT, "{waits:?}");
}

/// The slowest of a hundred, without the engine and beside it.
#[derive(Debug)]
struct Waits {
    quiet: Duration,
    busy: Duration,
}

#[expect(clippy::print_stdout, reason = "the figures are shown with `--nocapture`")]
async fn compare(
    store: Arc<dyn Store>,
    host: &mut dyn Host,
    other: Option<&mut dyn Host>,
) -> Waits {
    let backend = store.info().backend;
    let receiver = Receiver::start().await;
    let engine = engine(store, &receiver).await;
    let quiet = orders(&engine, host, 0).await;
    let running = engine.start().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..UNDER_WAY).map(|_| publish(&engine, &stop)).collect();
    let before = receiver.seen().requests().len();
    let work = async {
        let busy = orders(&engine, host, TRANSACTIONS).await;
        stop.store(true, Ordering::Relaxed);
        busy
    };
    let (busy, published) = tokio::join!(work, futures_util::future::join_all(publishers));
    let published: usize = published.into_iter().sum();
    let received = receiver.seen().requests().len() - before;
    let least = TRANSACTIONS as usize / 4;
    assert!(published.min(received) >= least, "{published} published, {received} received");
    // That a wait for a lock would be seen.
    if let Some(other) = other {
        let event = event(&engine, 0).await;
        other.order(0, &event, false).await.unwrap();
        let error = host.order(0, &event, true).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreLocked, "{error}");
    }
    running.shutdown(PATIENCE).await;
    let waits = Waits { quiet, busy };
    println!("{backend}: {waits:?}");
    waits
}

async fn engine(store: Arc<dyn Store>, receiver: &Receiver) -> Engine {
    let engine = Engine::builder_on(store)
        .keys(LocalKeys::parse(SEALING_KEY).unwrap())
        .allow_loopback()
        .config(EngineConfig::default())
        .build()
        .unwrap();
    let (org, actor) = (OrgId::new("acme").unwrap(), Actor::host());
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "organization", draft(json!({})), &actor).await.unwrap();
    let target = json!({ "kind": "http", "url": receiver.url("/crm") });
    let integration = json!({ "events": ["*"], "target": target });
    engine.resources().create(&org, "integration", draft(integration), &actor).await.unwrap();
    engine
}

/// Publishes through the engine until it is told to stop; answers how much.
async fn publish(engine: &Engine, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let body = json!({ "from": "the engine" });
        engine.publish(NewEvent::json("acme", "order.made", &body).unwrap()).await.unwrap();
        count += 1;
    }
    count
}

async fn event(engine: &Engine, number: u32) -> Event {
    let event = NewEvent::json("acme", "order.paid", &json!({ "order": number })).unwrap();
    engine.accept(event).await.unwrap()
}

/// Makes orders, of which three in ten are taken back; answers how long the slowest of a hundred
/// waited.
async fn orders(engine: &Engine, host: &mut dyn Host, first: u32) -> Duration {
    let mut taken = Vec::new();
    for number in first..first + TRANSACTIONS {
        let event = event(engine, number).await;
        taken.push(host.order(number, &event, true).await.unwrap());
        tokio::time::sleep(PAUSE).await;
    }
    taken.sort_unstable();
    taken[taken.len() * 99 / 100]
}
