//! What is special to MySQL: servers, users, migrations, names, the host's transactions.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "nodes of a test run side by side")]

mod fixture;
#[path = "fixture/mysql.rs"]
mod server;

use std::time::Duration;

use icp_core::Code;
use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;
use icp_store_sql::mysql::{MySqlStore, publish_in};
use icp_store_sql::{Dialect, OutboxInsert, Value, outbox_insert};
use mysql_async::TxOpts;
use mysql_async::prelude::Queryable;
use sqlx::{Connection, Executor, MySqlConnection, MySqlPool};

use fixture::{NOW, batch, claim, event, settle};
use server::{Database, run};

async fn refusal(url: &str) -> icp_core::Error {
    let builder = MySqlStore::builder(url).acquire_timeout(Duration::from_secs(10));
    builder.open().await.unwrap_err()
}

fn log_in_as(url: &str, user: &str, password: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("mysql://{user}:{password}@{place}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_store_from_opening_is_told_without_secrets() {
    let url = server::server();
    for (url, code) in [
        ("postgres://a:canary-1@localhost/b".to_owned(), Code::ConfigInvalid),
        ("mysql://a:canary-1@localhost:99999/b".to_owned(), Code::ConfigInvalid),
        ("mysql://a:canary-1@127.0.0.1:1/b".to_owned(), Code::StoreUnavailable),
        (log_in_as(&url, "icp", "canary-1"), Code::StoreDenied),
        (format!("{url}_that_is_missing"), Code::StoreUnavailable),
    ] {
        let error = refusal(&url).await;
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.operation(), "open the store");
        assert!(!format!("{error} {error:?}").contains("canary-1"), "{error:?}");
    }
    let prefixed = MySqlStore::builder(&url).table_prefix("x; DROP TABLE y").open().await;
    assert_eq!(prefixed.unwrap_err().code(), Code::ConfigInvalid);
    let hasty = MySqlStore::builder(&url).acquire_timeout(Duration::ZERO).open().await;
    assert_eq!(hasty.unwrap_err().list()[0].pointer, "/acquire_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_few_rights_works_on_tables_that_another_made() {
    let database = Database::create().await;
    let user = format!("{}_app", database.name);
    run(format!("CREATE USER {user} IDENTIFIED BY 'pw'")).await;
    let app = log_in_as(&database.url, &user, "pw");
    let error = refusal(&app).await;
    assert_eq!(error.code(), Code::StoreDenied, "{error}");
    run(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {}.* TO {user}", database.name)).await;
    let error = refusal(&app).await;
    assert_eq!(error.code(), Code::StoreDenied, "{error}");
    let early = MySqlStore::builder(&app).migrate(false).open().await.unwrap_err();
    assert_eq!(early.code(), Code::StoreOutdated, "{early}");
    MySqlStore::builder(&database.url).migrations().unwrap().apply().await.unwrap();
    let store = MySqlStore::connect(&app).await.unwrap();
    store.ingest(batch(0..9)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
    store.close().await.unwrap();
    run(format!("DROP USER {user}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_that_start_at_once_migrate_once() {
    let database = Database::create().await;
    let starts = (0..4).map(|_| {
        let url = database.url.clone();
        tokio::spawn(async move {
            MySqlStore::builder(&url).acquire_timeout(Duration::from_secs(60)).open().await
        })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    let status = MySqlStore::builder(&database.url).migrations().unwrap().status().await.unwrap();
    assert_eq!((status.applied, status.pending), (vec![1], vec![]));
}

/// As a node leaves it that is killed between two changes of tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_cut_short_is_finished_by_the_next_start() {
    let database = Database::create().await;
    MySqlStore::connect(&database.url).await.unwrap();
    let mut host = MySqlConnection::connect(&database.url).await.unwrap();
    host.execute("DROP TABLE icp_handle, icp_audit").await.unwrap();
    host.execute("UPDATE icp_migration SET applied_at = NULL").await.unwrap();
    let closed = MySqlStore::builder(&database.url).migrate(false).open().await.unwrap_err();
    assert_eq!(closed.code(), Code::StoreOutdated);
    let store = MySqlStore::connect(&database.url).await.unwrap();
    store.ingest(batch(0..3)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_others_are_left_alone_and_prefixes_keep_stores_apart() {
    let database = Database::create().await;
    let mut host = MySqlConnection::connect(&database.url).await.unwrap();
    host.execute("CREATE TABLE icp_event (mine INT)").await.unwrap();
    assert_eq!(refusal(&database.url).await.code(), Code::StoreForeign);
    for prefix in ["one_", "two_"] {
        let builder = MySqlStore::builder(&database.url).table_prefix(prefix);
        let store = builder.open().await.unwrap();
        store.ingest(batch(0..3)).await.unwrap();
        let mut tx = host.begin().await.unwrap();
        store.publish_in(&mut tx, &event(9)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.outbox(&[], 10).await.unwrap().len(), 1);
        assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Ready, 3)]);
        assert!(store.audit().await.unwrap().is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_publish_leaves_nothing_and_one_twice_counts_once() {
    let database = Database::create().await;
    let store = MySqlStore::connect(&database.url).await.unwrap();
    let mut host = MySqlConnection::connect(&database.url).await.unwrap();
    let mut tx = host.begin().await.unwrap();
    publish_in(&mut tx, &event(1)).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(store.outbox(&[], 10).await.unwrap().is_empty());
    let mut tx = host.begin().await.unwrap();
    publish_in(&mut tx, &event(1)).await.unwrap();
    let insert = outbox_insert(Dialect::MySql, &event(1));
    let mut query = sqlx::query(sqlx::AssertSqlSafe(insert.sql));
    for value in insert.values {
        query = match value {
            Value::Int(int) => query.bind(int),
            Value::Text(text) => query.bind(text.map(|text| text.to_string())),
            Value::Blob(blob) => query.bind(blob),
        };
    }
    query.execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.outbox(&[], 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_driver_publishes_in_its_own_transaction() {
    let database = Database::create().await;
    let store = MySqlStore::connect(&database.url).await.unwrap();
    let mut host = mysql_async::Conn::from_url(&database.url).await.unwrap();
    for (n, commits) in [(1, false), (2, true)] {
        let mut tx = host.start_transaction(TxOpts::default()).await.unwrap();
        for _ in 0..2 {
            let OutboxInsert { sql, values, .. } = outbox_insert(Dialect::MySql, &event(n));
            let values: Vec<mysql_async::Value> = values
                .into_iter()
                .map(|value| match value {
                    Value::Int(int) => int.into(),
                    Value::Text(text) => text.map(|text| text.to_string()).into(),
                    Value::Blob(blob) => blob.into(),
                })
                .collect();
            tx.exec_drop(sql, values).await.unwrap();
        }
        if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
    }
    host.disconnect().await.unwrap();
    let published = store.outbox(&[], 10).await.unwrap();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].event, event(2), "byte for byte");
}

/// A host's pool keeps its isolation and its modes; the store brings its own isolation.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_the_hosts_own_is_used_as_it_is() {
    let database = Database::create().await;
    let pool = MySqlPool::connect(&database.url).await.unwrap();
    let store = MySqlStore::with_pool(pool.clone()).await.unwrap();
    let session = SessionId::from_bytes(fixture::id(1));
    store.open_session(session, NOW).await.unwrap();
    store.ingest(batch(0..20)).await.unwrap();
    let claimed = store.claim(claim(session)).await.unwrap();
    assert_eq!(claimed.deliveries.len(), 20);
    store.settle(settle(&claimed)).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Delivered, 20)]);
    assert!(store.audit().await.unwrap().is_clean());
    let isolation: String = sqlx::query_scalar("SELECT CAST(@@session.tx_isolation AS CHAR)")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(isolation, "REPEATABLE-READ");
    let lax = sqlx::mysql::MySqlPoolOptions::new()
        .after_connect(|conn, _| {
            Box::pin(async { conn.execute("SET SESSION sql_mode = ''").await.map(drop) })
        })
        .connect(&database.url)
        .await
        .unwrap();
    assert_eq!(MySqlStore::with_pool(lax).await.unwrap_err().code(), Code::ConfigInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_ended_are_made_again() {
    let database = Database::create().await;
    let store = MySqlStore::builder(&database.url).max_connections(1).open().await.unwrap();
    store.ingest(batch(0..3)).await.unwrap();
    let mut admin = MySqlConnection::connect(&server::server()).await.unwrap();
    let mut connections = async || -> Vec<i64> {
        let sql = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = ?";
        sqlx::query_scalar(sql).bind(&database.name).fetch_all(&mut admin).await.unwrap()
    };
    let ids = connections().await;
    assert!(!ids.is_empty());
    for id in ids {
        run(format!("KILL {id}")).await;
    }
    // A connection that is to be killed may answer once more.
    while !connections().await.is_empty() {
        tokio::task::yield_now().await;
    }
    // A connection that was in use a moment ago is taken without a question.
    if let Err(error) = store.ingest(batch(3..6)).await {
        assert_eq!(error.code(), Code::StoreUnavailable, "{error}");
    }
    store.ingest(batch(3..6)).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Ready, 6)]);
}

/// Many nodes at once: each delivery is leased once, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_claim_at_once_share_out_what_there_is() {
    let database = Database::create().await;
    let store = MySqlStore::connect(&database.url).await.unwrap();
    store.ingest(batch(0..60)).await.unwrap();
    let nodes = (0..4).map(|node| {
        let store = store.clone();
        tokio::spawn(async move {
            let session = SessionId::from_bytes(fixture::id(node));
            store.open_session(session, NOW).await.unwrap();
            let mut leased = Vec::new();
            let all = [(DeliveryState::Delivered, 60)];
            while store.counts().await.unwrap() != all {
                let claimed = store.claim(Claim { limit: 5, ..claim(session) }).await.unwrap();
                leased.extend(claimed.deliveries.iter().map(|c| c.delivery.id));
                if !claimed.deliveries.is_empty() {
                    store.settle(settle(&claimed)).await.unwrap();
                }
            }
            leased
        })
    });
    let mut all = Vec::new();
    for node in nodes.collect::<Vec<_>>() {
        all.extend(node.await.unwrap());
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!((count, all.len()), (60, 60));
    assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Delivered, 60)]);
    assert!(store.audit().await.unwrap().is_clean());
}
