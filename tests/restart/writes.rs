//! MongoDB is killed right after one write of an operation, for each of those in turn that do not
//! wait for the journal: the server has lost it when it is back, and what the operation does after
//! that reaches it then.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icp::Engine;
use icp::event::{EventStore, NewEvent};
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::store_mongo::MongoStore;
use icp::store_mongo::mongodb::Client;
use icp::store_mongo::mongodb::bson::{Bson, Document, doc};
use icp::store_mongo::mongodb::event::EventHandler;
use icp::store_mongo::mongodb::event::command::CommandEvent;
use icp::store_mongo::mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use icp_testkit::conformance::Fixture;
use icp_testkit::conformance::losses::{Crash, OPERATIONS, Operation};
use serde_json::json;
use tokio::task::JoinSet;

use crate::server::{Kind, Server};

/// More writes than any operation has.
const MOST: usize = 40;
/// How often an operation is done again where the server has written its journal before it died.
const TRIES: usize = 20;

pub(crate) async fn lose_nothing() {
    let server = Arc::new(Server::start(Kind::Mongo).await);
    let mut failed = Vec::new();
    for operation in OPERATIONS {
        if let Err(what) = lose_each(&server, operation).await {
            failed.push(format!("{}: {what}", operation.name));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// What has become of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// The operation has not so many.
    None,
    Kept,
    Lost,
}

/// Does the operation for each write that may be lost.
async fn lose_each(server: &Arc<Server>, operation: &'static Operation) -> Result<(), String> {
    for at in 0..MOST {
        let mut fate = Fate::Kept;
        for serial in 0..TRIES {
            let server = Arc::clone(server);
            let mut run = JoinSet::new();
            run.spawn(async move { lose(&server, operation, at, serial).await });
            let ended = run.join_next().await.unwrap();
            fate = ended.map_err(|_| format!("fails without its write {at}"))?;
            if fate != Fate::Kept {
                break;
            }
        }
        match fate {
            Fate::Lost => {}
            Fate::None if at > 0 => return Ok(()),
            _ => return Err(format!("{fate:?} at its write {at}, so that nothing is shown")),
        }
    }
    Err("comes to no end".to_owned())
}

/// Does the operation and loses the write `at`.
async fn lose(server: &Arc<Server>, operation: &Operation, at: usize, serial: usize) -> Fate {
    let killer = Arc::new(Killer::new(Arc::clone(server), at));
    let mut options = ClientOptions::parse(&server.url).await.unwrap();
    let told = Arc::clone(&killer);
    options.command_event_handler = Some(EventHandler::callback(move |event| told.hear(&event)));
    let client = Client::with_options(options).unwrap();
    let name = format!("{}_{at}_{serial}", operation.name);
    let (database, admin) = (client.database(&name), client.database("admin"));
    let store = MongoStore::with_client(client.clone(), &name).await.unwrap();
    let fixture = Fixture::new(Arc::new(store), |_| async {});
    let arm = Arc::clone(&killer);
    let crash = Crash::new(move |armed| arm.armed.store(armed, Ordering::Relaxed));
    (operation.run)(fixture, crash).await;
    let fate = killer.fate(&client).await;
    // A server that comes back goes through all that was written since it last did this.
    database.drop().await.unwrap();
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    fate
}

/// A publish is told that it repeats another one, which is still waiting for the journal: what was
/// told stands.
pub(crate) async fn keep_what_is_repeated() {
    assert!(publish_and_crash("repeats", true).await, "the event is lost");
    let (mut kept, mut serial) = (true, 0);
    while kept && serial < TRIES {
        kept = publish_and_crash(&format!("alone_{serial}"), false).await;
        serial += 1;
    }
    assert!(!kept, "the event is there without its repeat too, so that nothing is shown");
}

/// Publishes once, or once more before the first has waited for the journal, and kills the server;
/// answers whether the event is there.
async fn publish_and_crash(name: &str, again: bool) -> bool {
    let server = Server::start(Kind::Mongo).await;
    let client = Client::with_uri_str(&server.url).await.unwrap();
    let store = MongoStore::with_client(client.clone(), name).await.unwrap();
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
    let events = client.database(name).collection::<Document>("icp_event");
    let kept = events.find_one_and_delete(doc! {}).await.unwrap().unwrap();
    let light = WriteConcern::builder().w(Acknowledgment::Nodes(1)).journal(false).build();
    events.insert_one(kept).write_concern(light).await.unwrap();
    if again {
        let second = engine.publish(event()).await.unwrap();
        assert_eq!((second.id, second.duplicate), (first.id, true));
    }
    tokio::task::block_in_place(|| server.crash());
    let kept = store.event(&org, first.id).await.unwrap().is_some();
    running.shutdown(Duration::from_secs(5)).await;
    kept
}

/// Kills the server once a certain write is answered.
struct Killer {
    server: Arc<Server>,
    armed: AtomicBool,
    at: usize,
    seen: Mutex<Seen>,
}

/// What a killer has heard of writes that do not wait for the journal.
#[derive(Default)]
struct Seen {
    /// The requests that are under way.
    open: HashSet<i32>,
    /// How many have changed something.
    done: usize,
    /// The place in the log of the one that the server was killed after.
    last: Option<Bson>,
}

impl Killer {
    fn new(server: Arc<Server>, at: usize) -> Self {
        Self { server, at, armed: AtomicBool::new(false), seen: Mutex::default() }
    }

    /// Is called by the driver before whoever waits for the answer has it.
    fn hear(&self, event: &CommandEvent) {
        match event {
            CommandEvent::Started(started)
                if self.armed.load(Ordering::Relaxed) && is_light(&started.command) =>
            {
                self.seen.lock().unwrap().open.insert(started.request_id);
            }
            CommandEvent::Succeeded(done) => {
                let mut seen = self.seen.lock().unwrap();
                if !seen.open.remove(&done.request_id) || !changed(&done.reply) {
                    return;
                }
                seen.done += 1;
                if seen.done == self.at + 1 {
                    seen.last = done.reply.get("operationTime").cloned();
                    drop(seen);
                    tokio::task::block_in_place(|| self.server.crash());
                }
            }
            _ => {}
        }
    }

    /// What has become of the write that the server was killed after.
    async fn fate(&self, client: &Client) -> Fate {
        let Some(last) = self.seen.lock().unwrap().last.clone() else { return Fate::None };
        let log = client.database("local").collection::<Document>("oplog.rs");
        let found = log.find_one(doc! { "ts": last }).await.unwrap();
        if found.is_some() { Fate::Kept } else { Fate::Lost }
    }
}

/// Whether it is a write that does not wait for the journal.
fn is_light(command: &Document) -> bool {
    let writes = ["insert", "update", "delete", "findAndModify"];
    let journal = command.get_document("writeConcern").and_then(|concern| concern.get_bool("j"));
    writes.iter().any(|name| command.contains_key(name)) && !journal.unwrap_or(false)
}

/// Whether a write has changed anything, by its answer.
fn changed(reply: &Document) -> bool {
    let changed = if reply.contains_key("nModified") { "nModified" } else { "n" };
    reply.get_i32(changed).is_ok_and(|count| count > 0)
}
