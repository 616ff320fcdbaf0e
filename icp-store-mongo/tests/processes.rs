//! Processes that share one database of MongoDB.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod database;

use std::sync::Arc;

use icp_core::store::Store;
use icp_store_mongo::MongoStore;
use icp_testkit::conformance::processes::{self, Database};

use database::{Emptied, REMEDY, database, url};

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = url();
    processes::main(
        "mongodb",
        || async {
            let name = database(&url()).await;
            let store = open(&name).await;
            Database::at(name).guarded_by(Emptied(store.database().clone()))
        },
        |name| async move { Arc::new(open(&name).await) as Arc<dyn Store> },
    );
}

async fn open(name: &str) -> MongoStore {
    let store = MongoStore::builder(url()).database(name).connect().await;
    store.unwrap_or_else(|error| panic!("no replica set: {error}; {REMEDY}"))
}
