//! Engines on an in-memory store behind a network that fails.

use std::sync::Arc;

use icp_core::store::MemoryStore;
use icp_testkit::faults::{self, remote};

fn main() {
    faults::main("memory", || remote::fixture(Arc::new(MemoryStore::new())));
}
