use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use icp_core::event::{Event, EventSummary, EventType, Published};
use icp_core::id::{EventId, ResourceId};
use icp_core::resource::Revision;
use icp_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::problem::Problem;

/// An event as lists show it.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct EventSummaryView {
    /// The id.
    id: EventId,
    /// What happened.
    r#type: EventType,
    /// The unit it happened in.
    unit: Option<ResourceId>,
    /// The media type of the body.
    content_type: String,
    /// The size of the body in bytes.
    body_size: u64,
    /// When the engine took it.
    received_at: Timestamp,
    /// How many deliveries it was fanned out to.
    deliveries: u32,
}

impl From<EventSummary> for EventSummaryView {
    fn from(event: EventSummary) -> Self {
        Self {
            id: event.id,
            r#type: event.event_type,
            unit: event.unit,
            content_type: event.content_type.as_ref().to_owned(),
            body_size: event.body_size,
            received_at: event.received_at,
            deliveries: event.fan_out,
        }
    }
}

/// An event with its body: `data` where it is JSON, else `body_base64`.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct EventView {
    /// The id; receivers see it as `webhook-id`.
    id: EventId,
    /// What happened.
    r#type: EventType,
    /// The unit it happened in.
    unit: Option<ResourceId>,
    /// The media type of the body.
    content_type: String,
    /// The body, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    data: Option<Box<RawValue>>,
    /// The body in standard base64, where it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// The publisher's key against doubles.
    idempotency_key: Option<String>,
    /// The sequence the event belongs to.
    ordering_key: Option<String>,
    /// Whom it is about.
    subject: Option<String>,
    /// When its body and subject were erased; then it is shown without a body.
    erased_at: Option<Timestamp>,
    /// When the engine took it.
    received_at: Timestamp,
    /// When its deliveries may start, where that is later than `received_at`.
    due_at: Option<Timestamp>,
    /// When its deliveries end as `expired`.
    expires_at: Option<Timestamp>,
    /// The W3C `traceparent` of its publisher.
    traceparent: Option<String>,
    /// The revision of the configuration it was matched against.
    revision: Revision,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let data = event.is_json().then(|| serde_json::from_slice(&event.body).ok()).flatten();
        let body_base64 =
            (data.is_none() && event.erased_at.is_none()).then(|| STANDARD.encode(&event.body));
        Self {
            id: event.id,
            r#type: event.event_type,
            unit: event.unit,
            content_type: event.content_type.as_ref().to_owned(),
            data,
            body_base64,
            idempotency_key: event.idempotency_key.map(|key| key.as_ref().to_owned()),
            ordering_key: event.ordering_key.map(|key| key.as_ref().to_owned()),
            subject: event.subject.map(|subject| subject.as_ref().to_owned()),
            erased_at: event.erased_at,
            received_at: event.received_at,
            due_at: event.due_at,
            expires_at: event.expires_at,
            traceparent: event.trace.map(|trace| trace.parent()),
            revision: event.config_revision,
        }
    }
}

/// What became of each event of a batch, in order.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct BatchAnswer {
    results: Vec<BatchItem>,
}

/// What became of one event of a batch: `event` where it was accepted, else `problem`.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct BatchItem {
    /// The status the event would have had on its own.
    status: u16,
    /// What was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Published>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl BatchAnswer {
    pub(super) fn of(results: Vec<BatchItem>) -> Self {
        Self { results }
    }

    /// 202 where every event was accepted, else 207.
    pub(super) fn status(&self) -> StatusCode {
        if self.results.iter().all(|item| item.problem.is_none()) {
            StatusCode::ACCEPTED
        } else {
            StatusCode::MULTI_STATUS
        }
    }
}

impl BatchItem {
    pub(super) fn accepted(event: Published) -> Self {
        Self { status: StatusCode::ACCEPTED.as_u16(), event: Some(event), problem: None }
    }

    pub(super) fn refused(problem: Problem) -> Self {
        Self { status: problem.status().as_u16(), event: None, problem: Some(problem) }
    }
}
