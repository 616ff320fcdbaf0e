//! Tells the metrics how lanes are doing. Every `sweep`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::core::Core;
use crate::error::Result;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while core.doze().pause(&stop, core.config.sweep).await {
        if let Err(error) = once(&core).await {
            core.metrics.store_errors.inc();
            tracing::warn!(
                icp.error = error.code().as_str(),
                "the lanes could not be summed up: {error}"
            );
        }
    }
}

pub(crate) async fn once(core: &Core) -> Result<()> {
    let now = core.clock.now();
    let totals = core.store.lane_totals(now).await?;
    let set = |gauge: &prometheus_client::metrics::gauge::Gauge, value: u64| {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    let lanes = &core.metrics.lanes;
    set(&lanes.open, totals.open);
    set(&lanes.half_open, totals.half_open);
    set(&lanes.narrowed, totals.narrowed);
    set(&lanes.blocked, totals.blocked);
    set(&lanes.oldest_wait, totals.first_due.map_or(0, |due| now.since(due).as_secs()));
    Ok(())
}
