//! One event on its way to one integration: states, lanes, leases, attempts.

pub(crate) mod attempt;
mod cancel;
pub(crate) mod condition;
pub(crate) mod dispatch;
pub mod health;
mod lane;
mod log;
mod prepare;
pub(crate) mod room;
pub(crate) mod settle;
mod sight;
mod state;
mod store;
pub(crate) mod suspect;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use cancel::{
    CancelBatch, CancelPlace, CancelStore, Cancellable, CancelledMany, CancelledSome,
    DeliveryFilter,
};
pub use lane::{Lane, LaneId, LaneMode};
pub use log::{LogEntry, LogPage, LogPlace, LogQuery, LogSummary};
pub use sight::{LaneBacklog, LaneState, LaneStatus, LaneStore, LaneTotals};
pub use state::{DeliveryState, EndReason, Next};
pub use store::{
    Audit, Cancel, Claim, Claimed, ClaimedDelivery, DeliveryQuery, DeliveryStore, Renew, Replay,
    Rescue, RescueOf, Rescued, SessionBeat, Settle, Settled, Settlement, Sweep, Swept,
};

use crate::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use crate::time::Timestamp;
use crate::transform::Transcript;

/// One event bound to one integration, with its state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// The id.
    pub id: DeliveryId,
    /// The organization it belongs to.
    pub org: OrgId,
    /// The event it carries.
    pub event: EventId,
    /// The integration it goes to.
    pub integration: ResourceId,
    /// The lane it waits in.
    pub lane: LaneId,
    /// Where it stands.
    pub state: DeliveryState,
    /// When it may be claimed next.
    pub due_at: Timestamp,
    /// The fence: one more for each lease, never less.
    pub epoch: u32,
    /// How many leases counted against its budget.
    pub tries: u32,
    /// How many tries were given back because the receiver asked to wait.
    pub throttles: u32,
    /// How many leases ended without an outcome.
    pub rescues: u32,
    /// Who holds the lease; present while leased.
    pub owner: Option<SessionId>,
    /// When the lease ends by the store's time; present while leased.
    pub lease_until: Option<Timestamp>,
    /// When it ends as `expired`.
    pub expires_at: Option<Timestamp>,
    /// The ended delivery it repeats.
    pub replay_of: Option<DeliveryId>,
    /// Whether it lost its place in order: it failed, and those behind it went on.
    pub out_of_order: bool,
    /// Which automatic round made it; 0 where none did.
    pub round: u32,
    /// Why it ended, or why it is being tried again.
    pub reason: Option<EndReason>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}

/// The right to settle one delivery: valid as long as the epoch is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Lease {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The epoch that came with the claim.
    pub epoch: u32,
}

/// One try of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The epoch of the lease it was made under; unique within the delivery.
    pub epoch: u32,
    /// The number of the try, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How it went.
    pub outcome: AttemptOutcome,
    /// The HTTP status, where an answer came.
    pub status: Option<u16>,
    /// How long its parts took.
    pub timings: AttemptTimings,
    /// What was sent and what came back.
    pub exchange: Option<Arc<Exchange>>,
    /// What went wrong, for people; without secrets.
    pub message: Option<String>,
    /// What its transformation told, where it told something.
    pub transcript: Option<Arc<Transcript>>,
}

/// How an attempt went.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The receiver took it.
    Delivered,
    /// A transformation dropped it, or a deferred filter does not want it.
    Skipped,
    /// It failed; the class is stable, lower case with underscores.
    Failed(String),
}

/// How long the parts of an attempt took, in microseconds; absent where a part was not reached,
/// or not needed because the connection was open already.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
pub struct AttemptTimings {
    /// Name resolution.
    pub dns: Option<u64>,
    /// TCP and TLS.
    pub connect: Option<u64>,
    /// From the start to the first byte of the answer.
    pub first_byte: Option<u64>,
    /// From the start to the end.
    pub total: u64,
}

/// What an attempt sent and what came back: capped, and without secrets.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Exchange {
    /// The method.
    pub method: String,
    /// The address, without query values and user info.
    pub url: String,
    /// The answer's header fields; values of sensitive fields, and credentials of the request
    /// that the receiver repeats, are masked.
    pub response_headers: Vec<(String, String)>,
    /// The beginning of the answer's body, as text; bytes that are not UTF-8 are replaced, and
    /// credentials of the request that the receiver repeats are masked.
    pub response_body: String,
    /// Whether the answer was longer than what is kept.
    pub response_truncated: bool,
}
