//! Servers that are not there, and roles that may not.

use std::error::Error as _;
use std::time::Duration;

use icp_core::delivery::DeliveryStore as _;
use icp_core::event::EventStore as _;
use icp_core::{Code, Error};
use icp_store_sql::postgres::PostgresStore;

use crate::database::{AtEnd, fresh_name, run, server};
use crate::fixture::batch;
use crate::scratch::Scratch;

async fn refusal(url: &str) -> Error {
    let builder = PostgresStore::builder(url).acquire_timeout(Duration::from_secs(10));
    builder.open().await.unwrap_err()
}

/// `url` for another user.
fn log_in_as(url: &str, user: &str, password: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{user}:{password}@{place}")
}

/// The error, its causes, and how it prints.
fn told(error: &Error) -> String {
    let mut told = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        told.push_str(&cause.to_string());
        source = cause.source();
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_store_from_opening_is_told_without_secrets() {
    let url = server();
    for (url, code) in [
        ("mysql://a:canary-1@localhost/b".to_owned(), Code::ConfigInvalid),
        ("postgres://a:canary-1@localhost:99999/b".to_owned(), Code::ConfigInvalid),
        ("postgres://a:canary-1@127.0.0.1:1/b".to_owned(), Code::StoreUnavailable),
        (log_in_as(&url, "icp", "canary-1"), Code::StoreDenied),
        (log_in_as(&url, "nobody_here", "canary-1"), Code::StoreDenied),
        (format!("{url}_that_is_missing"), Code::StoreUnavailable),
        (format!("{url}?sslmode=require"), Code::StoreUnavailable),
        (format!("{url}?sslmode=canary-1"), Code::ConfigInvalid),
    ] {
        let error = refusal(&url).await;
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.operation(), "open the store");
        assert!(!error.to_string().contains("canary-1"), "{error}");
        let password = !url.contains("sslmode=canary");
        assert!(!password || !told(&error).contains("canary-1"), "{}", told(&error));
    }
    let debug = format!("{:?}", PostgresStore::builder("postgres://a:canary-1@localhost/b"));
    assert!(!debug.contains("canary-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limits_of_zero_are_refused() {
    let builder = || PostgresStore::builder("postgres://localhost/b");
    for (builder, pointer) in [
        (builder().acquire_timeout(Duration::ZERO), "/acquire_timeout"),
        (builder().statement_timeout(Duration::from_micros(999)), "/statement_timeout"),
    ] {
        let error = builder.open().await.unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert_eq!(error.list()[0].pointer, pointer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_need_quotes_are_refused() {
    for builder in [
        PostgresStore::builder(&server()).schema("a\"b"),
        PostgresStore::builder(&server()).table_prefix("x; DROP TABLE y"),
    ] {
        assert_eq!(builder.open().await.unwrap_err().code(), Code::ConfigInvalid);
    }
}

/// One role makes the tables, another, which owns nothing, works with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_few_rights_works_on_tables_that_another_made() {
    let scratch = Scratch::database().await;
    let role = fresh_name();
    run(&scratch.url, &format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await;
    let _drop = AtEnd(format!("DROP ROLE {role}"));
    let scratch = scratch;
    let app = log_in_as(&scratch.url, &role, "pw");
    let error = refusal(&app).await;
    assert_eq!(error.code(), Code::StoreDenied, "{error}");
    PostgresStore::builder(&scratch.url).migrations().unwrap().apply().await.unwrap();
    let store = PostgresStore::connect(&app).await;
    assert_eq!(store.unwrap_err().code(), Code::StoreDenied);
    let grants =
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}");
    run(&scratch.url, &grants).await;
    let store = PostgresStore::builder(&app).migrate(false).open().await.unwrap();
    store.ingest(batch(0..9)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
    store.close().await.unwrap();
    run(&scratch.url, &format!("DROP OWNED BY {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_told() {
    let scratch = Scratch::database().await;
    PostgresStore::connect(&scratch.url).await.unwrap();
    let url = format!("{}?options=-c%20default_transaction_read_only%3Don", scratch.url);
    let store = PostgresStore::connect(&url).await.unwrap();
    let error = store.ingest(batch(0..1)).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreReadOnly, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_held_up_too_long_is_told_and_harms_nothing() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::builder(&scratch.url)
        .statement_timeout(Duration::from_secs(3))
        .open()
        .await
        .unwrap();
    let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(&scratch.url).await.unwrap();
    let mut tx = sqlx::Connection::begin(&mut other).await.unwrap();
    sqlx::Executor::execute(&mut *tx, "LOCK TABLE icp_event").await.unwrap();
    assert_eq!(store.ingest(batch(0..9)).await.unwrap_err().code(), Code::StoreLocked);
    tx.rollback().await.unwrap();
    store.ingest(batch(0..9)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_ended_are_made_again() {
    let scratch = Scratch::database().await;
    let store = PostgresStore::builder(&scratch.url).max_connections(1).open().await.unwrap();
    store.ingest(batch(0..3)).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(&scratch.url, end).await;
    if let Err(error) = store.ingest(batch(3..6)).await {
        assert_eq!(error.code(), Code::StoreUnavailable, "{error}");
    }
    store.ingest(batch(3..6)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
}
