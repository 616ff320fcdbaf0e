//! Making operational events and publishing them.

use std::sync::Arc;

use serde::Serialize;

use super::{
    DELIVERY_DEAD, DeadNotice, ENDPOINT_DISABLED, ENDPOINT_FAILING, ENDPOINT_RECOVERED,
    EndpointNotice, Failing,
};
use crate::delivery::EndReason;
use crate::delivery::dispatch::Work;
use crate::engine::core::Core;
use crate::error::{Code, Result};
use crate::event::publish::{accept_own, submit};
use crate::event::{Event, EventType, NewEvent};
use crate::id::{OrgId, ResourceId};

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
    if work.event.event_type.is_operational() {
        return None;
    }
    let view = core.org(&work.delivery.org).await.ok()?;
    if !view.matching.takes(&EventType::new(DELIVERY_DEAD).ok()?) {
        return None;
    }
    let body = DeadNotice {
        delivery: work.delivery.id,
        event: work.event.id,
        event_type: work.event.event_type.as_str().to_owned(),
        integration: work.delivery.integration.clone(),
        tries: work.delivery.tries,
        reason: reason.clone(),
    };
    let event = NewEvent::json(work.delivery.org.as_str(), DELIVERY_DEAD, &body).ok()?;
    accept_own(core, event).await.ok().map(|(event, _)| Arc::new(event))
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
    match submit(core, event).await {
        // Told before, with other words.
        Err(error) if error.code() == Code::IdempotencyConflict => Ok(()),
        other => other.map(drop),
    }
}
