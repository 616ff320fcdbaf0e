//! Who calls.

use std::hint::black_box;

use icp::resource::Actor;
use icp::store::MemoryStore;
use serde_json::json;

use crate::{Round, organization, transform};

/// Proves who holds an API key that this node has seen before.
#[must_use]
pub fn key() -> Round {
    let runtime = transform::runtime();
    let engine = organization::engine(&MemoryStore::new());
    let key = runtime.block_on(async {
        let org = organization::create(&engine, "acme").await;
        let grants = organization::draft(json!({ "grants": [{ "role": "api_key" }] }));
        let key = engine.create_key(&org, grants, &Actor::host()).await.unwrap().key;
        assert!(engine.authenticate(key.expose()).await.unwrap().is_some());
        // It notes beside the call that the key was used, once in a minute.
        tokio::task::yield_now().await;
        key
    });
    Box::new(move || {
        let found = runtime.block_on(engine.authenticate(black_box(key.expose())));
        assert!(black_box(found.unwrap()).is_some());
    })
}
