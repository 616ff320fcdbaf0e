//! MongoDB is killed right after one write of an operation, for each of those in turn that do not
//! wait for the journal: the server has lost it when it is back, and what the operation does after
//! that reaches it then.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icp::Engine;
use icp::event::{EventStore, NewEvent};
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::store_mongo::MongoStore;
use icp::store_mongo::mongodb::Client;
use icp::store_mongo::mongodb::bson::{Document, doc};
use icp::store_mongo::mongodb::event::EventHandler;
use icp::store_mongo::mongodb::event::command::CommandEvent;
use icp::store_mongo::mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use icp_testkit::conformance::Fixture;
use icp_testkit::conformance::losses::{Crash, OPERATIONS, Operation};
use serde_json::json;
use tokio::task::JoinSet;

use crate::server::{Kind, Server};

/// More writes than any operation has.
const MOST: i64 = 40;

pub(crate) async fn lose_nothing() {
    let server = Arc::new(Server::start(Kind::Mongo).await);
    let (mut lost, mut failed) = (0, Vec::new());
    for operation in OPERATIONS {
        match lose_each(&server, operation).await {
            Ok(writes) => lost += writes,
            Err(at) => failed.push(format!("{} without its write {at}", operation.name)),
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(lost > 0, "no write was lost");
}

/// Does the operation for each write that may be lost; answers how many those are, or at which it
/// failed.
async fn lose_each(server: &Arc<Server>, operation: &'static Operation) -> Result<i64, i64> {
    for at in 0..MOST {
        let server = Arc::clone(server);
        let mut run = JoinSet::new();
        run.spawn(async move { lose(&server, operation, at).await });
        match run.join_next().await.unwrap() {
            Ok(true) => {}
            Ok(false) => return Ok(at),
            Err(_) => return Err(at),
        }
    }
    Err(MOST)
}

/// Does the operation and loses the write `at`; answers whether there is one.
async fn lose(server: &Arc<Server>, operation: &Operation, at: i64) -> bool {
    let killer = Arc::new(Killer::new(Arc::clone(server), at));
    let mut options = ClientOptions::parse(&server.url).await.unwrap();
    let told = Arc::clone(&killer);
    options.command_event_handler = Some(EventHandler::callback(move |event| told.hear(&event)));
    let client = Client::with_options(options).unwrap();
    let name = format!("{}_{at}", operation.name);
    let (database, admin) = (client.database(&name), client.database("admin"));
    let store = MongoStore::with_client(client, &name).await.unwrap();
    let fixture = Fixture::new(Arc::new(store), |_| async {});
    let arm = Arc::clone(&killer);
    let crash = Crash::new(move |armed| arm.armed.store(armed, Ordering::Relaxed));
    (operation.run)(fixture, crash).await;
    // A server that comes back goes through all that was written since it last did this.
    database.drop().await.unwrap();
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    killer.left.load(Ordering::Relaxed) < 0
}

/// A publish is told that it repeats another one, which is still waiting for the journal: what was
/// told stands.
pub(crate) async fn keep_what_is_repeated() {
    let server = Server::start(Kind::Mongo).await;
    let client = Client::with_uri_str(&server.url).await.unwrap();
    let store = MongoStore::with_client(client.clone(), "repeats").await.unwrap();
    let engine = Engine::builder(store.clone()).build().unwrap();
    let running = engine.start().await.unwrap();
    let (org, host) = (OrgId::new("acme").unwrap(), Actor::host());
    let draft = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", draft, &host).await.unwrap();
    let event = || {
        let event = NewEvent::json("acme", "order.paid", &17).unwrap();
        event.idempotency_key("order-17")
    };
    let first = engine.publish(event()).await.unwrap();
    // As though the first were still about to be answered.
    let events = client.database("repeats").collection::<Document>("icp_event");
    let kept = events.find_one_and_delete(doc! {}).await.unwrap().unwrap();
    let light = WriteConcern::builder().w(Acknowledgment::Nodes(1)).journal(false).build();
    events.insert_one(kept).write_concern(light).await.unwrap();
    let second = engine.publish(event()).await.unwrap();
    tokio::task::block_in_place(|| server.crash());
    assert_eq!((second.id, second.duplicate), (first.id, true));
    assert!(store.event(&org, first.id).await.unwrap().is_some(), "the event is lost");
    running.shutdown(Duration::from_secs(5)).await;
}

/// Kills the server once a certain write is answered.
struct Killer {
    server: Arc<Server>,
    armed: AtomicBool,
    /// How many writes are still to be let through.
    left: AtomicI64,
    /// The requests of such writes that are under way.
    light: Mutex<HashSet<i32>>,
}

impl Killer {
    fn new(server: Arc<Server>, at: i64) -> Self {
        let (armed, light) = (AtomicBool::new(false), Mutex::default());
        Self { server, armed, left: AtomicI64::new(at), light }
    }

    /// Is called by the driver before whoever waits for the answer has it.
    fn hear(&self, event: &CommandEvent) {
        match event {
            CommandEvent::Started(started)
                if self.armed.load(Ordering::Relaxed) && is_light(&started.command) =>
            {
                self.light.lock().unwrap().insert(started.request_id);
            }
            CommandEvent::Succeeded(done) => {
                let light = self.light.lock().unwrap().remove(&done.request_id);
                if light && self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
                    self.server.crash();
                }
            }
            _ => {}
        }
    }
}

/// Whether it is a write that does not wait for the journal.
fn is_light(command: &Document) -> bool {
    let writes = ["insert", "update", "delete", "findAndModify"];
    let journal = command.get_document("writeConcern").and_then(|concern| concern.get_bool("j"));
    writes.iter().any(|name| command.contains_key(name)) && !journal.unwrap_or(false)
}
