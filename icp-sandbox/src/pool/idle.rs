//! Workers without a call: kept for the next one of their organization, and only for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use icp_core::id::OrgId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Idle workers. Dropping one ends it, dropping this ends all.
#[derive(Debug)]
pub(super) struct Idle<W> {
    shelf: Arc<Shelf<W>>,
    /// The task that ends what nobody asked for; it ends with this.
    expiry: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shelf<W> {
    /// The longest idle first.
    kept: Mutex<VecDeque<Kept<W>>>,
    most: Duration,
}

#[derive(Debug)]
struct Kept<W> {
    org: OrgId,
    worker: W,
    since: Instant,
}

impl<W: Send + 'static> Idle<W> {
    /// Keeps workers for `most`.
    pub(super) fn new(most: Duration) -> Self {
        let shelf = Arc::new(Shelf { kept: Mutex::default(), most });
        Self { shelf, expiry: Mutex::default() }
    }

    /// Keeps a worker, and sees to it that it ends in time.
    pub(super) fn keep(&self, org: OrgId, worker: W) {
        let mut kept = self.shelf.kept();
        kept.push_back(Kept { org, worker, since: Instant::now() });
        drop(kept);
        let mut expiry = self.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        // One that ended did so with the runtime it was on.
        while expiry.try_join_next().is_some() {}
        if expiry.is_empty() {
            expiry.spawn(expire(Arc::downgrade(&self.shelf)));
        }
    }

    /// The worker of the organization that was used last and `is_usable`; those that are not are
    /// ended.
    pub(super) fn take(&self, org: &OrgId, mut is_usable: impl FnMut(&mut W) -> bool) -> Option<W> {
        self.shelf.expire();
        loop {
            let mut kept = self.shelf.kept();
            let at = kept.iter().rposition(|idle| idle.org == *org)?;
            let mut worker = kept.remove(at)?.worker;
            drop(kept);
            if is_usable(&mut worker) {
                return Some(worker);
            }
        }
    }

    /// Ends those that were idle longest until `most` are left.
    pub(super) fn shrink(&self, most: usize) {
        let mut kept = self.shelf.kept();
        let beyond = kept.len().saturating_sub(most);
        let ended: Vec<_> = kept.drain(..beyond).collect();
        drop(kept);
        drop(ended);
    }

    /// What `tell` says of each, the longest idle first.
    pub(super) fn list<T>(&self, tell: impl Fn(&OrgId, &W) -> T) -> Vec<T> {
        self.shelf.kept().iter().map(|idle| tell(&idle.org, &idle.worker)).collect()
    }
}

impl<W> Shelf<W> {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept<W>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends those whose time is over, and tells when to look again: nothing can be over before.
    fn expire(&self) -> Instant {
        let now = Instant::now();
        let mut kept = self.kept();
        let over = kept.partition_point(|idle| idle.since + self.most <= now);
        let ended: Vec<_> = kept.drain(..over).collect();
        let next = kept.front().map_or(now, |idle| idle.since) + self.most;
        drop(kept);
        drop(ended);
        next
    }
}

async fn expire<W>(shelf: Weak<Shelf<W>>) {
    loop {
        let Some(next) = shelf.upgrade().map(|shelf| shelf.expire()) else { return };
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const MOST: Duration = Duration::from_secs(120);

    /// Counts itself while it lives.
    #[derive(Debug)]
    struct Worker(Arc<AtomicUsize>, u32);

    impl Drop for Worker {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[derive(Default)]
    struct Factory(Arc<AtomicUsize>);

    impl Factory {
        fn make(&self, id: u32) -> Worker {
            self.0.fetch_add(1, Ordering::SeqCst);
            Worker(Arc::clone(&self.0), id)
        }

        fn living(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn org(name: &str) -> OrgId {
        OrgId::new(name).unwrap()
    }

    async fn after(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_ends_by_itself_when_nobody_asks_for_it() {
        let (idle, made) = (Idle::new(MOST), Factory::default());
        idle.keep(org("a"), made.make(1));
        after(100).await;
        idle.keep(org("b"), made.make(2));
        after(19).await;
        assert_eq!(made.living(), 2);
        after(2).await;
        assert_eq!(idle.list(|org, worker| (org.to_string(), worker.1)), [("b".to_owned(), 2)]);
        assert_eq!(made.living(), 1);
        after(100).await;
        assert_eq!(made.living(), 0);
        // After a time without any, the next is watched as well.
        after(1_000).await;
        idle.keep(org("a"), made.make(3));
        after(119).await;
        assert_eq!(made.living(), 1);
        after(2).await;
        assert_eq!(made.living(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_used_again_counts_anew() {
        let (idle, made) = (Idle::new(MOST), Factory::default());
        idle.keep(org("a"), made.make(1));
        after(119).await;
        let worker = idle.take(&org("a"), |_| true).unwrap();
        after(60).await;
        assert_eq!(made.living(), 1);
        idle.keep(org("a"), worker);
        after(119).await;
        assert_eq!(made.living(), 1);
        after(2).await;
        assert_eq!(made.living(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_used_and_usable_one_of_an_organization_is_taken() {
        let (idle, made) = (Idle::new(MOST), Factory::default());
        for (name, id) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
            idle.keep(org(name), made.make(id));
        }
        let worker = idle.take(&org("a"), |worker| worker.1 != 4).unwrap();
        assert_eq!((worker.1, made.living()), (3, 3));
        assert!(idle.take(&org("c"), |_| true).is_none());
        idle.keep(org("a"), worker);
        idle.shrink(2);
        assert_eq!(idle.list(|_, worker| worker.1), [2, 3]);
        idle.shrink(5);
        assert_eq!(made.living(), 2);
        drop(idle);
        assert_eq!(made.living(), 0);
    }

    #[test]
    fn a_new_runtime_watches_what_the_last_one_left() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_time().start_paused(true).build().unwrap()
        };
        let (idle, made) = (Idle::new(MOST), Factory::default());
        runtime().block_on(async { idle.keep(org("a"), made.make(1)) });
        runtime().block_on(async {
            after(500).await;
            assert_eq!(made.living(), 1, "nobody is there to end it");
            idle.keep(org("a"), made.make(2));
            after(121).await;
            assert_eq!(made.living(), 0);
        });
    }
}
