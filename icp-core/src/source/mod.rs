//! Where events are pulled from: queues, tables and feeds that are read after a checkpoint.

mod hold;
mod progress;
pub(crate) mod pump;
mod seam;
mod spec;

pub(crate) use progress::{ProgressSlot, check_checkpoint};
pub use progress::{SourceFailing, SourceProgress};
pub use seam::{
    EventSource, EventSources, PollRequest, Polled, SOURCE_TIMEOUT, SourceError, SourceEvent,
};
pub use spec::{CompiledSource, SourceSpec};
