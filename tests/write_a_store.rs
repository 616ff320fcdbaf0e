//! The store of the example `write_a_store` shows every registered behaviour.
#![forbid(unsafe_code)]

#[path = "../examples/write_a_store/limit.rs"]
mod limit;

use std::sync::Arc;

use icp::store::MemoryStore;
use icp_testkit::conformance::{self, Fixture};

fn main() {
    conformance::main("limited", || async {
        let memory = MemoryStore::new();
        let outbox = memory.clone();
        Fixture::new(Arc::new(limit::limited(Arc::new(memory), 2)), move |event| {
            let outbox = outbox.clone();
            async move { outbox.publish_in_outbox(event) }
        })
    });
}
