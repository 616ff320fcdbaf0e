//! Nodes that doze where there is nothing to do, on a server whose hints they hear.

use std::time::Duration;

use icp::delivery::DeliveryState;
use icp::engine::{Engine, EngineConfig};
use icp::event::NewEvent;
use icp::id::SessionId;
use icp::time::{Clock, SystemClock};
use icp_testkit::receiver::Reaction;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use crate::database::Server;
use crate::stage::{Backend, Stage, config, create};

/// A node that hears nothing looks at everything after a minute only.
const DOZE: Duration = Duration::from_secs(6);
/// A node that dozes early; it looks at the outbox 12 times a second, and at everything after 2.5 s.
const SOON: Duration = Duration::from_millis(250);

fn dozing_after(doze: Duration) -> EngineConfig {
    let mut config = config();
    config.doze = doze;
    config.beat = Duration::from_millis(100);
    config
}

async fn stage(doze: Duration) -> Stage {
    let backend = Backend::on(Server::Postgres).await;
    let engine = backend.builder().config(dozing_after(doze)).build().unwrap();
    let stage = Stage::with(backend, engine).await;
    stage.integration("crm", json!({})).await;
    stage
}

/// Another program on the same database.
async fn another(stage: &Stage, doze: Duration) -> Engine {
    stage.backend.another_node().await.config(dozing_after(doze)).build().unwrap()
}

fn dozes(engine: &Engine) -> bool {
    engine.metrics().render().contains("icp_dozing 1")
}

async fn until_it_dozes(stage: &Stage, engine: &Engine) {
    stage.until(async || dozes(engine).then_some(())).await;
}

async fn sessions(stage: &Stage) -> usize {
    stage.backend.store.sessions().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_dozes_without_a_session_and_is_roused_by_who_uses_it() {
    let stage = stage(SOON).await;
    for count in 1..=3 {
        until_it_dozes(&stage, &stage.engine).await;
        assert_eq!(sessions(&stage).await, 0);
        stage.publish("order.paid", &json!(count)).await;
        stage.settled(DeliveryState::Delivered, count).await;
        assert_eq!(sessions(&stage).await, 1);
    }
    until_it_dozes(&stage, &stage.engine).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_wrote_meanwhile_is_known_to_the_first_event() {
    let stage = stage(SOON).await;
    until_it_dozes(&stage, &stage.engine).await;
    let other = another(&stage, SOON).await;
    let spec = stage.spec("ops", json!({}));
    create(&other, &stage.org, "integration", Some("ops"), spec).await.unwrap();
    let published = stage.publish("order.paid", &json!({})).await;
    assert_eq!(published.deliveries, 2);
    stage.settled(DeliveryState::Delivered, 2).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_only_publishes_rouses_the_node_that_delivers() {
    let stage = stage(DOZE).await;
    until_it_dozes(&stage, &stage.engine).await;
    let other = another(&stage, DOZE).await;
    let begun = Instant::now();
    other.publish(NewEvent::json("acme", "order.paid", &json!({})).unwrap()).await.unwrap();
    stage.settled(DeliveryState::Delivered, 1).await;
    assert!(begun.elapsed() < DOZE, "{:?}", begun.elapsed());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_rouses_itself_for_a_retry() {
    let stage = stage(SOON).await;
    let retry = json!({ "schedule": { "type": "list", "delays_seconds": [2] } });
    stage.change("crm", json!({ "retry": retry })).await;
    stage.receiver.behave("/crm", Reaction::Status(500));
    let begun = Instant::now();
    stage.publish("order.paid", &json!({})).await;
    stage.until(async || (stage.receiver.seen().count("/crm") == 1).then_some(())).await;
    stage.receiver.behave("/crm", Reaction::OK);
    until_it_dozes(&stage, &stage.engine).await;
    assert_eq!(stage.receiver.seen().count("/crm"), 1, "it dozes while it waits");
    stage.settled(DeliveryState::Delivered, 1).await;
    assert!(begun.elapsed() > Duration::from_millis(1_500), "{:?}", begun.elapsed());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_a_hint_is_found_and_keeps_the_node_awake() {
    let stage = stage(SOON).await;
    until_it_dozes(&stage, &stage.engine).await;
    let mut host = PgConnection::connect(stage.backend.url()).await.unwrap();
    let other = another(&stage, SOON).await;
    let accepted = other.accept(stage.event("order.paid", &json!({})));
    let accepted = accepted.await.unwrap();
    assert!(dozes(&stage.engine));
    let mut tx = host.begin().await.unwrap();
    icp::store_sql::postgres::publish_in(&mut tx, &accepted).await.unwrap();
    tx.commit().await.unwrap();
    stage.settled(DeliveryState::Delivered, 1).await;
    tokio::time::sleep(SOON * 8).await;
    assert!(!dozes(&stage.engine), "it looks for more such rows");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_deaf_stays_awake() {
    let backend = Backend::on(Server::Postgres).await;
    let store = icp::store_sql::postgres::PostgresStore::builder(backend.url()).listen(false);
    let store = std::sync::Arc::new(store.open().await.unwrap());
    let engine = Backend::builder_on(store).config(dozing_after(SOON)).build().unwrap();
    let stage = Stage::with(backend, engine).await;
    tokio::time::sleep(SOON * 8).await;
    assert!(!dozes(&stage.engine));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_nodes_doze_and_see_that_one_is_dead() {
    let stage = stage(SOON).await;
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let node = another(&stage, SOON).await;
        nodes.push((node.start().await.unwrap(), node));
    }
    for (_, node) in &nodes {
        until_it_dozes(&stage, node).await;
    }
    // Each looks about now and then, and has a session for that.
    stage.until(async || (sessions(&stage).await == 0).then_some(())).await;
    stage.until(async || (sessions(&stage).await > 0).then_some(())).await;

    let session = SessionId::from_bytes([7; 16]);
    stage.backend.store.open_session(session, SystemClock.now()).await.unwrap();
    let dead = async || {
        let sessions = stage.backend.store.sessions().await.unwrap();
        sessions.iter().all(|beat| beat.session != session).then_some(())
    };
    stage.until(dead).await;
    for (running, node) in nodes {
        until_it_dozes(&stage, &node).await;
        running.shutdown(Duration::from_secs(5)).await;
    }
    stage.publish("order.paid", &json!({})).await;
    stage.settled(DeliveryState::Delivered, 1).await;
    stage.end().await;
}
