//! A host's own transactions, pool and schema.

use std::collections::HashSet;

use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;

use icp_store_sql::postgres::{PostgresStore, publish_in};
use icp_store_sql::{Dialect, Names, OutboxInsert, Value, outbox_insert, outbox_insert_into};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio_postgres::types::ToSql;

use crate::fixture::{NOW, batch, claim, event, settle};
use crate::scratch::Scratch;

async fn published(store: &PostgresStore) -> Vec<EventId> {
    store.outbox(&[], 10).await.unwrap().iter().map(|entry| entry.event.id).collect()
}

/// Claims and settles all there is; answers how many there were.
async fn drain(store: &PostgresStore, session: u8) -> HashSet<DeliveryId> {
    let session = SessionId::from_bytes([session; 16]);
    store.open_session(session, NOW).await.unwrap();
    let mut seen = HashSet::new();
    loop {
        let claimed = store.claim(claim(session)).await.unwrap();
        if claimed.deliveries.is_empty() {
            return seen;
        }
        assert!(claimed.deliveries.iter().all(|c| seen.insert(c.delivery.id)));
        let settled = store.settle(settle(&claimed)).await.unwrap();
        assert!(settled.iter().all(|s| *s == Settled::Recorded));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_transactions_emit_all_or_nothing() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::connect(&scratch.url).await.unwrap();
    let mut host = PgConnection::connect(&scratch.url).await.unwrap();
    let mut tx = host.begin().await.unwrap();
    store.publish_in(&mut tx, &event(1)).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(published(&store).await.is_empty());
    let mut tx = host.begin().await.unwrap();
    store.publish_in(&mut tx, &event(2)).await.unwrap();
    publish_in(&mut tx, &event(3)).await.unwrap();
    publish_in(&mut tx, &event(3)).await.unwrap();
    assert!(published(&store).await.is_empty());
    tx.commit().await.unwrap();
    assert_eq!(published(&store).await, [event(2).id, event(3).id]);
}

async fn put(tx: &tokio_postgres::Transaction<'_>, insert: OutboxInsert) {
    let values: Vec<Box<dyn ToSql + Sync + Send>> = insert
        .values
        .into_iter()
        .map(|value| -> Box<dyn ToSql + Sync + Send> {
            match value {
                Value::Int(int) => Box::new(int),
                Value::Text(text) => Box::new(text.map(|text| text.to_string())),
                Value::Blob(blob) => Box::new(blob),
            }
        })
        .collect();
    let values: Vec<&(dyn ToSql + Sync)> =
        values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
    tx.execute(&insert.sql, &values).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_driver_publishes_in_its_own_transaction() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::connect(&scratch.url).await.unwrap();
    let other = PostgresStore::builder(&scratch.url).schema("shop").open().await.unwrap();
    let (mut host, connection) =
        tokio_postgres::connect(&scratch.url, tokio_postgres::NoTls).await.unwrap();
    let work = async {
        let tx = host.transaction().await.unwrap();
        put(&tx, outbox_insert(Dialect::Postgres, &event(1))).await;
        tx.rollback().await.unwrap();
        let tx = host.transaction().await.unwrap();
        put(&tx, outbox_insert(Dialect::Postgres, &event(2))).await;
        put(&tx, outbox_insert(Dialect::Postgres, &event(2))).await;
        let shop = Names::new(Some("shop"), "icp_").unwrap();
        put(&tx, outbox_insert_into(Dialect::Postgres, &shop, &event(3))).await;
        tx.commit().await.unwrap();
    };
    tokio::select! {
        () = work => {}
        end = connection => end.unwrap(),
    }
    assert_eq!(published(&store).await, [event(2).id]);
    assert_eq!(published(&other).await, [event(3).id]);
    let stored = store.outbox(&[], 10).await.unwrap().remove(0).event;
    assert_eq!(stored, event(2), "byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_one_connection_is_enough() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::builder(&scratch.url).max_connections(1).open().await.unwrap();
    let writes = (0..8).map(|n| store.ingest(batch(n * 50..n * 50 + 50)));
    futures_util::future::try_join_all(writes).await.unwrap();
    assert_eq!(drain(&store, 1).await.len(), 400);
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_claim_twice() {
    let scratch = Scratch::database().await;
    let a = PostgresStore::connect(&scratch.url).await.unwrap();
    let b = PostgresStore::connect(&scratch.url).await.unwrap();
    a.ingest(batch(0..400)).await.unwrap();
    let (one, two) = tokio::join!(drain(&a, 1), drain(&b, 2));
    assert_eq!(one.len() + two.len(), 400);
    assert_eq!(one.union(&two).count(), 400);
    assert!(a.audit().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_works_on_the_hosts_own_pool() {
    let scratch = Scratch::database().await;
    let pool: PgPool = PgPoolOptions::new().max_connections(2).connect(&scratch.url).await.unwrap();
    sqlx::query("CREATE TABLE orders (id int)").execute(&pool).await.unwrap();
    let store = PostgresStore::with_pool(pool.clone()).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)").execute(&mut *tx).await.unwrap();
    store.publish_in(&mut tx, &event(1)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(published(&store).await, [event(1).id]);
    store.ingest(batch(0..100)).await.unwrap();
    assert_eq!(drain(&store, 1).await.len(), 100);
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_side_by_side_do_not_see_each_other() {
    let scratch = Scratch::database().await;
    let builder = || PostgresStore::builder(&scratch.url).max_connections(2);
    let stores = [
        builder().open().await.unwrap(),
        builder().table_prefix("hooks_").open().await.unwrap(),
        builder().schema("shop").open().await.unwrap(),
        builder().schema("shop").table_prefix("hooks_").open().await.unwrap(),
    ];
    let mut host = PgConnection::connect(&scratch.url).await.unwrap();
    for (count, store) in (1..).zip(&stores) {
        store.ingest(batch(0..count * 10)).await.unwrap();
        let mut tx = host.begin().await.unwrap();
        store.publish_in(&mut tx, &event(900 + count)).await.unwrap();
        tx.commit().await.unwrap();
    }
    for (count, store) in (1_u8..).zip(&stores) {
        assert_eq!(published(store).await, [event(900 + u128::from(count)).id]);
        assert_eq!(drain(store, count).await.len(), usize::from(count) * 10);
        assert!(store.audit().await.unwrap().is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_all_or_nothing() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::builder(&scratch.url).max_connections(3).open().await.unwrap();
    for round in 0..30_u64 {
        let first = u128::from(round) * 100;
        let call = store.ingest(batch(first..first + 100));
        let cut = std::time::Duration::from_micros(round * 700);
        let _ = tokio::time::timeout(cut, call).await;
        let count: u64 = store.counts().await.unwrap().iter().map(|(_, n)| n).sum();
        assert_eq!(count % 100, 0);
    }
    store.ingest(batch(0..3_000)).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Ready, 3_000)]);
    assert!(store.audit().await.unwrap().is_clean());
}
