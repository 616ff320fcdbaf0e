//! Databases that are used again.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use icp_store_mongo::mongodb::bson::{Document, doc};
use icp_store_mongo::mongodb::{Client, Database, error};

/// How to get the server that the tests need.
pub(crate) const REMEDY: &str = "start it with `scripts/services up mongo`, and export what \
     `scripts/services env` prints";

const PREFIX: &str = "icp_conformance_";

static SERIAL: AtomicU32 = AtomicU32::new(0);
/// Databases that are empty again. The server keeps the files of a dropped one open for minutes,
/// and each has some sixty, so that a database is used by many behaviours, one after the other.
static EMPTY: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The address of the replica set that the tests need.
#[expect(clippy::disallowed_methods, reason = "the environment names the server")]
pub(crate) fn url() -> String {
    std::env::var("ICP_TEST_MONGODB_URL")
        .unwrap_or_else(|_| panic!("ICP_TEST_MONGODB_URL is not set: {REMEDY}"))
}

/// A database of this process; those of processes that are over are dropped.
pub(crate) async fn database(url: &str) -> String {
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
                // Another program of the tests may be at it.
                let _ = client.database(&name).drop().await;
            }
        }
    }
    format!("{PREFIX}{}_{serial}", std::process::id())
}

/// Empties the behaviour's database when it is over.
pub(crate) struct Emptied(pub(crate) Database);

impl Drop for Emptied {
    fn drop(&mut self) {
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| handle.block_on(empty(&self.0)).unwrap());
        EMPTY.lock().unwrap().push(self.0.name().to_owned());
    }
}

async fn empty(database: &Database) -> error::Result<()> {
    for name in database.list_collection_names().await? {
        database.collection::<Document>(&name).delete_many(doc! {}).await?;
    }
    Ok(())
}
