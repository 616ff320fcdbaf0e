//! Hints from one process to another.

use std::time::Duration;

use icp_core::store::Store;
use icp_store_sql::postgres::PostgresStore;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(30);

/// Hints again and again until `other` wakes up.
async fn wakes(store: &PostgresStore, other: &PostgresStore) {
    let hints = async {
        loop {
            store.hint_all().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let woken = async {
        tokio::select! {
            () = other.wakeup() => {}
            () = hints => {}
        }
    };
    tokio::time::timeout(PATIENCE, woken).await.unwrap();
}

/// Ends every connection that listens; answers how many there were.
async fn deafen(conn: &mut PgConnection) -> i64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_wakes_other_processes_even_after_the_listener_was_lost() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::connect(&scratch.url).await.unwrap();
    let other = PostgresStore::connect(&scratch.url).await.unwrap();
    let mut conn = PgConnection::connect(&scratch.url).await.unwrap();
    wakes(&store, &other).await;
    assert_eq!(deafen(&mut conn).await, 1);
    other.ping().await.unwrap();
    // Once for what may have been missed, and once for a hint on a new connection.
    tokio::time::timeout(PATIENCE, other.wakeup()).await.unwrap();
    while deafen(&mut conn).await == 0 {
        wakes(&store, &other).await;
    }
    other.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_listen_wakes_by_its_own_hints_only() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::builder(&scratch.url).listen(false).open().await.unwrap();
    let mut conn = PgConnection::connect(&scratch.url).await.unwrap();
    store.hint();
    tokio::time::timeout(PATIENCE, store.wakeup()).await.unwrap();
    assert_eq!(deafen(&mut conn).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_listened_closes() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::connect(&scratch.url).await.unwrap();
    let other = PostgresStore::connect(&scratch.url).await.unwrap();
    wakes(&store, &other).await;
    for store in [store, other] {
        tokio::time::timeout(PATIENCE, store.close()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_closes_while_somebody_waits_for_a_hint() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::connect(&scratch.url).await.unwrap();
    let mut conn = PgConnection::connect(&scratch.url).await.unwrap();
    let listens = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%')";
    let closed = async {
        while !sqlx::query_scalar::<_, bool>(listens).fetch_one(&mut conn).await.unwrap() {
            tokio::task::yield_now().await;
        }
        store.close().await.unwrap();
    };
    let both = async { tokio::join!(store.wakeup(), closed) };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
}
