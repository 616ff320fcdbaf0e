//! What is written for an event: itself, and the deliveries that follow from matching it.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::delivery::{LaneId, LaneMode};
use crate::engine::core::{Core, OrgView};
use crate::event::{Event, IngestItem, LaneSeed, NewDelivery};
use crate::id::{DeliveryId, EventId, OrgId, ResourceId};
use crate::integration::CompiledIntegration;
use crate::time::Timestamp;

/// The event with the deliveries that follow from matching it now.
pub(crate) fn item(
    core: &Core,
    view: &OrgView,
    event: Event,
    outbox: Option<EventId>,
) -> IngestItem {
    let due_at = event.due_at.unwrap_or(event.received_at);
    let deliveries = view
        .matching
        .matches(&event)
        .into_iter()
        .map(|integration| delivery(core, view, &event, &integration, due_at))
        .collect();
    IngestItem {
        body_hash: body_hash(&event),
        idempotency_window: core.config.idempotency_window,
        event: Arc::new(event),
        deliveries,
        outbox,
    }
}

pub(crate) fn delivery(
    core: &Core,
    view: &OrgView,
    event: &Event,
    integration: &CompiledIntegration,
    due_at: Timestamp,
) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(core.ids.as_ref()),
        integration: integration.id.clone(),
        lane: lane(view, &event.org, integration, event.ordering_key.as_ref()),
        due_at,
        at_once: core.rooms.has_share_for(&event.org),
    }
}

fn lane(
    view: &OrgView,
    org: &OrgId,
    integration: &CompiledIntegration,
    ordering_key: Option<&Arc<str>>,
) -> LaneSeed {
    let id: &ResourceId = &integration.id;
    let mode = integration.lane_mode(ordering_key.map(AsRef::as_ref));
    let (order_key, max_in_flight) = match mode {
        LaneMode::Fifo => (ordering_key.cloned(), 1),
        LaneMode::Parallel => (None, integration.max_in_flight),
    };
    LaneSeed {
        id: LaneId::of(org, id, order_key.as_deref()),
        order_key,
        mode,
        max_in_flight,
        weight: view.organization.weight,
        rules: integration.rules,
    }
}

fn body_hash(event: &Event) -> [u8; 32] {
    if event.idempotency_key.is_none() {
        return [0; 32];
    }
    let mut hash = Sha256::new();
    hash.update(event.event_type.as_str());
    hash.update([0]);
    hash.update(event.content_type.as_bytes());
    hash.update([0]);
    hash.update(&event.body);
    hash.finalize().into()
}
