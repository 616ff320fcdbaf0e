//! Takes leases away from nodes that show no more life. Every `beat`.
//!
//! Whether another node lives is judged by this node's own monotonic clock alone: a session is
//! dead when its beat has stood still for `missed_beats` beats, as far as this node was there to see
//! it. No wall clocks are compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::delivery::{DeliveryState, Rescue, RescueOf, SessionBeat};
use crate::engine::core::Core;
use crate::error::Result;
use crate::id::SessionId;
use crate::notice;

const BATCH: usize = 200;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut watch = Watch::default();
    while core.doze().pause(&stop, core.config.beat).await {
        if let Err(error) = once(&core, &mut watch).await {
            core.metrics.store_errors.inc();
            tracing::warn!(icp.error = error.code().as_str(), "the reaper failed: {error}");
        }
    }
}

/// Each session's beat, and for how long it was seen to stand still.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    sessions: HashMap<SessionId, (u64, Duration)>,
    last: Option<Duration>,
}

impl Watch {
    /// The sessions whose beat has stood still for `missed` times `beat`.
    ///
    /// Of the time between two looks no more counts than one and a half beats. Where this node itself
    /// was frozen, what it saw before says little; and where it is merely slow, it comes to its
    /// judgement all the same.
    pub(crate) fn dead(
        &mut self,
        beats: &[SessionBeat],
        own: SessionId,
        now: Duration,
        (beat, missed): (Duration, u32),
    ) -> Vec<SessionId> {
        let since = self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        let seen_since = since.min(beat * 3 / 2);
        self.last = Some(now);
        self.sessions.retain(|session, _| beats.iter().any(|b| b.session == *session));
        let mut dead = Vec::new();
        for SessionBeat { session, beat: at } in beats.iter().copied().filter(|b| b.session != own)
        {
            let fresh = (at, Duration::ZERO);
            let (seen, still) = match self.sessions.get(&session) {
                Some((seen, still)) if *seen == at => (*seen, *still + seen_since),
                _ => fresh,
            };
            if still >= beat * missed {
                dead.push(session);
            }
            self.sessions.insert(session, (seen, still));
        }
        dead
    }
}

pub(crate) async fn once(core: &Core, watch: &mut Watch) -> Result<()> {
    let patience = (core.config.beat, core.config.missed_beats);
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

    const OWN: SessionId = SessionId::from_bytes([0; 16]);
    const PATIENCE: (Duration, u32) = (Duration::from_secs(2), 5);

    #[test]
    fn a_session_is_dead_when_its_beat_stands_still_and_not_before() {
        let mut watch = Watch::default();
        for second in 0..10 {
            let beats = [beat(0, 0), beat(1, second), beat(2, 5)];
            assert!(watch.dead(&beats, OWN, at(second), PATIENCE).is_empty(), "{second}");
        }
        let beats = [beat(0, 0), beat(1, 10), beat(2, 5)];
        assert_eq!(watch.dead(&beats, OWN, at(10), PATIENCE), [beat(2, 5).session]);
        let beats = [beat(2, 6)];
        assert!(watch.dead(&beats, OWN, at(12), PATIENCE).is_empty(), "it beats again");
    }

    #[test]
    fn a_frozen_reaper_accuses_nobody_at_once() {
        let mut watch = Watch::default();
        let beats = [beat(1, 7)];
        assert!(watch.dead(&beats, OWN, at(0), PATIENCE).is_empty());
        for second in 0..7 {
            assert!(watch.dead(&beats, OWN, at(3_600 + second), PATIENCE).is_empty());
        }
        assert_eq!(watch.dead(&beats, OWN, at(3_607), PATIENCE).len(), 1);
    }

    #[test]
    fn a_slow_reaper_comes_to_its_judgement() {
        let mut watch = Watch::default();
        let beats = [beat(1, 7)];
        for look in 0..4 {
            assert!(watch.dead(&beats, OWN, at(look * 9), PATIENCE).is_empty(), "{look}");
        }
        assert_eq!(watch.dead(&beats, OWN, at(36), PATIENCE).len(), 1);
    }
}
