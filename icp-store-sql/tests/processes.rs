//! Processes that share one SQLite file.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use icp_core::store::Store;
use icp_store_sql::sqlite::SqliteStore;
use icp_testkit::conformance::processes::{self, Database};

fn main() {
    processes::main(
        "sqlite",
        || async {
            let folder = tempfile::tempdir().unwrap();
            Database::at(folder.path().join("icp.db").to_str().unwrap()).guarded_by(folder)
        },
        |path| async move { Arc::new(SqliteStore::open(path).await.unwrap()) as Arc<dyn Store> },
    );
}
