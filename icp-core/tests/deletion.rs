//! Deleting an integration ends its deliveries, even where it rested before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use icp_core::delivery::{DeliveryQuery, DeliveryState};
use icp_core::egress::AddressPolicy;
use icp_core::error::{Result, Violation};
use icp_core::event::NewEvent;
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::{Binding, Connector, Integration, Outgoing, Preview, Sent};
use icp_core::resource::{Actor, Draft, Expect};
use icp_core::store::{MemoryStore, PageQuery};
use icp_core::time::{Timestamp, TokioClock};
use icp_core::{Engine, EngineConfig};
use serde_json::{Value, json};

/// A target that must not be called.
#[derive(Debug)]
struct Closed;

impl Connector for Closed {
    fn kind(&self) -> &'static str {
        "closed"
    }

    fn validate(&self, _: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }

    fn bind(&self, _: Binding<'_>) -> Result<Arc<dyn Integration>> {
        Ok(Arc::new(Self))
    }
}

#[async_trait]
impl Integration for Closed {
    async fn send(&self, _: Outgoing<'_>) -> Sent {
        unreachable!("nothing is sent for an integration that is gone")
    }

    fn preview(&self, _: &Outgoing<'_>) -> Result<Preview> {
        unreachable!("nothing is shown of an integration that is gone")
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_of_a_resting_integration_ends_with_its_deletion() {
    let clock = TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000));
    let engine = Engine::builder(MemoryStore::new())
        .config(EngineConfig::default())
        .clock(clock)
        .connector(Closed)
        .build()
        .unwrap();
    let (org, hook) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
    let (resources, host) = (engine.resources(), Actor::host());
    let draft = |id: Option<ResourceId>, spec| Draft { id, spec, ..Draft::default() };
    resources.create(&org, "organization", draft(None, json!({})), &host).await.unwrap();
    let spec = json!({ "events": ["*"], "target": { "kind": "closed" } });
    resources.create(&org, "integration", draft(Some(hook.clone()), spec), &host).await.unwrap();
    engine.publish(NewEvent::json("acme", "a", &json!(1)).unwrap()).await.unwrap();
    resources.switch_off(&org, &hook, "it rests").await.unwrap();
    assert!(
        engine
            .lanes(&org, PageQuery::default())
            .await
            .unwrap()
            .items
            .iter()
            .all(|lane| lane.paused)
    );

    resources.delete(&org, "integration", &hook, Expect::Present, &host).await.unwrap();
    assert!(
        engine
            .lanes(&org, PageQuery::default())
            .await
            .unwrap()
            .items
            .iter()
            .all(|lane| !lane.paused)
    );
    let running = engine.start().await.unwrap();
    // The clock moves on only while nothing has anything to do.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ended = engine.deliveries(&org, &DeliveryQuery::default()).await.unwrap();
    let states: Vec<_> = ended.items.iter().map(|delivery| delivery.state).collect();
    assert_eq!(states, [DeliveryState::Cancelled]);
    running.shutdown(Duration::from_secs(5)).await;
}
