//! Processes that share one schema of PostgreSQL.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod database;

use std::sync::Arc;

use icp_core::store::Store;
use icp_store_sql::postgres::PostgresStore;
use icp_testkit::conformance::processes::{self, Database};

use database::{AtEnd, fresh_name, server};

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = server();
    processes::main(
        "postgres",
        || async {
            let schema = fresh_name();
            let guard = AtEnd(format!("DROP SCHEMA IF EXISTS {schema} CASCADE"));
            Database::at(schema).guarded_by(guard)
        },
        |schema| async move {
            let store = PostgresStore::builder(&server()).schema(schema).open().await;
            Arc::new(store.unwrap()) as Arc<dyn Store>
        },
    );
}
