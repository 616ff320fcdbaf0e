//! How the tables come to be, whoever starts and whatever happens on the way.

use std::process::Stdio;

use icp_core::Code;
use icp_core::delivery::DeliveryStore as _;
use icp_core::event::EventStore as _;
use icp_core::store::Store as _;
use icp_store_sql::postgres::PostgresStore;
use sqlx::{Connection, Executor, PgConnection};

use crate::database::run;
use crate::fixture::batch;
use crate::scratch::Scratch;

const CHILD: &str = "ICP_TEST_CHILD_URL";

async fn ledger(url: &str) -> Vec<(i64, bool)> {
    let mut conn = PgConnection::connect(url).await.unwrap();
    let sql = "SELECT version, applied_at IS NOT NULL FROM icp_migration ORDER BY version";
    sqlx::query_as(sql).fetch_all(&mut conn).await.unwrap()
}

async fn refusal(url: &str) -> Code {
    PostgresStore::connect(url).await.unwrap_err().code()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_that_start_at_once_make_one_set_of_tables() {
    let scratch = Scratch::database().await;
    let children: Vec<_> = (0..3)
        .map(|_| {
            tokio::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "migration::a_child_opens_the_store", "--ignored"])
                .env(CHILD, &scratch.url)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let opened: Vec<_> = (0..8)
        .map(|_| {
            let url = scratch.url.clone();
            async move { PostgresStore::builder(&url).max_connections(2).open().await.unwrap() }
        })
        .collect();
    for store in futures_util::future::join_all(opened).await {
        store.ping().await.unwrap();
        store.close().await.unwrap();
    }
    for mut child in children {
        assert!(child.wait().await.unwrap().success());
    }
    assert_eq!(ledger(&scratch.url).await, [(1, true)]);
}

#[tokio::test]
#[ignore = "a process of the test above"]
#[expect(clippy::disallowed_methods, reason = "the parent says where the database is")]
async fn a_child_opens_the_store() {
    let store = PostgresStore::connect(&std::env::var(CHILD).unwrap()).await.unwrap();
    store.ping().await.unwrap();
    store.close().await.unwrap();
}

/// An open transaction that makes one of the tables holds the migration up half-way.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_killed_midway_leaves_nothing_and_is_done_again() {
    let scratch = Scratch::database().await;
    let mut blocker = PgConnection::connect(&scratch.url).await.unwrap();
    let mut tx = blocker.begin().await.unwrap();
    tx.execute("CREATE TABLE icp_replay (x int)").await.unwrap();
    let mut watcher = PgConnection::connect(&scratch.url).await.unwrap();
    let kill = async {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'icp'
            AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut watcher).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    let (opened, ()) = tokio::join!(PostgresStore::connect(&scratch.url), kill);
    assert_eq!(opened.unwrap_err().code(), Code::StoreUnavailable);
    tx.rollback().await.unwrap();
    let sql = "SELECT count(*) FROM pg_class WHERE relname LIKE 'icp_%'";
    let left: i64 = sqlx::query_scalar(sql).fetch_one(&mut blocker).await.unwrap();
    assert_eq!(left, 0);
    let store = PostgresStore::connect(&scratch.url).await.unwrap();
    store.ingest(batch(0..9)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_what_would_run_and_changes_nothing() {
    let scratch = Scratch::database().await;
    let builder = PostgresStore::builder(&scratch.url).schema("shop").table_prefix("hooks_");
    let migrations = builder.migrations().unwrap();
    let status = migrations.status().await.unwrap();
    assert_eq!((status.applied, status.pending), (vec![], vec![1]));
    let plan = migrations.dry_run().await.unwrap();
    assert!(plan[0].sql.contains("hooks_delivery ") && !plan[0].sql.contains("icp_"));
    let outdated = builder.clone().migrate(false).open().await.unwrap_err();
    assert_eq!(outdated.code(), Code::StoreOutdated);
    let mut conn = PgConnection::connect(&scratch.url).await.unwrap();
    let sql = "SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut conn).await.unwrap(), 0);
    migrations.apply().await.unwrap();
    let status = migrations.status().await.unwrap();
    assert_eq!((status.applied, status.pending), (vec![1], vec![]));
    assert!(migrations.dry_run().await.unwrap().is_empty());
    builder.migrate(false).open().await.unwrap().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_compatible_version_ahead_is_served_and_no_more() {
    let scratch = Scratch::database().await;
    PostgresStore::connect(&scratch.url).await.unwrap();
    let newer = "INSERT INTO icp_migration (version, checksum, compatible, applied_at)
        VALUES (2, '', true, 0)";
    run(&scratch.url, newer).await;
    let store = PostgresStore::connect(&scratch.url).await.unwrap();
    store.ingest(batch(0..3)).await.unwrap();
    let status = PostgresStore::builder(&scratch.url).migrations().unwrap().status().await;
    assert_eq!(status.unwrap().newer, [2]);
    run(&scratch.url, "UPDATE icp_migration SET compatible = false WHERE version = 2").await;
    assert_eq!(refusal(&scratch.url).await, Code::StoreTooNew);
    run(&scratch.url, "DELETE FROM icp_migration WHERE version = 2").await;
    run(&scratch.url, "UPDATE icp_migration SET checksum = 'x'").await;
    assert_eq!(refusal(&scratch.url).await, Code::StoreCorrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_someone_else_are_told_and_left_alone() {
    let scratch = Scratch::database().await;
    run(&scratch.url, "CREATE TABLE icp_event (mine int); INSERT INTO icp_event VALUES (7)").await;
    let error = PostgresStore::connect(&scratch.url).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreForeign);
    assert!(error.message().contains("icp_event"), "{error}");
    let mut conn = PgConnection::connect(&scratch.url).await.unwrap();
    let sql = "SELECT array_agg(relname::text) FROM pg_class WHERE relname LIKE 'icp_%'";
    let tables: Vec<String> = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
    assert_eq!(tables, ["icp_event"]);
    let kept: i32 =
        sqlx::query_scalar("SELECT mine FROM icp_event").fetch_one(&mut conn).await.unwrap();
    assert_eq!(kept, 7);
    PostgresStore::builder(&scratch.url).table_prefix("hooks_").open().await.unwrap();
}
