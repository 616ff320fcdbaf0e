//! Shows that this node lives, and renews the leases of long attempts. Every `beat`, and when the
//! node has dozed.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::delivery::Renew;
use crate::engine::core::{Core, HeldLease};
use crate::error::{Code, Result};

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while core.doze().pause(&stop, core.config.beat).await {
        if let Err(error) = once(&core).await {
            core.metrics.store_errors.inc();
            tracing::warn!(icp.error = error.code().as_str(), "the store took no beat: {error}");
        }
    }
}

pub(crate) async fn once(core: &Core) -> Result<()> {
    let turn = core.session.turn().await;
    if core.doze().dozes() {
        return Ok(());
    }
    let sent = core.clock.monotonic();
    let (dozed, renounced) = (core.session.is_down(), core.session.take_renounced());
    if dozed {
        reopen(core).await?;
        core.session.confirm(sent);
        core.session.get_up();
        core.due.notify_one();
        return Ok(());
    }
    let beaten =
        if renounced { Ok(()) } else { core.store.beat(core.session.id(), core.clock.now()).await };
    match beaten {
        Ok(()) if !renounced => {}
        Err(error) if error.code() != Code::LeaseLost => return Err(error),
        Ok(()) | Err(_) => {
            tracing::warn!("this node's leases are taken over; it goes on under a new session");
            reopen(core).await?;
        }
    }
    core.session.confirm(sent);
    drop(turn);
    renew(core).await
}

/// Goes on under a new session.
async fn reopen(core: &Core) -> Result<()> {
    let session = core.session.replace(core.ids.as_ref());
    let opened = core.store.open_session(session, core.clock.now()).await;
    if opened.is_err() {
        core.session.renounce();
    }
    opened
}

/// Extends the leases that have less than half of their time left.
async fn renew(core: &Core) -> Result<()> {
    let now = core.clock.monotonic();
    let soon = now + core.config.lease / 2;
    let aging: Vec<HeldLease> =
        core.leases().values().filter(|held| held.until < soon).copied().collect();
    if aging.is_empty() {
        return Ok(());
    }
    let leases: Vec<_> = aging.iter().map(|held| held.lease).collect();
    let until = core.clock.now() + core.config.lease;
    let lost = core.store.renew(Renew { leases: leases.clone(), until }).await?;
    let mut held = core.leases();
    for lease in leases {
        let Some(entry) = held.get_mut(&lease.delivery) else { continue };
        if entry.lease == lease && !lost.contains(&lease) {
            entry.until = now + core.config.lease;
        }
    }
    Ok(())
}
