//! The background duties of an engine, one in each file.

pub(crate) mod beat;
pub(crate) mod claim;
pub(crate) mod doze;
pub(crate) mod erase;
pub(crate) mod feed;
pub(crate) mod gauge;
pub(crate) mod prune;
pub(crate) mod pump;
pub(crate) mod reap;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod rounds;
pub(crate) mod sweep;
pub(crate) mod tally;
pub(crate) mod watch;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Waits for `interval`, or answers that the duty is over.
pub(crate) async fn pause(stop: &CancellationToken, interval: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(interval) => true,
    }
}
