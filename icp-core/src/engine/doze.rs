//! Whether a node dozes: it has had no work for a while, and others will tell it of theirs.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// A node that dozes has no open session and asks its store for almost nothing.
///
/// It is roused by whoever uses the index, by its own work that gets due, and by hints of others.
#[derive(Debug)]
pub(crate) struct Doze {
    dozes: watch::Sender<bool>,
    work: Mutex<Work>,
    /// Says that there is work while the node dozes.
    called: Notify,
    interval: OnceLock<Duration>,
}

/// How often others are told of work, where nothing else is set.
const INTERVAL: Duration = Duration::from_secs(20);

/// When there was work, by the monotonic clock.
#[derive(Debug, Default)]
struct Work {
    last: Duration,
    /// When others were told of some.
    told: Option<Duration>,
    /// When rows were found that nobody had hinted at.
    unheard: Option<Duration>,
    /// When what is known to come will be there.
    expected: [Option<Duration>; 2],
}

/// What gets due at a time that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Delivery,
    Replay,
}

impl Default for Doze {
    fn default() -> Self {
        let dozes = watch::Sender::new(false);
        Self { dozes, work: Mutex::default(), called: Notify::new(), interval: OnceLock::new() }
    }
}

impl Doze {
    pub(crate) fn dozes(&self) -> bool {
        *self.dozes.borrow()
    }

    /// Notes that there is or was work at `now`.
    pub(crate) fn stir(&self, now: Duration) {
        let mut work = self.work();
        work.last = work.last.max(now);
        // Within the lock, so that a node that is about to doze sees either of the two.
        if self.dozes() {
            self.called.notify_one();
        }
    }

    /// Waits until there is work for a node that dozes.
    pub(crate) async fn called(&self) {
        self.called.notified().await;
    }

    /// For how long there was no work.
    pub(crate) fn quiet(&self, now: Duration) -> Duration {
        now.saturating_sub(self.work().last)
    }

    /// Sets once how often others are told as long as there is work: well before they may doze.
    pub(crate) fn tell_every(&self, interval: Duration) {
        // Set by the one engine that this is part of.
        let _ = self.interval.set(interval);
    }

    pub(crate) fn interval(&self) -> Duration {
        *self.interval.get_or_init(|| INTERVAL)
    }

    /// Whether others are to be told of work at `now`; they are taken to be.
    pub(crate) fn tells(&self, now: Duration) -> bool {
        let interval = self.interval();
        let mut work = self.work();
        let due = work.told.is_none_or(|told| now.saturating_sub(told) >= interval);
        if due {
            work.told = Some(now);
        }
        due
    }

    /// Notes that work was found at `now` that nobody had hinted at.
    pub(crate) fn unheard(&self, now: Duration) {
        self.work().unheard = Some(now);
    }

    /// When work was found last that nobody had hinted at.
    pub(crate) fn last_unheard(&self) -> Option<Duration> {
        self.work().unheard
    }

    /// Notes when the next of this kind gets due, if any will.
    pub(crate) fn expect(&self, what: Expected, at: Option<Duration>) {
        self.work().expected[what as usize] = at;
    }

    /// When the first of what is expected gets due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.work().expected.into_iter().flatten().min()
    }

    /// Dozes from now on, unless there was work since `quiet_since`.
    pub(crate) fn begin(&self, quiet_since: Duration) -> bool {
        let work = self.work();
        if work.last > quiet_since {
            return false;
        }
        self.dozes.send_replace(true);
        true
    }

    /// Dozes no more: every duty goes on.
    pub(crate) fn end(&self) {
        self.dozes.send_if_modified(|dozes| std::mem::replace(dozes, false));
    }

    /// Waits until the node does not doze.
    pub(crate) async fn over(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.dozes.subscribe().wait_for(|dozes| !dozes).await;
    }

    /// Waits for `interval` and for as long as the node dozes.
    pub(crate) async fn sleep(&self, interval: Duration) {
        tokio::time::sleep(interval).await;
        self.over().await;
    }

    /// As [`sleep`](Self::sleep), or answers that the duty is over.
    pub(crate) async fn pause(&self, stop: &CancellationToken, interval: Duration) -> bool {
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            () = self.sleep(interval) => true,
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_dozes_where_there_was_no_work_and_a_duty_waits_for_its_end() {
        let doze = Doze::default();
        doze.stir(at(7));
        assert_eq!(doze.quiet(at(10)), at(3));
        assert!(!doze.begin(at(6)), "there was work");
        let stop = CancellationToken::new();
        assert!(doze.pause(&stop, at(1)).await, "it is awake");
        assert!(doze.begin(at(7)) && doze.dozes());
        let waiting = tokio::time::timeout(at(3_600), doze.pause(&stop, at(1))).await;
        assert!(waiting.is_err(), "a duty went on");
        let (resumed, ()) = tokio::join!(doze.pause(&stop, at(1)), async {
            tokio::time::sleep(at(5)).await;
            doze.end();
        });
        assert!(resumed && !doze.dozes());
        assert!(doze.begin(at(8)));
        let (resumed, ()) = tokio::join!(doze.pause(&stop, at(1)), async { stop.cancel() });
        assert!(!resumed, "the engine stops");
    }

    #[tokio::test(start_paused = true)]
    async fn work_calls_a_node_that_dozes_and_no_other() {
        let doze = Doze::default();
        doze.stir(at(1));
        assert!(tokio::time::timeout(at(1), doze.called()).await.is_err());
        assert!(doze.begin(at(1)));
        doze.stir(at(2));
        assert!(tokio::time::timeout(at(1), doze.called()).await.is_ok());
    }

    #[test]
    fn others_are_told_once_in_an_interval() {
        let doze = Doze::default();
        doze.tell_every(at(4));
        let told: Vec<_> = (0..9).filter(|second| doze.tells(at(*second))).collect();
        assert_eq!(told, [0, 4, 8]);
    }
}
