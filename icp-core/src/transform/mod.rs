//! Turning the payload of an event into what an integration sends.
//!
//! People write a [`PlanSpec`]: steps, each of which takes the payload the step before it gave.
//! It is compiled into a [`Plan`] once, and a [`Transformer`] runs the plan for each attempt.

mod in_place;
pub mod mapping;
mod plan;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

pub use in_place::{InPlace, MAX_OUTPUT};
pub use plan::{MAX_STEPS, Plan, PlanSpec, Step, StepSpec};

use crate::event::EventType;
use crate::id::{EventId, OrgId};
use crate::lookup::LookupView;
use crate::time::Timestamp;

/// Runs plans.
///
/// A whole plan is handed over at once, and the call is asynchronous, because an implementor may
/// run the steps in another process. An implementor keeps nothing between two calls that a
/// payload could have influenced, and answers the same input with the same output.
///
/// # Cancellation
///
/// A call that is dropped leaves nothing behind.
#[async_trait]
pub trait Transformer: fmt::Debug + Send + Sync + 'static {
    /// Runs every step of `plan` on `input`, in order, until one drops the payload.
    ///
    /// # Errors
    ///
    /// [`TransformError`] of the first step that fails; nothing is to be sent then.
    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError>;
}

/// What a transformation may know about the delivery beside the payload.
#[derive(Clone, Copy, Debug)]
pub struct TransformContext<'a> {
    /// The organization.
    pub org: &'a OrgId,
    /// The event.
    pub event: EventId,
    /// The type of the event.
    pub event_type: &'a EventType,
    /// When the event came in.
    pub received_at: Timestamp,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The lookup tables of the organization, as the event's unit sees them.
    pub lookups: LookupView<'a>,
}

/// What became of the payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The payload to send.
    Value(Bytes),
    /// Nothing is to be sent, and that is not a failure.
    Dropped {
        /// Why, for people; without values of the payload.
        reason: String,
    },
}

/// The result of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// What became of the payload.
    pub outcome: Outcome,
    /// What people should know although it worked; without values of the payload.
    pub warnings: Vec<String>,
}

/// Why a plan failed on a payload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct TransformError {
    /// Stable name of the failure, lower case with underscores.
    pub code: &'static str,
    /// Whether the same plan on the same payload can succeed later.
    pub retryable: bool,
    /// What is wrong and what would be right; without values of the payload.
    pub message: String,
    /// RFC 6901 pointer to the part of the spec that failed, where one part did.
    pub pointer: Option<String>,
}
