//! Lets the node doze where there was no work for `doze`, and rouses it.
//!
//! It dozes only where the store brings it the hints of other nodes, who send one when they have
//! work, and again as long as they have. So whoever is silent for long holds no lease, or was seen
//! to die before. What no hint tells of is found at the latest when it looks about: at the outbox
//! often, at everything now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::engine::core::Core;
use crate::error::Result;

/// Where rows were found that nobody had hinted at, for how many times `doze` the node stays
/// awake: its host seems to write more of them.
const UNHEARD: u32 = 60;

/// How many times `doze` a node dozes until it looks at everything.
const LONGEST: u32 = 10;

/// Into how many parts `doze` is divided for the time that such a look takes.
const LOOK: u32 = 30;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    if core.config.doze.is_zero() || !core.resources.services().sources.is_empty() {
        return stop.cancelled().await;
    }
    let mut awake_since = core.clock.monotonic();
    loop {
        if !calm(&core, &stop, awake_since).await {
            return;
        }
        match begin(&core, awake_since).await {
            Ok(true) => {}
            Ok(false) => {
                if !pause(&stop, core.look_interval()).await {
                    return;
                }
                continue;
            }
            Err(error) => {
                core.metrics.store_errors.inc();
                tracing::warn!(
                    icp.error = error.code().as_str(),
                    "a node that has nothing to do could not say so: {error}"
                );
                continue;
            }
        }
        core.metrics.dozing.set(1);
        while core.doze().dozes() {
            let look = core.clock.monotonic() + core.config.doze * LONGEST;
            let next = core.doze().next();
            let until = next.map_or(look, |next| next.min(look));
            tokio::select! {
                () = stop.cancelled() => return,
                // Somebody uses it.
                () = core.doze().over() => core.doze().stir(core.clock.monotonic()),
                () = core.doze().called() => {}
                () = tokio::time::sleep(until.saturating_sub(core.clock.monotonic())) => {
                    if next == Some(until) {
                        core.doze().stir(until);
                    }
                }
            }
            if let Err(error) = core.index.rouse().await {
                core.metrics.store_errors.inc();
                tracing::warn!(
                    icp.error = error.code().as_str(),
                    "a node that dozes could not be roused: {error}"
                );
                if !pause(&stop, core.config.beat).await {
                    return;
                }
                core.doze().stir(core.clock.monotonic());
            }
        }
        core.metrics.dozing.set(0);
        awake_since = core.clock.monotonic();
    }
}

/// Waits until there was no work for long enough, and for a look at everything since
/// `awake_since`; tells others as long as this node holds leases.
async fn calm(core: &Core, stop: &CancellationToken, awake_since: Duration) -> bool {
    let doze = core.config.doze;
    loop {
        let now = core.clock.monotonic();
        if !core.leases().is_empty() {
            core.stir();
        }
        let quiet = doze.saturating_sub(core.doze().quiet(now));
        let look = (doze / LOOK).saturating_sub(now.saturating_sub(awake_since));
        let wait = quiet.max(look).min(core.doze().interval());
        if wait.is_zero() {
            return true;
        }
        if !pause(stop, wait).await {
            return false;
        }
    }
}

/// Closes the session of a node that has no work; answers whether it dozes now.
async fn begin(core: &Core, awake_since: Duration) -> Result<bool> {
    let now = core.clock.monotonic();
    let unheard = core.doze().last_unheard().map(|found| now.saturating_sub(found));
    if !core.store.hears()
        || core.live.streams() > 0
        || unheard.is_some_and(|ago| ago < core.config.doze * UNHEARD)
    {
        return Ok(false);
    }
    let own = core.session.id();
    let others = core.store.sessions().await?.iter().any(|beat| beat.session != own);
    // Long enough to see that they are dead.
    let patience = core.config.beat * core.config.missed_beats * 2;
    if others && now.saturating_sub(awake_since) < patience {
        return Ok(false);
    }
    core.session.lie_down();
    if !core.rooms.are_free() || !core.leases().is_empty() || !core.doze().begin(now) {
        core.session.get_up();
        return Ok(false);
    }
    if let Err(error) = core.store.close_session(own).await {
        // Whether it is closed is not known, and another is opened.
        core.doze().end();
        return Err(error);
    }
    tracing::debug!("the node has nothing to do and dozes");
    Ok(true)
}
