//! Finishes the erasure of deliveries that were under way. Every `sweep`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::core::Core;
use crate::error::Result;

const BATCH: usize = 50;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while core.doze().pause(&stop, core.config.sweep).await {
        if let Err(error) = once(&core).await {
            core.metrics.store_errors.inc();
            tracing::warn!(icp.error = error.code().as_str(), "erasing failed: {error}");
        }
    }
}

pub(crate) async fn once(core: &Core) -> Result<()> {
    while core.store.finish_erasures(BATCH, core.clock.now()).await? >= BATCH as u64 {}
    Ok(())
}
