//! The in-memory store keeps the contract of a store.

use std::sync::Arc;

use icp_core::store::MemoryStore;
use icp_testkit::conformance::{self, Fixture};

fn main() {
    conformance::main("memory", || async {
        let store = MemoryStore::new();
        let outbox = store.clone();
        Fixture::new(Arc::new(store), move |event| {
            let outbox = outbox.clone();
            async move { outbox.publish_in_outbox(event) }
        })
    });
}
