//! A store in plain maps behind one mutex: exact, quick, and gone with the process.

mod access;
mod analytics;
mod audit;
mod cancel;
mod claim;
mod delivery;
mod erasure;
mod event;
mod handle;
mod health;
mod lane;
mod letter;
mod replay;
mod rescue;
mod resource;
mod retention;
mod settle;
mod slot;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Store, StoreInfo};
use crate::error::Result;
use crate::event::Event;
use crate::id::DeliveryId;

/// Keeps everything in memory; for tests, and for hosts that need no durability.
///
/// Clones share the same content. Calls never wait for anything but the mutex, and each holds it
/// for one unit of work.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    hint: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: event::Events,
    deliveries: delivery::Deliveries,
    replays: replay::Replays,
    letters: letter::Letters,
    /// Leased deliveries of erased events.
    erasing: BTreeSet<DeliveryId>,
    resources: resource::Resources,
    slots: slot::Slots,
    rollups: analytics::Rollups,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an accepted event into the outbox, as a host's committed transaction would, and
    /// wakes whoever waits for work.
    pub fn publish_in_outbox(&self, event: Event) {
        self.lock().events.put_outbox(event);
        self.shared.hint.notify_one();
    }

    // A panic under the lock is a defect of this module; what others stored is still theirs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("memory", false, false)
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn wakeup(&self) {
        self.shared.hint.notified().await;
    }
}
