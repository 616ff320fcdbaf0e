//! Ends deliveries whose time is over, and looks for lanes that sleep on due ones. Every
//! `sweep`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::delivery::{DeliveryState, Sweep};
use crate::engine::core::Core;
use crate::error::Result;
use crate::telemetry::Ended;

const BATCH: usize = 500;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while core.doze().pause(&stop, core.config.sweep).await {
        if let Err(error) = once(&core).await {
            core.metrics.store_errors.inc();
            tracing::warn!(icp.error = error.code().as_str(), "a sweep failed: {error}");
        }
    }
}

pub(crate) async fn once(core: &Core) -> Result<()> {
    loop {
        let swept = core.store.sweep(Sweep { now: core.clock.now(), limit: BATCH }).await?;
        let state = DeliveryState::Expired.as_str();
        core.metrics.ended.get_or_create(&Ended { state }).inc_by(swept.expired);
        if swept.woken > 0 {
            core.metrics.asleep.inc_by(swept.woken);
            tracing::error!(icp.lanes = swept.woken, "lanes slept on due deliveries");
            core.due.notify_one();
        }
        if usize::try_from(swept.expired).unwrap_or(usize::MAX) < BATCH {
            return Ok(());
        }
    }
}
