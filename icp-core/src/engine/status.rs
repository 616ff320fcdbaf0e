use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DutyState, Engine};
use crate::store::{Page, StoreInfo};
use crate::telemetry::{LogLine, LogLines, resident_bytes};
use crate::time::Timestamp;

/// The state of one process and its engine.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[non_exhaustive]
pub struct SystemStatus {
    /// The version of this library.
    pub version: String,
    /// Under which name the engine leases deliveries.
    pub session: String,
    /// When the engine was made.
    pub since: Timestamp,
    /// For how many seconds it has been there.
    pub uptime_seconds: u64,
    /// Whether the engine delivers: started, every duty at work, the store answering.
    pub ready: bool,
    /// Facts about the store.
    pub store: StoreInfo,
    /// The code of the store's error, where it does not answer.
    pub store_error: Option<String>,
    /// Every background duty and its state.
    pub duties: BTreeMap<String, DutyState>,
    /// Attempts under way on this node.
    pub attempts_in_flight: i64,
    /// Outcomes that are not recorded yet.
    pub outcomes_unsettled: i64,
    /// Live streams that are open.
    pub live_streams: usize,
    /// How many bytes of memory the process holds, where the system tells.
    pub memory_bytes: Option<u64>,
}

impl Engine {
    /// How this process is doing; asks the store.
    pub async fn status(&self) -> SystemStatus {
        let health = self.health().await;
        let core = &self.core;
        let uptime = core.clock.monotonic().saturating_sub(core.born);
        SystemStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            session: core.session.id().to_string(),
            since: self.now() - uptime,
            uptime_seconds: uptime.as_secs(),
            ready: health.ready,
            store: health.store,
            store_error: health.store_error,
            duties: health.duties,
            attempts_in_flight: core.metrics.in_flight.get(),
            outcomes_unsettled: core.metrics.unsettled.get(),
            live_streams: core.live.streams(),
            memory_bytes: resident_bytes(),
        }
    }

    /// The last lines of the process's log, newest first; none where the host handed no
    /// [`SystemLog`](crate::telemetry::SystemLog) to the builder.
    #[must_use]
    pub fn log_lines(&self, wanted: &LogLines) -> Page<LogLine> {
        self.core.system_log.lines(wanted)
    }
}
