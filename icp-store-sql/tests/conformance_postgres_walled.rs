//! The PostgreSQL store shows every registered behaviour behind row-level security, as a role that
//! owns nothing, under names that are not the default ones.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod database;
#[path = "database/role.rs"]
mod role;

use std::sync::Arc;

use icp_store_sql::postgres::PostgresStore;
use icp_testkit::conformance::{self, Fixture};
use sqlx::{Connection, PgConnection};

use database::{AtEnd, fresh_name, server};
use role::Role;

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = server();
    conformance::main("postgres_walled", || async {
        let (schema, role) = (fresh_name(), Role::create().await);
        let builder = |url: &str| {
            PostgresStore::builder(url).schema(&schema).table_prefix("hooks_").max_connections(6)
        };
        let owner = builder(&server());
        owner.migrations().unwrap().apply().await.unwrap();
        owner.row_security().unwrap().apply(&role.name).await.unwrap();
        let url = role.log_in(&server());
        let store = builder(&url).row_level_security(true).open().await.unwrap();
        let guard = (AtEnd(format!("DROP SCHEMA {schema} CASCADE")), role);
        let publisher = store.clone();
        let outbox = move |event| {
            let (publisher, url) = (publisher.clone(), url.clone());
            async move {
                let mut host = PgConnection::connect(&url).await.unwrap();
                let mut tx = host.begin().await.unwrap();
                publisher.publish_in(&mut tx, &event).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        Fixture::new(Arc::new(store), outbox).guarded_by(guard)
    });
}
