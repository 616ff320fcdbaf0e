//! Trying integrations out: one delivery that is not stored, requests as commands, and dry runs of
//! transformations and filters.

mod attempt;
mod curl;
mod dry_run;
mod gate;
mod run;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use attempt::attempt_curl;
pub use curl::CurlCommand;
pub use dry_run::{
    Change, Changes, DryRunOn, FilterOf, FilterReport, MAX_CHANGED_BYTES, MAX_CHANGES, MAX_VALUE,
    TransformOf, TransformOutcome, TransformReport,
};
pub(crate) use dry_run::{run_filter, run_transform};
pub(crate) use gate::Gate;
pub(crate) use run::{integration_curl, test};

use crate::delivery::AttemptTimings;
use crate::event::{EventType, NewEvent};
use crate::id::{EventId, ResourceId};
use crate::integration::{MatchReason, Preview};
use crate::transform::Origin;

/// The type of the event that is sent where no sample is given.
pub const EVENT_TYPE: &str = "icp.test";

/// The integration that is tried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TestOf {
    /// A saved one, on or off.
    Saved(ResourceId),
    /// The spec of one that is not saved. Its secrets are entered as they are: a mask stands for
    /// nothing here.
    Draft(Value),
}

/// The event that an integration is tried out with.
#[derive(Clone, Debug, Default)]
#[must_use = "a sample is handed to a test delivery"]
pub struct Sample {
    event: Option<NewEvent>,
    unmatched: bool,
}

impl Sample {
    /// An event of the host's own. When it is due or expires is not looked at.
    pub fn of(event: NewEvent) -> Self {
        Self { event: Some(event), unmatched: false }
    }

    /// Sends it even where the integration would not take it; the report says so.
    pub fn even_unmatched(mut self) -> Self {
        self.unmatched = true;
        self
    }
}

/// How a test delivery went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TestReport {
    /// The id of the event that was made for the test; it is not stored.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Whether the integration is on.
    pub enabled: bool,
    /// Why the integration, were it on, takes the sample or not; none without a sample.
    pub matching: Option<MatchReason>,
    /// How it went.
    pub outcome: TestOutcome,
    /// What the transformation warns of.
    pub warnings: Vec<String>,
    /// What the programs of the transformation wrote to their consoles.
    pub console: Vec<String>,
    /// The request; none where it was not made.
    pub request: Option<Preview>,
    /// The answer, where one came.
    pub response: Option<TestResponse>,
    /// How long the parts of the call took.
    pub timings: AttemptTimings,
}

/// How a test delivery went, in one word.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TestOutcome {
    /// The receiver took it.
    Delivered,
    /// The receiver did not take it, or did not answer.
    Failed {
        /// The stable class, as of attempts.
        class: String,
        /// What went wrong.
        message: String,
    },
    /// Nothing was sent: the integration does not take the sample.
    Unmatched,
    /// Nothing was sent: the transformation dropped it.
    Dropped {
        /// Why.
        reason: String,
    },
    /// Nothing was sent: the transformation failed.
    Untransformed {
        /// The stable class, as of attempts.
        class: String,
        /// What went wrong.
        message: String,
        /// RFC 6901 pointer to the part of the spec that failed, where one part did.
        pointer: Option<String>,
        /// Where in a program, where a program failed.
        origin: Option<Box<Origin>>,
    },
    /// Nothing was sent: the request could not be made, or its address may not be reached.
    Unsent {
        /// The stable class, as in `address_denied` and `signing_failed`.
        class: String,
        /// What went wrong.
        message: String,
    },
}

/// What a receiver answered to a test.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TestResponse {
    /// The HTTP status.
    pub status: u16,
    /// The header fields; values of sensitive fields are masked.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body, as text; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// Whether the body was longer than what is shown.
    pub truncated: bool,
}
