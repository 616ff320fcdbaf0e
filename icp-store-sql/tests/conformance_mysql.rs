//! The MySQL store shows every registered behaviour, on MariaDB.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "fixture/mysql.rs"]
mod server;

use std::sync::Arc;

use icp_store_sql::mysql::{MySqlStore, publish_in};
use icp_testkit::conformance::{self, Fixture};
use sqlx::{Connection, MySqlConnection};

fn main() {
    conformance::main("mysql", || async {
        let database = server::Database::create().await;
        let store = MySqlStore::builder(&database.url).max_connections(4).open().await.unwrap();
        let url = database.url.clone();
        let outbox = move |event| {
            let url = url.clone();
            async move {
                let mut host = MySqlConnection::connect(&url).await.unwrap();
                let mut tx = host.begin().await.unwrap();
                publish_in(&mut tx, &event).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        Fixture::new(Arc::new(store), outbox).guarded_by(database)
    });
}
