//! The MySQL store shows every registered behaviour, on MariaDB, under names that are not the
//! default ones, so that no statement misses them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "fixture/mysql.rs"]
mod server;

use std::sync::Arc;

use icp_store_sql::mysql::MySqlStore;
use icp_testkit::conformance::{self, Fixture};
use sqlx::{Connection, MySqlConnection};

fn main() {
    conformance::main("mysql", || async {
        let database = server::Database::create().await;
        let store = MySqlStore::builder(&database.url).table_prefix("hooks_");
        let store = store.max_connections(6).open().await.unwrap();
        let (url, publisher) = (database.url.clone(), store.clone());
        let outbox = move |event| {
            let (url, publisher) = (url.clone(), publisher.clone());
            async move {
                let mut host = MySqlConnection::connect(&url).await.unwrap();
                let mut tx = host.begin().await.unwrap();
                publisher.publish_in(&mut tx, &event).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        Fixture::new(Arc::new(store), outbox).guarded_by(database)
    });
}
