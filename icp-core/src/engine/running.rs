use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::duty::{
    beat, claim, doze, erase, feed, gauge, prune, pump, reap, relay, replay, rounds, sweep, tally,
    watch,
};
use super::supervise::supervise;
use crate::error::{Code, Error, Result};

/// How long outcomes of attempts that were broken off may take to be recorded.
const GRACE: Duration = Duration::from_secs(5);

/// A started engine. Dropping it stops the engine at once: attempts under way are given back.
#[derive(Debug)]
#[must_use = "an engine stops when this is dropped"]
pub struct Running {
    core: Arc<Core>,
    beat: CancellationToken,
}

/// What a shutdown brought to an end.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Drained {
    /// Attempts that were under way and ended in time.
    pub finished: u64,
    /// Attempts that were broken off; their deliveries are due again, the tries not counted.
    pub released: u64,
    /// Leases whose outcome could not be recorded; another node takes them over.
    pub unsettled: u64,
}

pub(super) async fn start(core: &Arc<Core>) -> Result<Running> {
    if core.running.swap(true, Ordering::AcqRel) {
        let message = "the engine was started before; build another one";
        return Err(Error::new(Code::ConfigInvalid, message).during("start"));
    }
    let sent = core.clock.monotonic();
    if let Err(error) = core.store.open_session(core.session.id(), core.clock.now()).await {
        core.running.store(false, Ordering::Release);
        return Err(error.during("start"));
    }
    core.session.confirm(sent);
    let beat = begin_duties(core);
    tracing::info!(
        icp.session.id = %core.session.id(),
        icp.store = core.store.info().backend,
        "the engine runs"
    );
    Ok(Running { core: Arc::clone(core), beat })
}

/// Starts every duty; answers what ends the beat, which goes on until all others have ended.
///
/// Not asynchronous, so that the duties are compiled with this crate, and not again with each
/// program that starts an engine.
fn begin_duties(core: &Arc<Core>) -> CancellationToken {
    let beat_stop = CancellationToken::new();
    let stop = || core.stop.clone();
    supervise(core, "beat", beat_stop.clone(), beat::run);
    supervise(core, "claim", stop(), claim::run);
    supervise(core, "doze", stop(), doze::run);
    supervise(core, "erase", stop(), erase::run);
    supervise(core, "feed", stop(), feed::run);
    supervise(core, "gauge", stop(), gauge::run);
    supervise(core, "prune", stop(), prune::run);
    supervise(core, "pump", stop(), pump::run);
    supervise(core, "reap", stop(), reap::run);
    supervise(core, "relay", stop(), relay::run);
    supervise(core, "replay", stop(), replay::run);
    supervise(core, "rounds", stop(), rounds::run);
    supervise(core, "sweep", stop(), sweep::run);
    supervise(core, "tally", stop(), tally::run);
    supervise(core, "watch", stop(), watch::run);
    beat_stop
}

impl Running {
    /// Stops the engine: claims end at once, attempts under way have until `deadline` from now,
    /// the rest is given back.
    ///
    /// The engine's handles go on taking events; other nodes deliver them.
    ///
    /// # Cancellation
    ///
    /// Dropping the call stops the engine as dropping [`Running`] does.
    pub async fn shutdown(self, deadline: Duration) -> Drained {
        let core = &self.core;
        let finished = core.finished.load(Ordering::Relaxed);
        core.stop.cancel();
        core.live.close();
        if tokio::time::timeout(deadline, self.idle()).await.is_err() {
            core.abort.cancel();
            if tokio::time::timeout(GRACE, self.idle()).await.is_err() {
                core.give_up.cancel();
                let _ = tokio::time::timeout(GRACE, self.idle()).await;
            }
        }
        core.pumps.close();
        if tokio::time::timeout(GRACE, core.pumps.wait()).await.is_err() {
            tracing::warn!("event sources that this node reads could not be let go in time");
        }
        let unsettled = core.leases().len() as u64;
        if tokio::time::timeout(GRACE, tally::once(core)).await.is_err() {
            tracing::warn!("the last statistics could not be written in time");
        }
        self.beat.cancel();
        if let Err(error) = core.store.close_session(core.session.id()).await {
            tracing::warn!(icp.error = error.code().as_str(), "the session stays open: {error}");
        }
        let drained = Drained {
            finished: core.finished.load(Ordering::Relaxed) - finished,
            released: core.released.load(Ordering::Relaxed),
            unsettled,
        };
        tracing::info!(?drained, "the engine stopped");
        drained
    }

    /// Waits until no attempt is under way and every outcome is recorded.
    async fn idle(&self) {
        self.core.rooms.emptied().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.stop.cancel();
        self.core.live.close();
        self.core.abort.cancel();
        self.beat.cancel();
    }
}
