use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use icp::store::Store;
use icp::{Code, Error, Result};
use icp_testkit::intercept::{Call, Intercept, Intercepted};
use tokio::sync::Semaphore;

/// `store`, asked no more than `calls` things at once; further calls wait for their turn, the
/// first that came first.
pub(crate) fn limited(store: Arc<dyn Store>, calls: usize) -> Intercepted<Limit> {
    let limit = Limit { calls, turns: Semaphore::new(calls), most: AtomicUsize::new(0) };
    Intercepted::new(store, limit)
}

/// Keeps a database that the host needs for other things as well from being flooded.
#[derive(Debug)]
pub(crate) struct Limit {
    calls: usize,
    turns: Semaphore,
    /// The most calls that were under way at once.
    pub(crate) most: AtomicUsize,
}

impl Intercept for Limit {
    /// A call that is dropped gives its turn back, under way or not.
    async fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
    ) -> Result<T> {
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|closed| {
            Error::new(Code::Internal, "the limit was closed").during(operation).caused_by(closed)
        })?;
        let under_way = self.calls - self.turns.available_permits();
        self.most.fetch_max(under_way, Ordering::Relaxed);
        call.await
    }
}
