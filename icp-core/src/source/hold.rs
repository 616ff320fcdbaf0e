//! The right of one node to read a source, for as long as it is renewed.

use std::future::Future;
use std::time::Duration;

use tokio::time::sleep;

use super::pump::Pump;
use super::{ProgressSlot, SourceSpec};
use crate::engine::duty::pause;
use crate::error::{Result, unwound};
use crate::resource::Spec;

/// How long it is waited after a first failure.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How often a source that this process cannot poll now is looked at again.
const UNREADY: Duration = Duration::from_secs(1);

/// The right to read a source.
pub(super) struct Hold {
    pub(super) slot: ProgressSlot,
    /// When it is to be renewed, by this process's own clock.
    pub(super) renew_at: Duration,
}

/// Why a hold is given up.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Left {
    /// Another node has it, or the checkpoint was moved: look again.
    Lost,
    /// The source cannot be polled here now.
    Unready,
    /// It has failed here several times in a row; it may go better elsewhere.
    Failing,
    /// The pump ends.
    Stopped,
}

impl Pump {
    /// Waits until this node may read the source: nobody does, or whoever did was not heard of for
    /// a lease, by this process's own clock.
    pub(super) async fn acquire(&self) -> Option<Hold> {
        let mut watched = None;
        while !self.stop.is_cancelled() {
            let wait = match self.is_ready() {
                false => UNREADY,
                true => match self.try_acquire(&mut watched).await {
                    Ok(Some(hold)) => return Some(hold),
                    Ok(None) => self.look(),
                    Err(error) => {
                        self.store_failed(&error);
                        FIRST_PAUSE
                    }
                },
            };
            if !pause(&self.stop, wait).await {
                return None;
            }
        }
        None
    }

    /// `watched` is the version that was found last, and when it was found first.
    async fn try_acquire(&self, watched: &mut Option<(u64, Duration)>) -> Result<Option<Hold>> {
        let core = &self.core;
        let source = (&self.org, &self.id, self.version);
        let mut slot = ProgressSlot::read(&*core.store, source, core.clock.now()).await?;
        let now = core.clock.monotonic();
        let others = slot.progress.holder.as_ref().is_some_and(|holder| **holder != *self.reader);
        if let Some(version) = slot.slot_version().filter(|_| others) {
            let since = match *watched {
                Some((known, since)) if known == version => since,
                _ => watched.insert((version, now)).1,
            };
            if now.saturating_sub(since) < core.config.lease {
                return Ok(None);
            }
        }
        slot.progress.holder = Some(self.reader.to_string());
        let taken = slot.write(&*core.store, core.clock.now()).await?;
        Ok(taken.then(|| Hold { slot, renew_at: now + self.term() }))
    }

    /// How often it is looked whether nobody reads the source.
    pub(super) fn look(&self) -> Duration {
        self.core.config.lease / 6
    }

    /// How long a hold is good before it is renewed.
    pub(super) fn term(&self) -> Duration {
        self.core.config.lease / 3
    }

    /// Whether this process can poll the source now.
    pub(super) fn is_ready(&self) -> bool {
        unwound("ask an event source", || Ok(self.source.is_ready(&self.spec.name)))
            .unwrap_or(false)
    }

    /// Does `work` while the hold is renewed.
    ///
    /// Both go on side by side: work may have what the store needs for the renewal, as the one
    /// connection that writes.
    pub(super) async fn while_held<T>(
        &self,
        hold: &mut Hold,
        work: impl Future<Output = T>,
    ) -> Result<T, Left> {
        let mut work = std::pin::pin!(work);
        loop {
            let due = hold.renew_at.saturating_sub(self.core.clock.monotonic());
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep(due) => {}
            }
            let mut renewal = std::pin::pin!(self.renew(hold));
            tokio::select! {
                biased;
                renewed = &mut renewal => renewed?,
                done = &mut work => {
                    renewal.await?;
                    return Ok(done);
                }
            }
        }
    }

    async fn renew(&self, hold: &mut Hold) -> Result<(), Left> {
        if !self.is_ready() {
            return Err(Left::Unready);
        }
        let clock = &self.core.clock;
        let began = clock.monotonic();
        match hold.slot.write(&*self.core.store, clock.now()).await {
            Ok(true) => hold.renew_at = began + self.term(),
            Ok(false) => return Err(Left::Lost),
            Err(error) => {
                self.store_failed(&error);
                hold.renew_at = clock.monotonic() + FIRST_PAUSE;
            }
        }
        Ok(())
    }

    /// Does `work` unless the pump ends first.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Left> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Left::Stopped),
            done = work => Ok(done),
        }
    }

    /// Lets another node read the source at once, and leaves nothing of one that was deleted.
    pub(super) async fn release(&self, slot: ProgressSlot) {
        if let Err(error) = self.try_release(slot).await {
            self.store_failed(&error);
        }
    }

    async fn try_release(&self, mut slot: ProgressSlot) -> Result<()> {
        let store = &*self.core.store;
        if store.resource(&self.org, SourceSpec::KIND, &self.id).await?.is_none() {
            return slot.remove(store).await;
        }
        slot.progress.holder = None;
        slot.write(store, self.core.clock.now()).await.map(|_| ())
    }
}
