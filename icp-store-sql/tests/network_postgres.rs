//! Engines on PostgreSQL behind a network that fails.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod database;

use std::sync::Arc;

use icp_core::store::Store;
use icp_store_sql::postgres::PostgresStore;
use icp_testkit::faults::{self, Fixture};
use icp_testkit::proxy::Proxy;

use database::{AtEnd, fresh_name, server};

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = server();
    faults::main("postgres", || async {
        let schema = fresh_name();
        let (proxy, through) = Proxy::in_front_of(&server()).await;
        let direct = PostgresStore::builder(&server()).schema(&schema).max_connections(4);
        let direct = direct.open().await.unwrap();
        let guard = AtEnd(format!("DROP SCHEMA {schema} CASCADE"));
        let open = move || {
            let store = PostgresStore::builder(&through).schema(&schema).max_connections(8);
            async move { Ok(Arc::new(store.open().await?) as Arc<dyn Store>) }
        };
        Fixture::new(Arc::new(direct), proxy, open).guarded_by(guard)
    });
}
