use icp_core::delivery::{
    Attempt, AttemptOutcome, AttemptTimings, Delivery, DeliveryState, EndReason, Exchange,
};
use icp_core::id::{DeliveryId, EventId, ResourceId};
use icp_core::time::Timestamp;
use icp_core::transform::Transcript;
use schemars::JsonSchema;
use serde::Serialize;

/// A delivery as the API shows it.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct DeliveryView {
    /// The id.
    id: DeliveryId,
    /// The event it carries.
    event: EventId,
    /// The integration it goes to.
    integration: ResourceId,
    /// The lane it waits in.
    lane: String,
    /// Where it stands.
    state: DeliveryState,
    /// When it may be tried next.
    due_at: Timestamp,
    /// How many tries counted against its budget.
    tries: u32,
    /// How many tries were given back because the receiver asked to wait.
    throttles: u32,
    /// How many tries ended without an outcome.
    rescues: u32,
    /// When it ends as `expired`.
    expires_at: Option<Timestamp>,
    /// The ended delivery it repeats.
    replay_of: Option<DeliveryId>,
    /// Whether it lost its place in order: it failed, and those behind it went on.
    out_of_order: bool,
    /// Which automatic round of a dead letter made it; 0 where none did.
    round: u32,
    /// Why it ended, or why it is being tried again.
    reason: Option<EndReason>,
    /// When it was made.
    created_at: Timestamp,
    /// When its state last changed.
    updated_at: Timestamp,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            event: delivery.event,
            integration: delivery.integration,
            lane: delivery.lane.to_string(),
            state: delivery.state,
            due_at: delivery.due_at,
            tries: delivery.tries,
            throttles: delivery.throttles,
            rescues: delivery.rescues,
            expires_at: delivery.expires_at,
            replay_of: delivery.replay_of,
            out_of_order: delivery.out_of_order,
            round: delivery.round,
            reason: delivery.reason,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

/// One try of a delivery as the API shows it.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct AttemptView {
    /// The number of the try, from 1.
    number: u32,
    /// What tells it from another of the same number, as after a try that was given back.
    epoch: u32,
    /// When it began.
    started_at: Timestamp,
    /// How it went: `delivered`, `skipped`, or `failed` with a stable class.
    outcome: AttemptOutcome,
    /// The HTTP status, where an answer came.
    status: Option<u16>,
    /// How long its parts took, in microseconds.
    timings: AttemptTimings,
    /// What was sent and what came back; capped, and without secrets.
    exchange: Option<Exchange>,
    /// What went wrong, for people.
    message: Option<String>,
    /// What its transformation told: where a program failed, its console, and warnings.
    transcript: Option<Transcript>,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            epoch: attempt.epoch,
            started_at: attempt.started_at,
            outcome: attempt.outcome,
            status: attempt.status,
            timings: attempt.timings,
            exchange: attempt.exchange.map(|exchange| exchange.as_ref().clone()),
            message: attempt.message,
            transcript: attempt.transcript.map(|told| told.as_ref().clone()),
        }
    }
}
