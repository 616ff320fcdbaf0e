//! Replay: sending a range of events again, as a job that survives its node.
//!
//! A job walks the events of an organization in the order of their ids, a batch at a time. The new
//! deliveries of a batch, the place it got to and its counts are written in one transaction that
//! is guarded by the job's fence, so a job that is taken over by another node goes on where it was
//! and repeats nothing. The new deliveries wait in the lanes of their integrations like all others.

mod job;
mod request;
mod select;
mod state;
mod store;
pub(crate) mod work;

pub use job::{ReplayJob, ReplayProgress};
pub use request::{ReplayMode, ReplayRequest};
pub use state::{ReplayChange, ReplayState};
pub use store::{
    EventRange, NewReplay, ReplayClaim, ReplayClaimed, ReplayDeliveries, ReplayNext, ReplayQuery,
    ReplayScan, ReplayScanned, ReplayStep, ReplayStore, ScannedEvent, Standing,
};
pub use work::{ReplayPreview, ReplayShare};
