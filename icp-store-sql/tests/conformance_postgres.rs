//! The PostgreSQL store shows every registered behaviour, under names that are not the default
//! ones, so that no statement misses them.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod database;

use std::sync::Arc;

use icp_store_sql::postgres::PostgresStore;
use icp_testkit::conformance::{self, Fixture};
use sqlx::{Connection, PgConnection};

use database::{AtEnd, fresh_name, server};

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = server();
    conformance::main("postgres", || async {
        let schema = fresh_name();
        let store = PostgresStore::builder(&server()).schema(&schema).table_prefix("hooks_");
        let store = store.max_connections(6).open().await.unwrap();
        let guard = AtEnd(format!("DROP SCHEMA {schema} CASCADE"));
        let publisher = store.clone();
        let outbox = move |event| {
            let publisher = publisher.clone();
            async move {
                let mut host = PgConnection::connect(&server()).await.unwrap();
                let mut tx = host.begin().await.unwrap();
                publisher.publish_in(&mut tx, &event).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        Fixture::new(Arc::new(store), outbox).guarded_by(guard)
    });
}
