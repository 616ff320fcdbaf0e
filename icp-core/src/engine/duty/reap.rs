//! Takes leases away from nodes that show no more life. Every `beat`.
//!
//! Whether another node lives is judged by this node's own monotonic clock alone: a session is
//! dead when its beat has stood still for `missed_beats` beats. No wall clocks are compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::delivery::{DeliveryState, Rescue, RescueOf, SessionBeat};
use crate::engine::core::Core;
use crate::error::Result;
use crate::id::SessionId;
use crate::notice;

const BATCH: usize = 200;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut watch = Watch::default();
    while pause(&stop, core.config.beat).await {
        if let Err(error) = once(&core, &mut watch).await {
            core.metrics.store_errors.inc();
            tracing::warn!(icp.error = error.code().as_str(), "the reaper failed: {error}");
        }
    }
}

/// When each session's beat was last seen to change.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    sessions: HashMap<SessionId, (u64, Duration)>,
    last: Option<Duration>,
}

impl Watch {
    /// The sessions whose beat has stood still for `patience`.
    ///
    /// Where this node itself was frozen for long, what it saw before says nothing, and every
    /// session gets its full time again.
    pub(crate) fn dead(
        &mut self,
        beats: &[SessionBeat],
        own: SessionId,
        now: Duration,
        patience: Duration,
    ) -> Vec<SessionId> {
        let frozen = self.last.is_some_and(|last| now.saturating_sub(last) > patience / 2);
        self.last = Some(now);
        self.sessions.retain(|session, _| beats.iter().any(|b| b.session == *session));
        let mut dead = Vec::new();
        for SessionBeat { session, beat } in beats.iter().copied().filter(|b| b.session != own) {
            let (seen, since) = self.sessions.entry(session).or_insert((beat, now));
            if *seen != beat || frozen {
                (*seen, *since) = (beat, now);
            } else if now.saturating_sub(*since) >= patience {
                dead.push(session);
            }
        }
        dead
    }
}

pub(crate) async fn once(core: &Core, watch: &mut Watch) -> Result<()> {
    let patience = core.config.beat * core.config.missed_beats;
    let beats = core.store.sessions().await?;
    let dead = watch.dead(&beats, core.session.id(), core.clock.monotonic(), patience);
    for session in dead {
        tracing::warn!(icp.session.id = %session, "a node shows no life; its leases are taken over");
        rescue(core, RescueOf::Session(session)).await?;
    }
    let before = core.clock.now() - core.config.lease;
    rescue(core, RescueOf::Orphans { before }).await
}

async fn rescue(core: &Core, of: RescueOf) -> Result<()> {
    loop {
        let now = core.clock.now();
        let rescue = Rescue { of, now, limit: BATCH, max_rescues: core.config.max_rescues };
        let rescued = core.store.rescue(rescue).await?;
        let poisoned = rescued.iter().filter(|r| r.state == DeliveryState::Dead).count();
        core.metrics.rescued.inc_by(rescued.len() as u64);
        core.metrics.poisoned.inc_by(poisoned as u64);
        if rescued.len() > poisoned {
            core.announce(rescued.len() - poisoned);
        }
        for poison in rescued.iter().filter(|r| r.state == DeliveryState::Dead) {
            if let Err(error) = notice::poisoned(core, &poison.org, poison.delivery).await {
                let code = error.code().as_str();
                tracing::warn!(icp.error = code, "a poisoned delivery could not be told of");
            }
        }
        if rescued.len() < BATCH {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(id: u8, beat: u64) -> SessionBeat {
        SessionBeat { session: SessionId::from_bytes([id; 16]), beat }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_is_dead_when_its_beat_stands_still_and_not_before() {
        let own = SessionId::from_bytes([0; 16]);
        let mut watch = Watch::default();
        for second in 0..10 {
            let beats = [beat(0, 0), beat(1, second), beat(2, 5)];
            assert!(watch.dead(&beats, own, at(second), at(10)).is_empty(), "{second}");
        }
        let beats = [beat(0, 0), beat(1, 10), beat(2, 5)];
        assert_eq!(watch.dead(&beats, own, at(10), at(10)), [beat(2, 5).session]);
    }

    #[test]
    fn a_frozen_reaper_accuses_nobody() {
        let own = SessionId::from_bytes([0; 16]);
        let mut watch = Watch::default();
        let beats = [beat(1, 7)];
        assert!(watch.dead(&beats, own, at(0), at(10)).is_empty());
        assert!(watch.dead(&beats, own, at(3_600), at(10)).is_empty());
        for second in 1..10 {
            assert!(watch.dead(&beats, own, at(3_600 + second), at(10)).is_empty());
        }
        assert_eq!(watch.dead(&beats, own, at(3_610), at(10)).len(), 1);
    }
}
