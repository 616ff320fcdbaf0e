//! Keeps the index up to date with the writes of other nodes. Every `feed`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::core::Core;

const BATCH: usize = 500;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        let asked = core.clock.monotonic();
        match core.index.feed_once(BATCH).await {
            Ok(BATCH) => continue,
            Ok(count) => {
                core.resources.caught_up(asked);
                if count > 0 {
                    core.doze().stir(asked);
                    // An integration that was switched on may have deliveries that waited for it.
                    core.due.notify_one();
                }
            }
            Err(error) => {
                core.metrics.store_errors.inc();
                tracing::warn!(
                    icp.error = error.code().as_str(),
                    "the change feed failed: {error}"
                );
            }
        }
        if !core.doze().pause(&stop, core.config.feed).await {
            return;
        }
    }
}
