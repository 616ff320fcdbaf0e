//! Writes what this node has counted. Every `tally`; what is left at the end is written by the
//! shutdown, after the last outcome.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::engine::core::Core;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while pause(&stop, core.config.tally).await {
        once(&core).await;
    }
}

/// Statistics that cannot be written keep nothing else up: they are written the next time.
pub(crate) async fn once(core: &Core) {
    core.metrics.uncounted.inc_by(core.tally.dropped());
    if let Err(error) = core.tally.flush(core.store.as_ref(), core.clock.now()).await {
        core.metrics.store_errors.inc();
        tracing::warn!(
            icp.error = error.code().as_str(),
            "statistics could not be written: {error}"
        );
    }
}
