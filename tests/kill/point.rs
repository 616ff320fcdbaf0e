//! The named points of its work at which a process ends itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icp::store::Store;
use icp_testkit::intercept::{Call, Intercept, Intercepted};

/// Calls of a store around which a process may end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) operation: &'static str,
    /// The last call that a process of this kind surely makes, counted from 1.
    pub(crate) most: u64,
    /// Whether it is made only when the process is told to stop.
    pub(crate) stopping: bool,
}

const fn around(operation: &'static str, most: u64) -> Around {
    Around { operation, most, stopping: false }
}

const fn stopping(operation: &'static str) -> Around {
    Around { operation, most: 1, stopping: true }
}

/// Every named point but those of a replay, which have a scenario of their own.
pub(crate) const POINTS: [Around; 16] = [
    around("ingest", 30),
    around("claim", 10),
    around("settle", 20),
    around("open_session", 1),
    around("beat", 4),
    around("sessions", 4),
    around("rescue", 4),
    around("sweep", 4),
    around("outbox", 4),
    around("changes", 4),
    around("claim_replay", 4),
    around("due_letters", 4),
    around("prune", 2),
    around("finish_erasures", 4),
    stopping("close_session"),
    stopping("release_replays"),
];

/// Before or after the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Before,
    After,
}

/// One point: this side of this call of this operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Point {
    pub(crate) operation: String,
    pub(crate) side: Side,
    pub(crate) call: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Before { "before" } else { "after" };
        write!(f, "{side} {} {}", self.operation, self.call)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (side, rest) = text.split_once(' ').ok_or("there is no side")?;
        let (operation, call) = rest.split_once(' ').ok_or("there is no call")?;
        let side = match side {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return Err(format!("`{side}` is no side")),
        };
        let call = call.parse().map_err(|_| format!("`{call}` is no number"))?;
        Ok(Self { operation: operation.to_owned(), side, call })
    }
}

/// A store under which this process ends at `point`.
pub(crate) fn ending(store: Arc<dyn Store>, point: Point) -> Arc<dyn Store> {
    Arc::new(Intercepted::new(store, Ending { point, calls: AtomicU64::new(0) }))
}

#[derive(Debug)]
struct Ending {
    point: Point,
    calls: AtomicU64,
}

impl Ending {
    /// Whether this is the call.
    fn is_at(&self, operation: &str) -> bool {
        operation == self.point.operation
            && self.calls.fetch_add(1, Ordering::AcqRel) + 1 == self.point.call
    }
}

impl Intercept for Ending {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
    ) -> icp::Result<T> {
        let here = self.is_at(operation);
        if here && self.point.side == Side::Before {
            end();
        }
        let answer = call.await;
        if here {
            end();
        }
        answer
    }
}

/// Ends this process as `kill -9` does: no destructor runs, nothing is flushed.
fn end() -> ! {
    let this = rustix::process::getpid();
    rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}
