use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::telemetry::{Duty, panic_words};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a background duty is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DutyState {
    /// At work.
    Running,
    /// It panicked and is about to begin again.
    Restarting,
    /// At an end, because the engine stops.
    Stopped,
}

/// The state of every duty of an engine.
#[derive(Debug, Default)]
pub(crate) struct Duties(Mutex<BTreeMap<&'static str, DutyState>>);

impl Duties {
    pub(crate) fn states(&self) -> BTreeMap<&'static str, DutyState> {
        self.lock().clone()
    }

    fn set(&self, duty: &'static str, state: DutyState) {
        self.lock().insert(duty, state);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, DutyState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a duty until `stop`; where it panics, it begins again after a pause that grows.
pub(crate) fn supervise<F>(
    core: &Arc<Core>,
    name: &'static str,
    stop: CancellationToken,
    duty: fn(Arc<Core>, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let core = Arc::clone(core);
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let mut pause = FIRST_PAUSE;
        core.duties.set(name, DutyState::Running);
        while let Err(panic) =
            AssertUnwindSafe(duty(Arc::clone(&core), stop.clone())).catch_unwind().await
        {
            core.metrics.panics.inc();
            core.metrics.duty_restarts.get_or_create(&Duty { duty: name }).inc();
            core.duties.set(name, DutyState::Restarting);
            tracing::error!(icp.duty = name, panic = panic_words(&*panic), "a duty panicked");
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            core.duties.set(name, DutyState::Running);
        }
        core.duties.set(name, DutyState::Stopped);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::engine::Engine;
    use crate::store::MemoryStore;

    static LIVES: AtomicU32 = AtomicU32::new(0);

    async fn breaks_twice(core: Arc<Core>, stop: CancellationToken) {
        let life = LIVES.fetch_add(1, Ordering::SeqCst);
        assert!(life >= 2, "life {life} ends early");
        core.due.notify_one();
        stop.cancelled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_duty_that_panics_begins_again_and_is_seen() {
        let engine = Engine::builder(MemoryStore::new()).build().unwrap();
        let core = engine.core();
        let stop = CancellationToken::new();
        supervise(core, "test", stop.clone(), breaks_twice);
        core.due.notified().await;
        assert_eq!(core.duties.states()["test"], DutyState::Running);
        assert_eq!(core.metrics.panics.get(), 2);
        assert!(engine.metrics().render().contains("icp_duty_restarts_total{duty=\"test\"} 2"));
        stop.cancel();
        core.tasks.close();
        core.tasks.wait().await;
        assert_eq!(core.duties.states()["test"], DutyState::Stopped);
    }
}
