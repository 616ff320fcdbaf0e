//! Events that are published within the host's own transaction.

use icp::delivery::DeliveryState;
use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use crate::stage::{Backend, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_emits_everything_and_a_rollback_nothing() {
    let stage = Stage::new(Backend::sqlite().await).await;
    stage.integration("crm", json!({})).await;
    let (store, dir) = stage.backend.sqlite.as_ref().unwrap();
    let address = format!("sqlite://{}", dir.path().join("icp.db").display());
    let mut host = SqliteConnection::connect(&address).await.unwrap();
    sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&mut host).await.unwrap();

    let mut committed = Vec::new();
    for order in 0..10_i64 {
        let event = stage.event("order.paid", &json!({ "order": order }));
        let event = stage.engine.accept(event).await.unwrap();
        let mut tx = host.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let insert = sqlx::query("INSERT INTO orders VALUES (?)").bind(order);
        insert.execute(&mut *tx).await.unwrap();
        let id = store.publish_in(&mut tx, &event).await.unwrap();
        if order % 2 == 0 {
            tx.commit().await.unwrap();
            store.hint();
            committed.push(id.to_string());
        } else {
            tx.rollback().await.unwrap();
        }
    }
    stage.settled(DeliveryState::Delivered, 5).await;
    // The relay goes by order, so a rolled-back event would have come before this one.
    let last = stage.publish("order.closed", &json!({})).await;
    stage.settled(DeliveryState::Delivered, 6).await;
    committed.push(last.id.to_string());
    let ids = stage.receiver.seen().ids("/crm");
    assert!(ids.values().all(|count| *count == 1), "{ids:?}");
    committed.sort_unstable();
    assert_eq!(ids.into_keys().collect::<Vec<_>>(), committed);
    let orders: i64 =
        sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut host).await.unwrap();
    assert_eq!(orders, 5);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_while_no_engine_runs_is_delivered_by_the_next() {
    let mut stage = Stage::new(Backend::sqlite().await).await;
    stage.integration("crm", json!({})).await;
    stage.running().shutdown(std::time::Duration::from_secs(5)).await;
    let (store, dir) = stage.backend.sqlite.as_ref().unwrap();
    let address = format!("sqlite://{}", dir.path().join("icp.db").display());
    let mut host = SqliteConnection::connect(&address).await.unwrap();
    let accepted = stage.engine.accept(stage.event("order.paid", &json!({}))).await.unwrap();
    let mut tx = host.begin_with("BEGIN IMMEDIATE").await.unwrap();
    store.publish_in(&mut tx, &accepted).await.unwrap();
    tx.commit().await.unwrap();

    let next = stage.backend.builder().build().unwrap();
    let running = next.start().await.unwrap();
    let delivered = stage.only(DeliveryState::Delivered).await;
    assert_eq!(delivered.event, accepted.id);
    running.shutdown(std::time::Duration::from_secs(5)).await;
    stage.end().await;
}
