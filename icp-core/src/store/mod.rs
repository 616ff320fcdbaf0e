//! The contract of a store: the sum of the nouns' storage traits.
//!
//! Every implementation keeps these rules, and the conformance suite checks them one by one:
//!
//! 1. Each method is one atomic unit. A backend may use a transaction inside; none is visible.
//! 2. Each write may be repeated with the same arguments without harm.
//! 3. Writes after a claim are fenced by the lease's epoch: a stale worker changes nothing.
//! 4. Time comes in as an argument.
//! 5. Reads of an organization take the organization; what belongs to another is not found.
//! 6. No lock and no transaction outlives a call; a call that is dropped half-way leaves either
//!    all or nothing behind.

mod memory;

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use memory::MemoryStore;

use crate::access::AccessStore;
use crate::analytics::AnalyticsStore;
use crate::delivery::{CancelStore, DeliveryStore, LaneStore};
use crate::erasure::ErasureStore;
use crate::error::Result;
use crate::event::EventStore;
use crate::letter::LetterStore;
use crate::replay::ReplayStore;
use crate::resource::{NoteStore, ResourceStore};
use crate::retention::RetentionStore;
use crate::slot::SlotStore;

/// Everything an engine needs to keep.
#[async_trait]
pub trait Store:
    ResourceStore
    + NoteStore
    + EventStore
    + DeliveryStore
    + LaneStore
    + CancelStore
    + ReplayStore
    + LetterStore
    + RetentionStore
    + ErasureStore
    + AccessStore
    + SlotStore
    + AnalyticsStore
{
    /// What kind of store this is.
    fn info(&self) -> StoreInfo;

    /// Answers whether the store takes reads and writes now.
    async fn ping(&self) -> Result<()>;

    /// Waits until another part of this process has committed work to the store (an outbox row,
    /// say) that the engine might not know of. A hint: it may never come, and it may come
    /// without reason; polling alone is always enough.
    async fn wakeup(&self);

    /// Whether the hints of other processes reach this one at present, so that a node without
    /// work need not keep asking. Where they do not, or not any more, an engine polls.
    ///
    /// A store that answers yes brings [`wakeup`](Self::wakeup) to an end for a
    /// [`hint_others`](Self::hint_others) of another process, and where hints may have been missed.
    fn hears(&self) -> bool {
        false
    }

    /// Hints to the engines of other processes that there is work, where the store can. It may
    /// be lost.
    async fn hint_others(&self) -> Result<()> {
        Ok(())
    }
}

/// Facts about a store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The backend, as in `memory` or `sqlite`.
    pub backend: String,
    /// Whether what is committed outlives the process.
    pub durable: bool,
    /// Whether a host can publish within a transaction of its own.
    pub host_transactions: bool,
}

impl StoreInfo {
    /// The facts of `backend`.
    pub fn new(backend: impl Into<String>, durable: bool, host_transactions: bool) -> Self {
        Self { backend: backend.into(), durable, host_transactions }
    }
}

/// Where a page starts and how long it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageQuery<K> {
    /// The key of the last item of the page before.
    pub after: Option<K>,
    /// The number of items, 1 to 1,000. Default 50.
    pub limit: usize,
}

impl<K> Default for PageQuery<K> {
    fn default() -> Self {
        Self { after: None, limit: 50 }
    }
}

/// A page of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Whether more follow.
    pub more: bool,
}

impl<T> Page<T> {
    /// The page of `limit` items out of a read of up to `limit + 1`.
    #[must_use]
    pub fn cut(mut items: Vec<T>, limit: usize) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}
