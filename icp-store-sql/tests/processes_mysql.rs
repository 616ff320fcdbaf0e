//! Processes that share one database of MariaDB.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "fixture/mysql.rs"]
mod server;

use std::sync::Arc;

use icp_core::store::Store;
use icp_store_sql::mysql::MySqlStore;
use icp_testkit::conformance::processes::{self, Database};

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = server::server();
    processes::main(
        "mysql",
        || async {
            let database = server::Database::create().await;
            Database::at(&database.url).guarded_by(database)
        },
        |url| async move { Arc::new(MySqlStore::connect(&url).await.unwrap()) as Arc<dyn Store> },
    );
}
