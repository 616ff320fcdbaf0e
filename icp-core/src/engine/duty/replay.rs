//! Works on replay jobs, a batch of each at a time. When one is started here, when the next batch
//! is due, and every `replay`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::core::Core;
use crate::engine::doze::Expected;
use crate::error::{Code, Result};
use crate::replay::{ReplayClaim, work};

/// The shortest wait for a batch that is due soon.
const BREATH: Duration = Duration::from_millis(1);

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let wait = match once(&core).await {
            Ok(wait) => wait,
            Err(error) if error.code() == Code::LeaseLost => Duration::ZERO,
            Err(error) => {
                core.metrics.store_errors.inc();
                tracing::warn!(icp.error = error.code().as_str(), "a replay failed: {error}");
                core.config.replay
            }
        };
        if wait.is_zero() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = core.doze().sleep(wait) => {}
            () = core.replays.notified() => {}
        }
    }
    if let Err(error) = core.store.release_replays(core.session.id(), core.clock.now()).await {
        tracing::warn!(icp.error = error.code().as_str(), "replays stay leased: {error}");
    }
}

/// Makes one batch of the job that has waited longest; answers how long to wait for the next.
pub(crate) async fn once(core: &Core) -> Result<Duration> {
    let now = core.clock.now();
    let session = core.session.id();
    let claim = ReplayClaim { session, now, lease_until: now + work::lease(core) };
    let claimed = core.store.claim_replay(claim).await?;
    let next = claimed.next_at.filter(|_| claimed.job.is_none());
    core.doze().expect(Expected::Replay, core.until(next));
    let Some(job) = claimed.job else {
        let poll = core.config.replay;
        return Ok(claimed.next_at.map_or(poll, |at| at.since(now).clamp(BREATH.min(poll), poll)));
    };
    core.stir();
    work::step(core, &job).await?;
    Ok(Duration::ZERO)
}

#[cfg(test)]
#[cfg(feature = "http")]
mod tests;
