use std::any::Any;
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
use crate::telemetry::Duty;

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
            tracing::error!(icp.duty = name, panic = panic_message(&*panic), "a duty panicked");
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

/// What a panic said, where it said anything.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
