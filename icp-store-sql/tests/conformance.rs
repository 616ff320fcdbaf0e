//! The SQLite store shows every registered behaviour.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use icp_store_sql::sqlite::{SqliteStore, publish_in};
use icp_testkit::conformance::{self, Fixture};
use sqlx::{Connection, SqliteConnection};

fn main() {
    conformance::main("sqlite", || async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("icp.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let url = Arc::new(format!("sqlite://{}", path.display()));
        let outbox = move |event| {
            let url = Arc::clone(&url);
            async move {
                let mut host = SqliteConnection::connect(&url).await.unwrap();
                let mut tx = host.begin().await.unwrap();
                publish_in(&mut tx, &event).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        Fixture::new(Arc::new(store), outbox).guarded_by(dir)
    });
}
