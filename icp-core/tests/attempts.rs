//! Attempts that come late: after their deadline, and after a change of the configuration.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use icp_core::Engine;
use icp_core::delivery::{AttemptTimings, Delivery, DeliveryQuery, DeliveryState};
use icp_core::egress::AddressPolicy;
use icp_core::error::{Result, Violation};
use icp_core::event::{EventQuery, NewEvent};
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::{
    Binding, Connector, Failure, Hint, Integration, Judgement, Outgoing, Preview, Sent,
};
use icp_core::resource::{Actor, Draft, Expect};
use icp_core::store::MemoryStore;
use icp_core::time::{Timestamp, TokioClock};
use serde_json::{Value, json};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// A connector whose target `old` says after ten seconds that it is gone; others deliver at once.
#[derive(Clone, Debug)]
struct Desk {
    gone: bool,
}

impl Connector for Desk {
    fn kind(&self) -> &'static str {
        "desk"
    }

    fn validate(&self, _: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }

    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>> {
        Ok(Arc::new(Self { gone: binding.target["to"] == "old" }))
    }
}

#[async_trait]
impl Integration for Desk {
    async fn send(&self, _: Outgoing<'_>) -> Sent {
        let judgement = if self.gone {
            sleep(10 * SECOND).await;
            let (class, message) = ("status_410".to_owned(), "it moved".to_owned());
            Judgement::Failed(Failure { class, message, hint: Hint::Gone })
        } else {
            Judgement::Delivered
        };
        Sent { judgement, status: None, timings: AttemptTimings::default(), exchange: None }
    }

    fn preview(&self, _: &Outgoing<'_>) -> Result<Preview> {
        unreachable!("nobody asks for it here")
    }
}

struct Stage {
    engine: Engine,
    org: OrgId,
}

impl Stage {
    /// An engine that is not started, with the integration `crm`.
    async fn new(more: Value) -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000));
        let builder = Engine::builder(MemoryStore::new()).clock(clock);
        let engine = builder.connector(Desk { gone: false }).build().unwrap();
        let org = OrgId::new("acme").unwrap();
        let mut spec = json!({ "events": ["order.*"], "target": { "kind": "desk", "to": "old" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let integration = Draft { id: Some(crm()), spec, ..Draft::default() };
        let organization = Draft { spec: json!({}), ..Draft::default() };
        for (kind, draft) in [("organization", organization), ("integration", integration)] {
            engine.resources().create(&org, kind, draft, &Actor::host()).await.unwrap();
        }
        Self { engine, org }
    }

    fn event(&self) -> NewEvent {
        NewEvent::json(self.org.as_str(), "order.paid", &json!({})).unwrap()
    }

    async fn change(&self, spec: Value) {
        let (patch, actor) = (json!({ "spec": spec }), Actor::host());
        let resources = self.engine.resources();
        let (org, id) = (&self.org, crm());
        resources
            .merge_patch(org, "integration", &id, &patch, Expect::Present, &actor)
            .await
            .unwrap();
    }

    async fn delivery(&self) -> Delivery {
        let found = self.engine.deliveries(&self.org, &DeliveryQuery::default()).await.unwrap();
        let [delivery] = <[_; 1]>::try_from(found.items).unwrap();
        delivery
    }
}

fn crm() -> ResourceId {
    ResourceId::new("crm").unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_try_begins_after_the_deadline() {
    let target = json!({ "kind": "desk", "to": "new" });
    let limited = json!({ "target": target, "retry": { "deadline_seconds": 60 } });
    for (due_in, waits, expected) in [
        (0, 50, (DeliveryState::Delivered, 1)),
        (0, 70, (DeliveryState::Dead, 0)),
        (100, 150, (DeliveryState::Delivered, 1)),
        (100, 170, (DeliveryState::Dead, 0)),
    ] {
        let stage = Stage::new(limited.clone()).await;
        let due_at = stage.engine.now() + due_in * SECOND;
        stage.engine.publish(stage.event().due_at(due_at)).await.unwrap();
        sleep(waits * SECOND).await;
        let running = stage.engine.start().await.unwrap();
        sleep(5 * SECOND).await;
        let delivery = stage.delivery().await;
        let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
        assert_eq!((delivery.state, attempts.len()), expected, "due in {due_in}, after {waits}");
        if delivery.state == DeliveryState::Dead {
            assert_eq!(delivery.reason.unwrap().code, "deadline");
        }
        running.shutdown(SECOND).await;
        assert!(stage.engine.verify().await.unwrap().is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_farewell_does_not_count_for_a_new_target() {
    let new = json!({ "target": { "kind": "desk", "to": "new" } });
    for (change, stays, events) in [(new, true, 1), (json!({ "max_in_flight": 3 }), false, 2)] {
        let stage = Stage::new(json!({})).await;
        let running = stage.engine.start().await.unwrap();
        stage.engine.publish(stage.event()).await.unwrap();
        sleep(SECOND).await;
        assert_eq!(stage.delivery().await.state, DeliveryState::Leased);
        stage.change(change.clone()).await;
        sleep(20 * SECOND).await;
        assert_eq!(stage.delivery().await.reason.unwrap().code, "gone");
        let resources = stage.engine.resources();
        let found = resources.get(&stage.org, "integration", &crm()).await.unwrap();
        assert_eq!(found.spec["enabled"], json!(stays), "{change}");
        let told = stage.engine.events(&stage.org, &EventQuery::default()).await.unwrap();
        assert_eq!(told.items.len(), events, "{change}");
        running.shutdown(SECOND).await;
    }
}
