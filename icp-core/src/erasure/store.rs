use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::{EventId, OrgId};
use crate::time::Timestamp;

/// Erases what events carried.
#[async_trait]
pub trait ErasureStore: Debug + Send + Sync + 'static {
    /// Erases up to `limit` matching events that were not erased before, in one transaction. A
    /// store that takes several writes goes on with those where it broke off, which
    /// [`Erased::events`] counted before.
    ///
    /// Of each event the body and the subject go; the row stays, with `erased_at`. An event that
    /// still lies in the outbox leaves it and is kept the same way, without deliveries. Of its
    /// deliveries, ready ones end as `cancelled` with the code `erased` and wake their lanes;
    /// those that have ended lose what their attempts captured, the message of their reason and
    /// what was noted on them, and get no automatic round any more; leased ones are remembered
    /// for [`finish_erasures`](Self::finish_erasures). Repeated, it erases the rest.
    async fn erase(&self, erase: &Erase) -> Result<Erased>;

    /// Erases the same of deliveries that were leased and no longer are; one that is ready again
    /// is called off. Looks at up to `limit` of them and answers how many it was done with.
    ///
    /// A store that erases in several writes finishes here what broke off too, a minute after it
    /// began: until then an [`erase`](Self::erase) may be at it, which counts what it does.
    async fn finish_erasures(&self, limit: usize, now: Timestamp) -> Result<u64>;
}

/// What to erase.
#[derive(Clone, Debug)]
pub struct Erase {
    /// The organization.
    pub org: OrgId,
    /// Which events.
    pub target: Target,
    /// How many events at the most, at least one.
    pub limit: usize,
    /// The engine's time.
    pub now: Timestamp,
}

/// Which events to erase.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// These.
    Events(Vec<EventId>),
    /// Those of this subject.
    Subject(Arc<str>),
}

/// What was erased.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Erased {
    /// Events.
    pub events: u64,
    /// Deliveries that were called off.
    pub cancelled: u64,
    /// Attempts that had captured something.
    pub attempts: u64,
    /// Deliveries that were leased.
    pub under_way: u64,
    /// Whether the limit was reached, so that more may match.
    pub more: bool,
}
