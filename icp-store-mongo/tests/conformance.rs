//! The MongoDB store shows every registered behaviour, on a real replica set.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(clippy::disallowed_methods, reason = "the environment names the server")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use icp_store_mongo::{MongoStore, mongodb};
use icp_testkit::conformance::{self, Fixture};
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};

/// How to get the server that the tests need.
const REMEDY: &str = "start it with `scripts/services up mongo`, and export what \
     `scripts/services env` prints";

static SERIAL: AtomicU32 = AtomicU32::new(0);
/// Databases that are empty again. The server keeps the files of a dropped one open for minutes,
/// and each has some sixty, so that a database is used by many behaviours, one after the other.
static EMPTY: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Empties the behaviour's database.
struct Emptied(Database);

impl Drop for Emptied {
    fn drop(&mut self) {
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| handle.block_on(empty(&self.0)).unwrap());
        EMPTY.lock().unwrap().push(self.0.name().to_owned());
    }
}

async fn empty(database: &Database) -> mongodb::error::Result<()> {
    for name in database.list_collection_names().await? {
        database.collection::<Document>(&name).delete_many(doc! {}).await?;
    }
    Ok(())
}

/// A database of this process; those of processes that are over are dropped.
async fn database(url: &str) -> String {
    let empty = EMPTY.lock().unwrap().pop();
    if let Some(name) = empty {
        return name;
    }
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    if serial == 0 {
        let client = Client::with_uri_str(url).await.unwrap();
        for name in client.list_database_names().await.unwrap_or_default() {
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                client.database(&name).drop().await.unwrap();
            }
        }
    }
    format!("{PREFIX}{}_{serial}", std::process::id())
}

const PREFIX: &str = "icp_conformance_";

fn main() {
    conformance::main("mongodb", || async {
        let url = std::env::var("ICP_TEST_MONGODB_URL");
        let url = url.unwrap_or_else(|_| panic!("ICP_TEST_MONGODB_URL is not set: {REMEDY}"));
        let name = database(&url).await;
        let store = MongoStore::builder(url).database(name).connect().await;
        let store = store.unwrap_or_else(|error| panic!("no replica set: {error}; {REMEDY}"));
        let guard = Emptied(store.database().clone());
        let host = store.clone();
        let outbox = move |event| {
            let host = host.clone();
            async move {
                let mut session = host.client().start_session().await.unwrap();
                session.start_transaction().await.unwrap();
                host.publish_in(&mut session, &event).await.unwrap();
                session.commit_transaction().await.expect("the host's transaction commits");
            }
        };
        Fixture::new(Arc::new(store), outbox).guarded_by(guard)
    });
}
