//! Engines on MariaDB behind a network that fails.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "fixture/mysql.rs"]
mod server;

use std::sync::Arc;

use icp_core::store::Store;
use icp_store_sql::mysql::MySqlStore;
use icp_testkit::faults::{self, Fixture};
use icp_testkit::proxy::Proxy;

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = server::server();
    faults::main("mysql", || async {
        let database = server::Database::create().await;
        let (proxy, through) = Proxy::in_front_of(&database.url).await;
        let direct = MySqlStore::builder(&database.url).max_connections(4).open().await.unwrap();
        let open = move || {
            let store = MySqlStore::builder(&through).max_connections(8);
            async move { Ok(Arc::new(store.open().await?) as Arc<dyn Store>) }
        };
        Fixture::new(Arc::new(direct), proxy, open).guarded_by(database)
    });
}
