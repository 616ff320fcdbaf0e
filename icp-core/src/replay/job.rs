use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::ReplayRequest;
use super::state::{ReplayChange, ReplayState};
use super::store::{EventRange, ReplayClaim, ReplayNext, ReplayStep};
use crate::delivery::EndReason;
use crate::error::{Code, Error, Result};
use crate::id::{EventId, OrgId, ReplayId, SessionId};
use crate::resource::Actor;
use crate::time::Timestamp;

/// One replay: what was asked for, where it stands, and how far it got.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReplayJob {
    /// The id.
    pub id: ReplayId,
    /// The organization it belongs to.
    pub org: OrgId,
    /// What was asked for; `until` is set.
    pub request: ReplayRequest,
    /// Who asked.
    pub actor: Actor,
    /// Where it stands.
    pub state: ReplayState,
    /// How far it got.
    pub progress: ReplayProgress,
    /// The last event it has looked at.
    pub cursor: Option<EventId>,
    /// One more for each time a node took it, never less.
    pub fence: u64,
    /// The node that works on it.
    pub owner: Option<SessionId>,
    /// Until when no other node takes it.
    pub lease_until: Option<Timestamp>,
    /// When its next batch may be made.
    pub next_at: Timestamp,
    /// What last went wrong; it may have been got over.
    pub error: Option<EndReason>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When a node first took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// How far a replay got.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
pub struct ReplayProgress {
    /// How many events of the range were looked at.
    pub examined: u64,
    /// How many deliveries were made.
    pub created: u64,
    /// How many deliveries were not made, because one is under way or the integration cannot be
    /// used.
    pub skipped: u64,
    /// How many events the range had when the job was made; `null` where there were more than a
    /// million.
    pub total: Option<u64>,
}

impl ReplayJob {
    /// The events it walks.
    #[must_use]
    pub fn range(&self) -> EventRange {
        let ReplayRequest { since, .. } = self.request;
        EventRange { org: self.org.clone(), since, until: self.request.end(self.created_at) }
    }

    /// How much of the range was looked at, 0 to 100; `None` where its size is not known.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let ReplayProgress { examined, total, .. } = self.progress;
        match (self.state, total) {
            (ReplayState::Done, _) => Some(100),
            (_, None) => None,
            (_, Some(0)) => Some(0),
            (_, Some(total)) => u8::try_from(examined.min(total).saturating_mul(100) / total).ok(),
        }
    }

    /// When it will have made its last delivery, judging by those made so far; `None` where that
    /// cannot be told, or where it is not at work.
    #[must_use]
    pub fn eta(&self, now: Timestamp) -> Option<Timestamp> {
        let ReplayProgress { examined, created, total, .. } = self.progress;
        if !self.state.is_open() || examined == 0 {
            return None;
        }
        let left = u128::from(total?.saturating_sub(examined));
        let deliveries = left * u128::from(created) / u128::from(examined);
        let millis = deliveries * 1_000 / u128::from(self.request.rate.max(1));
        Some(now.max(self.next_at) + Duration::from_millis(u64::try_from(millis).ok()?))
    }

    /// Whether the claim may take it.
    #[must_use]
    pub fn is_claimable(&self, claim: &ReplayClaim) -> bool {
        let free = self.owner == Some(claim.session)
            || self.lease_until.is_none_or(|until| until <= claim.now);
        self.state.is_open() && self.next_at <= claim.now && free
    }

    /// Lets the claim take it: running, the fence one up. Every store claims by this function.
    pub fn claim(&mut self, claim: &ReplayClaim) {
        self.state = ReplayState::Running;
        self.fence += 1;
        self.owner = Some(claim.session);
        self.lease_until = Some(claim.lease_until);
        self.started_at.get_or_insert(claim.now);
        self.updated_at = claim.now;
    }

    /// Makes a change of people's. Every store changes jobs by this function.
    ///
    /// # Errors
    ///
    /// [`Code::ReplayStateConflict`] where the state does not allow it.
    pub fn change(&mut self, change: ReplayChange, now: Timestamp) -> Result<()> {
        let (id, from) = (self.id, self.state);
        let next = from.after(change).ok_or_else(|| {
            let message = format!("replay `{id}` is {from}; start another where more is needed");
            Error::new(Code::ReplayStateConflict, message)
        })?;
        if next == from {
            return Ok(());
        }
        self.enter(next, now);
        Ok(())
    }

    /// Whether a step was made from the job as it is: by its owner, from its place, while it runs.
    ///
    /// # Errors
    ///
    /// [`Code::LeaseLost`] where it was not.
    pub fn admit(&self, step: &ReplayStep) -> Result<()> {
        let running = self.state == ReplayState::Running;
        if running && self.fence == step.fence && self.cursor == step.from {
            return Ok(());
        }
        let message = "the replay was taken over, paused or ended; nothing was written";
        Err(Error::new(Code::LeaseLost, message))
    }

    /// Goes on by a step that was admitted and made `created` deliveries. Every store goes on by
    /// this function.
    pub fn advance(&mut self, step: &ReplayStep, created: u64) {
        let planned = step.items.len() as u64;
        self.progress.examined += step.examined;
        self.progress.created += created;
        self.progress.skipped += step.skipped + planned.saturating_sub(created);
        self.cursor = step.to;
        self.error = step.error.clone().or(self.error.take());
        self.updated_at = step.now;
        match step.next {
            ReplayNext::At { next_at, lease_until } => {
                self.next_at = next_at;
                self.lease_until = Some(lease_until);
            }
            ReplayNext::Done => self.enter(ReplayState::Done, step.now),
            ReplayNext::Failed => self.enter(ReplayState::Failed, step.now),
        }
    }

    /// Gives it back, so that another node may take it at once.
    pub fn release(&mut self, now: Timestamp) {
        self.owner = None;
        self.lease_until = None;
        self.updated_at = now;
    }

    fn enter(&mut self, state: ReplayState, now: Timestamp) {
        self.state = state;
        self.release(now);
        if state.is_final() {
            self.ended_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
