//! The MongoDB store shows every registered behaviour, on a real replica set.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the environment names the server")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use icp_store_mongo::MongoStore;
use icp_testkit::conformance::{self, Fixture};
use icp_store_mongo::mongodb::Database;

/// How to get the server that the tests need.
const REMEDY: &str = "start it with `scripts/services up mongo`, and export what \
     `scripts/services env` prints";

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Drops the behaviour's database.
struct Dropped(Database);

impl Drop for Dropped {
    fn drop(&mut self) {
        tokio::task::block_in_place(|| {
            let _ = tokio::runtime::Handle::current().block_on(self.0.drop().into_future());
        });
    }
}

fn main() {
    conformance::main("mongodb", || async {
        let url = std::env::var("ICP_TEST_MONGODB_URL");
        let url = url.unwrap_or_else(|_| panic!("ICP_TEST_MONGODB_URL is not set: {REMEDY}"));
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("icp_conformance_{}_{serial}", std::process::id());
        let store = MongoStore::builder(url).database(name).connect().await;
        let store = store.unwrap_or_else(|error| panic!("no replica set: {error}; {REMEDY}"));
        let guard = Dropped(store.database().clone());
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
