//! What happens now, as streams that can be resumed.
//!
//! A stream is pulled by its reader, so that a slow one costs no memory. It ends by itself after
//! a while, when the reader falls behind, and when the engine or its host closes streams; its
//! last item says why, and the reader goes on with a new stream from where it was.

mod attempts;
mod changes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub use attempts::{AttemptCursor, LiveAttempt, LiveAttempts};
pub use changes::{LiveChange, LiveChanges};

use crate::analytics::tally::Target;
use crate::delivery::{Settled, Settlement};
use crate::error::{Code, Error, Result};

/// How many streams one engine has open at once.
pub const MOST_STREAMS: usize = 100;

/// How many attempts a reader may fall behind.
const BEHIND: usize = 1_024;

/// How long a stream lasts, so that a reader whose key was withdrawn does not read on.
const LASTS: Duration = Duration::from_secs(15 * 60);

/// One item of a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Live<T> {
    /// Something happened.
    Item(T),
    /// There may have been more than was told.
    Gap,
    /// The stream is over; nothing follows.
    End(LiveEnd),
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LiveEnd {
    /// It lasted as long as streams do.
    Age,
    /// The reader was too slow.
    Behind,
    /// The process stops.
    Shutdown,
    /// The store did not answer.
    Store,
}

/// What this node tells those who watch.
#[derive(Debug)]
pub(crate) struct Hub {
    attempts: broadcast::Sender<Arc<LiveAttempt>>,
    closing: CancellationToken,
    open: Arc<AtomicUsize>,
}

impl Default for Hub {
    fn default() -> Self {
        let (attempts, _) = broadcast::channel(BEHIND);
        Self { attempts, closing: CancellationToken::new(), open: Arc::default() }
    }
}

impl Hub {
    /// Tells of attempts that were recorded, where anybody watches.
    pub(crate) fn tell(
        &self,
        targets: &[Option<Target>],
        settlements: &[Settlement],
        settled: &[Settled],
    ) {
        if self.attempts.receiver_count() == 0 {
            return;
        }
        for ((target, settlement), settled) in targets.iter().zip(settlements).zip(settled) {
            if let (Some(target), Settled::Recorded) = (target, settled)
                && let Some(attempt) = LiveAttempt::of_settlement(target, settlement)
            {
                // Whoever watched may be gone by now.
                let _ = self.attempts.send(Arc::new(attempt));
            }
        }
    }

    /// Ends every stream, and those that are asked for from now on.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// How many streams are open.
    pub(crate) fn streams(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    fn admit(&self) -> Result<Seat> {
        let open = Arc::clone(&self.open);
        if open.fetch_add(1, Ordering::AcqRel) >= MOST_STREAMS {
            open.fetch_sub(1, Ordering::AcqRel);
            let message = format!("{MOST_STREAMS} live streams are open; try again later");
            return Err(Error::new(Code::Overloaded, message).during("follow"));
        }
        Ok(Seat { open, closing: self.closing.clone(), ended: false })
    }
}

/// One of the streams that may be open, from its beginning to its end.
#[derive(Debug)]
struct Seat {
    open: Arc<AtomicUsize>,
    closing: CancellationToken,
    ended: bool,
}

impl Seat {
    fn end<T>(&mut self, why: LiveEnd) -> Option<Live<T>> {
        self.ended = true;
        Some(Live::End(why))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
