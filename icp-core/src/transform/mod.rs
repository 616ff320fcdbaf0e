//! Turning the payload of an event into what an integration sends.
//!
//! People write a [`PlanSpec`]: steps, each of which takes the payload the step before it gave.
//! It is compiled into a [`Plan`] once, and a [`Transformer`] runs the plan for each attempt.

mod failure;
mod helpers;
mod host;
mod in_place;
mod limits;
pub mod mapping;
mod outlet;
mod plan;
mod program;
mod vars;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use failure::{Frame, Origin, Position, Transcript, TransformError};
pub use helpers::{DateOrder, HelpersSpec};
pub use host::{HostRole, HostSpec, HostStep, handler_name_fault};
pub use in_place::{Applied, InPlace, MAX_OUTPUT};
pub use limits::Limits;
pub use outlet::Outlet;
pub use plan::{MAX_STEPS, Plan, PlanSpec, Step, StepSpec};
pub use program::{Language, Program, ProgramSpec, SchemaSpec};
pub use vars::Vars;

use crate::event::{Event, EventType};
use crate::id::{EventId, OrgId, ResourceId};
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
    /// Compiles every program of `plan` without running it, so that a plan that can never work
    /// is not saved.
    ///
    /// # Errors
    ///
    /// One [`TransformError`] for each program that does not compile or is not admitted, with the
    /// pointer to its text; a retryable one where it could not be found out.
    async fn check(&self, plan: &Plan, org: &OrgId) -> Result<(), Vec<TransformError>>;

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
    /// The integration that it goes to; none where a plan is tried by itself.
    pub integration: Option<Addressee<'a>>,
    /// The constants of the integration, where it has any.
    pub vars: Option<&'a Vars>,
    /// The lookup tables of the organization, as the event's unit sees them.
    pub lookups: LookupView<'a>,
    /// How the requests of programs are sent; none where the organization's may send none.
    pub outlet: Option<&'a Outlet>,
    /// Whether to find out what the programs hold in memory; that takes time of its own.
    pub measure: bool,
}

impl<'a> TransformContext<'a> {
    /// The first attempt for an event that goes to no integration, whose programs send nothing.
    #[must_use]
    pub fn new(
        org: &'a OrgId,
        event: EventId,
        event_type: &'a EventType,
        received_at: Timestamp,
        lookups: LookupView<'a>,
    ) -> Self {
        Self {
            org,
            event,
            event_type,
            received_at,
            attempt: 1,
            integration: None,
            vars: None,
            lookups,
            outlet: None,
            measure: false,
        }
    }

    /// As [`new`](Self::new), of a stored event.
    #[must_use]
    pub fn of(event: &'a Event, lookups: LookupView<'a>) -> Self {
        Self::new(&event.org, event.id, &event.event_type, event.received_at, lookups)
    }
}

/// An integration as its programs know it.
#[derive(Clone, Copy, Debug)]
pub struct Addressee<'a> {
    /// The id.
    pub id: &'a ResourceId,
    /// The name for people, where it has one.
    pub name: Option<&'a str>,
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
    /// What the programs wrote to their consoles, shortened to the limits.
    pub console: Vec<String>,
    /// The processor time the programs took; zero where none ran.
    pub cpu: Duration,
    /// What a JavaScript program still held on its heap when it was done, in bytes: the most of
    /// any. What it gave back before is not in it. None where none ran or it was not asked for.
    pub heap_bytes: Option<u64>,
}

impl Report {
    /// A result with nothing to tell beside it.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            warnings: Vec::new(),
            console: Vec::new(),
            cpu: Duration::ZERO,
            heap_bytes: None,
        }
    }

    /// What is kept of the result beside its outcome; none where there is nothing.
    #[must_use]
    pub fn transcript(&self) -> Option<Transcript> {
        let origin = Origin { console: self.console.clone(), ..Origin::default() };
        let told = Transcript { pointer: None, origin, warnings: self.warnings.clone() };
        (told != Transcript::default()).then_some(told)
    }

    /// The result of a plan whose first part ended in this and whose next in `next`.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.outcome = next.outcome;
        self.warnings.extend(next.warnings);
        self.console.extend(next.console);
        self.cpu += next.cpu;
        self.heap_bytes = self.heap_bytes.max(next.heap_bytes);
        self
    }
}
