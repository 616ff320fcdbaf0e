//! The room for attempts on a node, and how organizations share it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::id::OrgId;

/// An organization may hold so many times the room that is free. One alone gets three quarters of
/// a node, ten that want all of it get a tenth each, and some is left for all others.
const SHARE: usize = 3;

/// Room for so many attempts.
#[derive(Debug)]
pub(crate) struct Rooms {
    free: Arc<Semaphore>,
    all: usize,
    held: Mutex<HashMap<OrgId, usize>>,
    /// Whether an organization was passed over because it held its share.
    passed_over: AtomicBool,
}

impl Rooms {
    pub(crate) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(all)),
            all,
            held: Mutex::default(),
            passed_over: AtomicBool::default(),
        })
    }

    /// The most that is taken in one go, so that a share is not overrun by much.
    pub(crate) fn handful(&self) -> usize {
        self.all.div_ceil(4)
    }

    /// Whether more than three quarters are taken, so that one organization could hold more than
    /// its share.
    pub(crate) fn are_nearly_full(&self) -> bool {
        self.free.available_permits() < self.handful()
    }

    /// Takes room that is free now, up to `wanted`; nothing where there is none.
    pub(crate) fn take(&self, wanted: usize) -> Option<OwnedSemaphorePermit> {
        let count = wanted.min(self.free.available_permits()).min(self.handful());
        let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
        Arc::clone(&self.free).try_acquire_many_owned(count).ok()
    }

    /// Waits for room for one attempt; nothing where there will be none any more.
    pub(crate) async fn one(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Whether nothing is held.
    pub(crate) fn are_free(&self) -> bool {
        self.free.available_permits() == self.all
    }

    /// Waits until nothing is held.
    pub(crate) async fn emptied(&self) {
        let all = u32::try_from(self.all).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(all).await;
    }

    /// Waits for all room but that of one attempt, for the one that has it. Whoever asks for room
    /// meanwhile waits, or gets none. Nothing where there will be no room any more.
    pub(crate) async fn rest(&self) -> Option<OwnedSemaphorePermit> {
        let rest = u32::try_from(self.all.saturating_sub(1)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(rest).await.ok()
    }

    /// Gives room to an attempt of `org`.
    pub(crate) fn give(self: &Arc<Self>, org: &OrgId, permit: OwnedSemaphorePermit) -> Room {
        *self.held().entry(org.clone()).or_default() += 1;
        Room { org: org.clone(), rooms: Arc::clone(self), permit }
    }

    /// Whether `org` may hold more.
    pub(crate) fn has_share_for(&self, org: &OrgId) -> bool {
        let share = self.share(0);
        if self.all < share + self.free.available_permits() {
            return true;
        }
        let within = self.held().get(org).is_none_or(|held| *held < share);
        if !within {
            self.passed_over.store(true, Ordering::Relaxed);
        }
        within
    }

    /// Organizations that hold their share, where room for `taken` attempts is about to be given.
    pub(crate) fn served(&self, taken: usize) -> Arc<[OrgId]> {
        let share = self.share(taken);
        if self.all < share + self.free.available_permits() {
            return Arc::default();
        }
        let held = self.held();
        let served = held.iter().filter(|(_, held)| **held >= share).map(|(org, _)| org.clone());
        let served: Arc<[OrgId]> = served.collect();
        drop(held);
        if !served.is_empty() {
            self.passed_over.store(true, Ordering::Relaxed);
        }
        served
    }

    /// Whether an organization was passed over since this was asked last.
    pub(crate) fn were_passed_over(&self) -> bool {
        self.passed_over.load(Ordering::Relaxed) && self.passed_over.swap(false, Ordering::Relaxed)
    }

    fn share(&self, taken: usize) -> usize {
        (self.free.available_permits() + taken).saturating_mul(SHARE)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<OrgId, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one attempt of an organization, given back when it is dropped.
pub(crate) struct Room {
    org: OrgId,
    rooms: Arc<Rooms>,
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Keeps `more` for as long as its own.
    pub(crate) fn widen(&mut self, more: OwnedSemaphorePermit) {
        self.permit.merge(more);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Room").field(&self.org).finish()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut held = self.rooms.held();
        if let Some(count) = held.get_mut(&self.org) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.org);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(name: &str) -> OrgId {
        OrgId::new(name).unwrap()
    }

    /// Takes what `name` may have of what is wanted, as claims do.
    fn fill(rooms: &Arc<Rooms>, name: &str) -> Vec<Room> {
        let (org, mut given) = (org(name), Vec::new());
        while let Some(mut permit) = rooms.take(7) {
            if rooms.served(permit.num_permits()).contains(&org) {
                break;
            }
            while let Some(one) = permit.split(1) {
                given.push(rooms.give(&org, one));
            }
        }
        given
    }

    #[test]
    fn one_alone_leaves_a_quarter_and_others_get_theirs() {
        let rooms = Rooms::new(1_000);
        assert!(!rooms.are_nearly_full());
        let first = fill(&rooms, "first");
        assert!(rooms.are_nearly_full());
        assert!((750..=757).contains(&first.len()), "{}", first.len());
        assert!(!rooms.has_share_for(&org("first")));
        assert!(rooms.has_share_for(&org("second")));
        let second = fill(&rooms, "second");
        assert!((180..=195).contains(&second.len()), "{}", second.len());
        assert!(rooms.has_share_for(&org("third")));
        drop(first);
        assert!(rooms.has_share_for(&org("first")));
    }

    #[test]
    fn many_that_want_all_leave_room_for_one_more() {
        let rooms = Rooms::new(1_000);
        let mut all: Vec<Vec<Room>> = (0..10).map(|n| fill(&rooms, &format!("o{n}"))).collect();
        // The first give back what is more than their share by now, and the others take it.
        for _ in 0..50 {
            for (n, rooms_of) in all.iter_mut().enumerate() {
                rooms_of.truncate(rooms_of.len() * 9 / 10);
                rooms_of.extend(fill(&rooms, &format!("o{n}")));
            }
        }
        let held: Vec<usize> = all.iter().map(Vec::len).collect();
        let total: usize = held.iter().sum();
        assert!(held.iter().all(|held| *held >= 40), "{held:?}");
        assert!((20..200).contains(&(1_000 - total)), "{held:?}");
    }

    #[test]
    fn what_was_passed_over_is_told_once() {
        let rooms = Rooms::new(8);
        assert!(rooms.served(1).is_empty() && !rooms.were_passed_over());
        let _all = fill(&rooms, "first");
        assert_eq!(*rooms.served(0), [org("first")]);
        assert!(rooms.were_passed_over());
        assert!(!rooms.were_passed_over());
    }
}
