//! What every test stands on: a store, a receiver, and an organization.

use std::sync::Arc;
use std::time::Duration;

use icp::delivery::{Delivery, DeliveryQuery, DeliveryState};
use icp::engine::{Engine, EngineBuilder, EngineConfig, Running};
use icp::event::{NewEvent, Published};
use icp::id::{DeliveryId, OrgId, ResourceId};
use icp::resource::{Actor, Document, Draft, Expect};
use icp::secret::LocalKeys;
use icp::store::{MemoryStore, Store};
use icp::store_sql::sqlite::SqliteStore;
use icp_testkit::receiver::{PATIENCE, Receiver};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::{self, Database, Server};

pub(crate) const SIGNING_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const SEALING_KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// A store that is shared between engines.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn Store>,
    /// The same store where it is SQLite, and its folder.
    pub(crate) sqlite: Option<(SqliteStore, TempDir)>,
    database: Option<Database>,
}

impl Backend {
    pub(crate) async fn memory() -> Self {
        Self { store: Arc::new(MemoryStore::new()), sqlite: None, database: None }
    }

    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path().join("icp.db")).await.unwrap();
        Self { store: Arc::new(store.clone()), sqlite: Some((store, dir)), database: None }
    }

    pub(crate) async fn on(server: Server) -> Self {
        let database = Database::create(server).await;
        Self {
            store: database::connect(&database.url).await,
            sqlite: None,
            database: Some(database),
        }
    }

    /// Where the database is, on a server.
    pub(crate) fn url(&self) -> &str {
        &self.database.as_ref().unwrap().url
    }

    /// An engine on the store, with short intervals.
    pub(crate) fn builder(&self) -> EngineBuilder {
        Self::builder_on(Arc::clone(&self.store))
    }

    /// As [`builder`](Self::builder), with connections of its own where the store is a server.
    pub(crate) async fn another_node(&self) -> EngineBuilder {
        let Some(database) = &self.database else { return self.builder() };
        Self::builder_on(database::connect(&database.url).await)
    }

    pub(crate) fn builder_on(store: Arc<dyn Store>) -> EngineBuilder {
        Engine::builder_on(store)
            .keys(LocalKeys::parse(SEALING_KEY).unwrap())
            .allow_loopback()
            .config(config())
    }
}

pub(crate) fn config() -> EngineConfig {
    let mut config = EngineConfig::default();
    config.poll = Duration::from_millis(500);
    config.feed = Duration::from_millis(20);
    config.sweep = Duration::from_millis(50);
    config.relay = Duration::from_millis(20);
    config
}

/// A running engine with the organization `acme` and a receiver.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) backend: Backend,
    pub(crate) engine: Engine,
    pub(crate) receiver: Receiver,
    pub(crate) org: OrgId,
    running: Option<Running>,
}

impl Stage {
    pub(crate) async fn new(backend: Backend) -> Self {
        let engine = backend.builder().build().unwrap();
        Self::with(backend, engine).await
    }

    pub(crate) async fn with(backend: Backend, engine: Engine) -> Self {
        let org = OrgId::new("acme").unwrap();
        create(&engine, &org, "organization", None, json!({})).await.unwrap();
        let running = Some(engine.start().await.unwrap());
        let receiver = Receiver::start().await;
        Self { backend, engine, receiver, org, running }
    }

    /// Makes an integration that sends every event to `/<id>` of the receiver and holds nothing
    /// back where that fails, with what `more` sets or changes.
    pub(crate) async fn integration(&self, id: &str, more: Value) -> Document {
        let spec = self.spec(id, more);
        create(&self.engine, &self.org, "integration", Some(id), spec).await.unwrap()
    }

    pub(crate) fn spec(&self, id: &str, more: Value) -> Value {
        let mut spec = json!({
            "events": ["**"],
            "target": { "kind": "http", "url": self.receiver.url(&format!("/{id}")) },
            "signing": { "keys": [{ "secret": SIGNING_SECRET }] },
            "retry": { "schedule": { "type": "list", "delays_seconds": [0, 0, 0] } },
            "breaker": { "enabled": false },
        });
        for (name, value) in more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        spec
    }

    /// Changes fields of an integration's spec.
    pub(crate) async fn change(&self, id: &str, fields: Value) {
        let (id, patch) = (ResourceId::new(id).unwrap(), json!({ "spec": fields }));
        let resources = self.engine.resources();
        let actor = Actor::engine();
        resources
            .merge_patch(&self.org, "integration", &id, &patch, Expect::Present, &actor)
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, id: &str) {
        let id = ResourceId::new(id).unwrap();
        let resources = self.engine.resources();
        let (expect, actor) = (Expect::Present, Actor::engine());
        resources.delete(&self.org, "integration", &id, expect, &actor).await.unwrap();
    }

    pub(crate) fn event(&self, event_type: &str, body: &Value) -> NewEvent {
        NewEvent::json(self.org.as_str(), event_type, body).unwrap()
    }

    pub(crate) async fn publish(&self, event_type: &str, body: &Value) -> Published {
        self.engine.publish(self.event(event_type, body)).await.unwrap()
    }

    /// The deliveries of the organization, oldest first.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        let query = DeliveryQuery::default();
        let mut found = self.engine.deliveries(&self.org, &query).await.unwrap().items;
        found.reverse();
        found
    }

    /// The only delivery there is, once it is in `state`.
    pub(crate) async fn only(&self, state: DeliveryState) -> Delivery {
        self.until(async || {
            let found = self.deliveries().await;
            assert!(found.len() <= 1, "{found:?}");
            found.into_iter().find(|delivery| delivery.state == state)
        })
        .await
    }

    /// The delivery `id`, once it is in `state`.
    pub(crate) async fn reaches(&self, id: DeliveryId, state: DeliveryState) -> Delivery {
        self.until(async || {
            let delivery = self.engine.delivery(&self.org, id).await.unwrap();
            (delivery.state == state).then_some(delivery)
        })
        .await
    }

    /// Waits until `count` deliveries are in `state`.
    pub(crate) async fn settled(&self, state: DeliveryState, count: u64) {
        self.until(async || {
            let counts = self.engine.counts().await.unwrap();
            let found = counts.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
            (found == count).then_some(())
        })
        .await;
    }

    /// Asks again and again until there is an answer; where none comes, fails and shows the
    /// deliveries.
    pub(crate) async fn until<T>(&self, ask: impl AsyncFn() -> Option<T>) -> T {
        let asked = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => panic!("waited in vain: {:#?}", self.deliveries().await),
        }
    }

    pub(crate) fn running(&mut self) -> Running {
        self.running.take().unwrap()
    }

    /// Stops the engine and checks every invariant.
    pub(crate) async fn end(mut self) {
        if let Some(running) = self.running.take() {
            let drained = running.shutdown(Duration::from_secs(5)).await;
            assert_eq!(drained.unsettled, 0, "{drained:?}");
        }
        let audit = self.engine.verify().await.unwrap();
        assert!(audit.is_clean(), "{audit:?}");
        assert!(self.engine.metrics().render().contains("icp_lanes_asleep_total 0"));
    }
}

pub(crate) async fn create(
    engine: &Engine,
    org: &OrgId,
    kind: &str,
    id: Option<&str>,
    spec: Value,
) -> icp::Result<Document> {
    let id = id.map(|id| ResourceId::new(id).unwrap());
    let draft = Draft { id, spec, ..Draft::default() };
    engine.resources().create(org, kind, draft, &Actor::engine()).await
}
