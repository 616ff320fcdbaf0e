//! Engines on one SQLite file whose clocks differ and jump.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use icp_core::store::Store;
use icp_store_sql::sqlite::SqliteStore;
use icp_testkit::faults;

fn main() {
    faults::main_embedded("sqlite", || async {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("icp.db")).await.unwrap();
        (Arc::new(store) as Arc<dyn Store>, folder)
    });
}
