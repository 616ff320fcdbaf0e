//! The MongoDB store shows every registered behaviour, on a real replica set.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod database;

use std::sync::Arc;

use icp_store_mongo::MongoStore;
use icp_testkit::conformance::{self, Fixture};

use database::{Emptied, REMEDY, database, url};

fn main() {
    conformance::main("mongodb", || async {
        let name = database(&url()).await;
        let store = MongoStore::builder(url()).database(name).connect().await;
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
