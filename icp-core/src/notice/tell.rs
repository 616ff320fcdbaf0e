//! Making operational events and publishing them.

use std::sync::Arc;

use serde::Serialize;

use super::{
    DELIVERY_DEAD, DeadNotice, ENDPOINT_DISABLED, ENDPOINT_FAILING, ENDPOINT_RECOVERED,
    EndpointNotice, Failing,
};
use crate::delivery::dispatch::Work;
use crate::delivery::{Delivery, EndReason};
use crate::engine::core::Core;
use crate::error::{Code, Result};
use crate::event::publish::{accept_own, publish_own};
use crate::event::{Event, EventType, NewEvent};
use crate::id::{DeliveryId, OrgId, ResourceId};

/// Tells that an endpoint fails.
pub(crate) async fn failing(
    core: &Core,
    org: &OrgId,
    id: &ResourceId,
    failing: Failing,
) -> Result<()> {
    let key = key(ENDPOINT_FAILING, id, &format!("{}/{}", since(failing), failing.alerted));
    let body = EndpointNotice {
        integration: id.clone(),
        failing_since: Some(failing.since),
        percent: Some(failing.alerted),
        reason: None,
    };
    publish(core, org, ENDPOINT_FAILING, key, &body).await
}

/// Tells that an endpoint takes deliveries again.
pub(crate) async fn recovered(
    core: &Core,
    org: &OrgId,
    id: &ResourceId,
    failing: Failing,
) -> Result<()> {
    let body = EndpointNotice {
        integration: id.clone(),
        failing_since: Some(failing.since),
        percent: None,
        reason: None,
    };
    let key = key(ENDPOINT_RECOVERED, id, &since(failing));
    publish(core, org, ENDPOINT_RECOVERED, key, &body).await
}

/// Tells that an integration is switched off, before it is, so that no crash between the two
/// leaves it untold. `version` is what tells one time from another.
pub(crate) async fn disabled(
    core: &Core,
    org: &OrgId,
    id: &ResourceId,
    version: u64,
    failing: Option<Failing>,
    reason: &str,
) -> Result<()> {
    let body = EndpointNotice {
        integration: id.clone(),
        failing_since: failing.map(|failing| failing.since),
        percent: failing.map(|failing| failing.alerted),
        reason: Some(reason.to_owned()),
    };
    let key = key(ENDPOINT_DISABLED, id, &version.to_string());
    publish(core, org, ENDPOINT_DISABLED, key, &body).await
}

/// The event that tells of a dead letter, to be written with it; none where nobody would hear.
pub(crate) async fn dead(core: &Core, work: &Work, reason: &EndReason) -> Option<Arc<Event>> {
    let delivery = &work.delivery;
    if !is_heard(core, &delivery.org, &work.event).await {
        return None;
    }
    let body = dead_notice(delivery, &work.event, reason.clone());
    let event = NewEvent::json(delivery.org.as_str(), DELIVERY_DEAD, &body).ok()?;
    accept_own(core, event).await.ok().map(|(event, _)| Arc::new(event))
}

/// Tells of a dead letter that took node after node down: nobody held its lease, so it is told
/// after the write that ended it, and not at all where this node goes down between the two.
pub(crate) async fn poisoned(core: &Core, org: &OrgId, id: DeliveryId) -> Result<()> {
    let Some(delivery) = core.store.delivery(org, id).await? else { return Ok(()) };
    let Some(event) = core.store.event(org, delivery.event).await? else { return Ok(()) };
    let Some(reason) = delivery.reason.clone() else { return Ok(()) };
    if !is_heard(core, org, &event).await {
        return Ok(());
    }
    let body = dead_notice(&delivery, &event, reason);
    publish(core, org, DELIVERY_DEAD, format!("{DELIVERY_DEAD}/{id}"), &body).await
}

/// Whether anybody would hear of the end of a delivery of `event`.
async fn is_heard(core: &Core, org: &OrgId, event: &Event) -> bool {
    if event.event_type.is_operational() {
        return false;
    }
    let (view, told) = (core.org(org).await, EventType::new(DELIVERY_DEAD));
    matches!((view, told), (Ok(view), Ok(told)) if view.matching.takes(&told))
}

fn dead_notice(delivery: &Delivery, event: &Event, reason: EndReason) -> DeadNotice {
    DeadNotice {
        delivery: delivery.id,
        event: event.id,
        event_type: event.event_type.as_str().to_owned(),
        integration: delivery.integration.clone(),
        tries: delivery.tries,
        reason,
    }
}

fn key(event_type: &str, id: &ResourceId, occasion: &str) -> String {
    format!("{event_type}/{id}/{occasion}")
}

fn since(failing: Failing) -> String {
    failing.since.as_millis().to_string()
}

/// Publishes an operational event once for each `key`, whichever nodes try.
async fn publish(
    core: &Core,
    org: &OrgId,
    event_type: &str,
    key: String,
    body: &impl Serialize,
) -> Result<()> {
    let event = NewEvent::json(org.as_str(), event_type, body)?.idempotency_key(key);
    match publish_own(core, event).await {
        // Told before, with other words.
        Err(error) if error.code() == Code::IdempotencyConflict => Ok(()),
        other => other.map(drop),
    }
}
