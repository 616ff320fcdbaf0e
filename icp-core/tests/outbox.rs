//! What the relay does with an organization that cannot be read.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use icp_core::event::{Event, EventStore, NewEvent};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{Actor, Change, Draft, Expect, ResourceStore, Write};
use icp_core::secret::{LocalKeys, SystemEntropy};
use icp_core::store::MemoryStore;
use icp_core::{Engine, Result};
use serde_json::json;

fn engine(store: &Arc<MemoryStore>) -> Engine {
    let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
    Engine::builder_on(Arc::clone(store) as _).keys(keys).build().unwrap()
}

async fn organization(engine: &Engine, name: &str) -> OrgId {
    let org = OrgId::new(name).unwrap();
    let draft = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", draft, &Actor::engine()).await.unwrap();
    org
}

async fn accepted(engine: &Engine, org: &OrgId, n: usize) -> Event {
    let event = NewEvent::json(org.as_str(), "order.paid", &json!({ "order": n })).unwrap();
    engine.accept(event).await.unwrap()
}

/// Writes what no version of an organization can be read from, and hides it from `engine`.
async fn ruin(engine: &Engine, store: &MemoryStore, org: &OrgId) -> Result<()> {
    let id = ResourceId::new(org.as_str())?;
    let mut record = store.resource(org, "organization", &id).await?.unwrap();
    record.spec = json!({ "units": "ruined" });
    let expect = Expect::Revision(record.revision);
    let change = Change { record, expect, action: "ruin".into(), effects: Vec::new() };
    let write = Write { changes: vec![change], actor: Actor::engine(), now: engine.now() };
    store.write(write).await.map(drop)
}

#[tokio::test]
async fn events_behind_those_of_an_unreadable_organization_are_taken_over() {
    let store = Arc::new(MemoryStore::new());
    let host = engine(&store);
    let (ruined, sound) = (organization(&host, "ruined").await, organization(&host, "sound").await);
    // More than the relay reads at once.
    for n in 0..250 {
        store.publish_in_outbox(accepted(&host, &ruined, n).await);
    }
    let event = accepted(&host, &sound, 0).await;
    store.publish_in_outbox(event.clone());
    ruin(&host, &store, &ruined).await.unwrap();

    let engine = engine(&store);
    let running = engine.start().await.unwrap();
    let taken = async {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        while store.event(&sound, event.id).await.unwrap().is_none() {
            beat.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.unwrap();
    assert_eq!(store.outbox(&[], 999).await.unwrap().len(), 250);
    running.shutdown(Duration::from_secs(5)).await;
}
