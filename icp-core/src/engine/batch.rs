use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;

use crate::error::{Code, Error, Result};
use crate::telemetry::panic_words;

/// Joins what concurrent callers hand in into batches, one after the other.
///
/// A batch is flushed in a tracked task of its own, so a caller that goes away takes nothing
/// with it. While one batch is being flushed the next one gathers, and then waits at most `linger`
/// for more.
pub(crate) struct Batcher<I, O> {
    shared: Arc<Shared<I, O>>,
}

struct Shared<I, O> {
    queue: Mutex<Queue<I, O>>,
    full: Notify,
    /// The size of the batch before.
    last: AtomicUsize,
    tasks: TaskTracker,
    limits: BatchLimits,
    flush: Flush<I, O>,
}

struct Queue<I, O> {
    waiting: VecDeque<Waiting<I, O>>,
    flushing: bool,
}

/// An item, and who waits for its answer.
type Waiting<I, O> = (I, Option<oneshot::Sender<Result<O>>>);

type Flush<I, O> = Box<dyn Fn(Vec<I>) -> BoxFuture<'static, Result<Vec<O>>> + Send + Sync>;

/// How batches are formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// The most items of a batch.
    pub(crate) items: usize,
    /// The most items that may wait; more are refused.
    pub(crate) queue: usize,
    /// How long the first item waits for company.
    pub(crate) linger: Duration,
    /// How many items the batch before must have had for the next to wait at all: a caller that
    /// is alone is answered at once.
    pub(crate) linger_from: usize,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    pub(crate) fn new(
        tasks: TaskTracker,
        limits: BatchLimits,
        flush: impl Fn(Vec<I>) -> BoxFuture<'static, Result<Vec<O>>> + Send + Sync + 'static,
    ) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), flushing: false });
        let flush = Box::new(flush);
        Self {
            shared: Arc::new(Shared {
                queue,
                full: Notify::new(),
                last: AtomicUsize::new(0),
                tasks,
                limits,
                flush,
            }),
        }
    }

    /// Hands items in and waits for their answers, in order.
    ///
    /// Items are all taken or all refused. Dropping the call does not call them back.
    pub(crate) async fn submit(&self, items: Vec<I>) -> Result<Vec<Result<O>>> {
        let (items, receivers): (Vec<_>, Vec<_>) = items.into_iter().map(awaited).unzip();
        self.enqueue(items)?;
        let mut answers = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            answers.push(answer(receiver).await);
        }
        Ok(answers)
    }

    /// Hands one item in and waits for its answer. Dropping the call does not call it back.
    pub(crate) async fn submit_one(&self, item: I) -> Result<O> {
        let (item, receiver) = awaited(item);
        self.enqueue([item])?;
        answer(receiver).await
    }

    /// Hands an item in and does not wait; what becomes of it is the flush's to tell.
    pub(crate) fn push(&self, item: I) -> Result<()> {
        self.enqueue([(item, None)])
    }

    fn enqueue<T>(&self, items: T) -> Result<()>
    where
        T: IntoIterator<Item = Waiting<I, O>, IntoIter: ExactSizeIterator>,
    {
        let items = items.into_iter();
        let start = {
            let mut queue = self.shared.lock();
            if items.len() > self.shared.limits.queue.saturating_sub(queue.waiting.len()) {
                let message = "too much is waiting for the store; try again later";
                return Err(Error::new(Code::Overloaded, message));
            }
            queue.waiting.extend(items);
            if queue.waiting.len() >= self.shared.limits.items {
                self.shared.full.notify_one();
            }
            !std::mem::replace(&mut queue.flushing, true)
        };
        if start {
            let shared = Arc::clone(&self.shared);
            self.shared.tasks.spawn(async move { shared.run().await });
        }
        Ok(())
    }
}

fn awaited<I, O>(item: I) -> (Waiting<I, O>, oneshot::Receiver<Result<O>>) {
    let (sender, receiver) = oneshot::channel();
    ((item, Some(sender)), receiver)
}

async fn answer<O>(receiver: oneshot::Receiver<Result<O>>) -> Result<O> {
    let lost = |_| Err(Error::new(Code::Internal, "the batch ended without an answer"));
    receiver.await.unwrap_or_else(lost)
}

impl<I: Send + 'static, O: Send + 'static> Shared<I, O> {
    fn lock(&self) -> MutexGuard<'_, Queue<I, O>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self) {
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let company = last >= self.limits.linger_from && !self.limits.linger.is_zero();
            if company && self.lock().waiting.len() < self.limits.items {
                let _ = tokio::time::timeout(self.limits.linger, self.full.notified()).await;
            }
            let batch: Vec<_> = {
                let mut queue = self.lock();
                if queue.waiting.is_empty() {
                    queue.flushing = false;
                    return;
                }
                let count = queue.waiting.len().min(self.limits.items);
                queue.waiting.drain(..count).collect()
            };
            last = batch.len();
            self.last.store(last, Ordering::Relaxed);
            let (items, senders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let flushed = AssertUnwindSafe((self.flush)(items)).catch_unwind().await;
            let flushed = flushed.unwrap_or_else(|panic| {
                tracing::error!(panic = panic_words(&*panic), "a batch panicked");
                Err(Error::new(Code::Internal, "the batch broke off; see the log"))
            });
            match flushed {
                Ok(answers) => {
                    for (sender, answer) in senders.into_iter().zip(answers) {
                        let _ = sender.map(|sender| sender.send(Ok(answer)));
                    }
                }
                Err(error) => {
                    for sender in senders.into_iter().flatten() {
                        let _ = sender.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}

impl<I, O> fmt::Debug for Batcher<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubling(queue: usize, flushes: &Arc<AtomicUsize>) -> Arc<Batcher<u32, u32>> {
        let flushes = Arc::clone(flushes);
        let limits = BatchLimits { items: 10, queue, linger: Duration::ZERO, linger_from: 0 };
        Arc::new(Batcher::new(TaskTracker::new(), limits, move |items: Vec<u32>| {
            flushes.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(!items.contains(&99), "99 breaks the flush");
                if items.contains(&13) {
                    return Err(Error::new(Code::StoreFull, "full"));
                }
                Ok(items.into_iter().map(|i| i * 2).collect())
            })
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_flushes_and_get_their_own_answers() {
        let flushes = Arc::new(AtomicUsize::new(0));
        let batcher = doubling(1000, &flushes);
        let calls = (100..164).map(|i| {
            let batcher = Arc::clone(&batcher);
            async move { (i, batcher.submit_one(i).await.unwrap()) }
        });
        for (i, answer) in futures_util::future::join_all(calls).await {
            assert_eq!(answer, i * 2);
        }
        assert!(flushes.load(Ordering::SeqCst) <= 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_caller_takes_nothing_with_it() {
        let flushes = Arc::new(AtomicUsize::new(0));
        let batcher = doubling(1000, &flushes);
        let dropped = tokio::time::timeout(Duration::ZERO, batcher.submit_one(1)).await;
        assert!(dropped.is_err());
        assert_eq!(batcher.submit(vec![2]).await.unwrap().remove(0).unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_reach_every_caller_and_a_full_queue_refuses() {
        let batcher = doubling(3, &Arc::new(AtomicUsize::new(0)));
        let answers = batcher.submit(vec![1, 13]).await.unwrap();
        assert!(answers.iter().all(|a| a.as_ref().unwrap_err().code() == Code::StoreFull));
        assert_eq!(batcher.submit_one(13).await.unwrap_err().code(), Code::StoreFull);
        assert_eq!(batcher.submit(vec![0; 4]).await.unwrap_err().code(), Code::Overloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_fails_its_batch_and_no_other() {
        let batcher = doubling(10, &Arc::new(AtomicUsize::new(0)));
        let broken = batcher.submit_one(99).await.unwrap_err();
        assert_eq!(broken.code(), Code::Internal);
        assert_eq!(batcher.submit(vec![2]).await.unwrap().remove(0).unwrap(), 4);
    }
}
