//! What the tests inside this crate begin with.
#![expect(clippy::disallowed_methods, reason = "the environment names the server")]

use std::sync::Arc;
use std::time::Duration;

use icp_core::delivery::health::LaneRules;
use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::resource::Revision;
use icp_core::time::Timestamp;

use super::store::MongoStore;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);
pub(crate) const SESSION: SessionId = SessionId::from_bytes([7; 16]);

pub(crate) async fn store(name: &str) -> MongoStore {
    let url = std::env::var("ICP_TEST_MONGODB_URL").unwrap_or_else(|_| {
        panic!(
            "ICP_TEST_MONGODB_URL is not set: start the server with `scripts/services up mongo`, \
             and export what `scripts/services env` prints"
        )
    });
    let name = format!("icp_{name}_{}", std::process::id());
    MongoStore::builder(url).database(name).connect().await.unwrap()
}

pub(crate) fn item(n: u8) -> IngestItem {
    let org = OrgId::new(format!("org-{}", n % 3)).unwrap();
    let integration = ResourceId::new("crm").unwrap();
    let key: Option<Arc<str>> = n.is_multiple_of(2).then(|| "k".into());
    let event = Event::restore(
        EventId::from_bytes([n; 16]),
        org.clone(),
        None,
        "order.paid".parse().unwrap(),
        JSON.into(),
        vec![b'1'].into(),
        Some(format!("key-{n}").into()),
        None,
        NOW,
        None,
        Some(NOW + Duration::from_secs(600)),
        None,
        Revision::ZERO,
    );
    let lane = LaneSeed {
        id: LaneId::of(&org, &integration, key.as_deref()),
        mode: if key.is_some() { LaneMode::Fifo } else { LaneMode::Parallel },
        max_in_flight: if key.is_some() { 1 } else { 100 },
        order_key: key,
        weight: 1,
        rules: LaneRules::default(),
    };
    let id = DeliveryId::from_bytes([n; 16]);
    let deliveries = vec![NewDelivery { id, integration, lane, due_at: NOW, at_once: true }];
    let idempotency_window = Duration::from_secs(60);
    IngestItem {
        event: event.into(),
        body_hash: [n; 32],
        idempotency_window,
        deliveries,
        outbox: None,
    }
}
