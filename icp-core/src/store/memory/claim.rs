//! Taking leases: by claims, and by a publish that finds a lane idle.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::delivery::{Deliveries, FIRST, LAST, session_lost};
use super::event::Events;
use crate::delivery::{
    Claim, Claimed, ClaimedDelivery, Delivery, DeliveryState, Lane, LaneId, LaneMode,
};
use crate::error::Result;
use crate::id::{DeliveryId, OrgId, SessionId};
use crate::time::Timestamp;

impl Deliveries {
    /// Whether `newcomer` is alone in wanting the lane, so that it passes nobody by.
    pub(super) fn is_idle(&self, lane: LaneId, newcomer: DeliveryId, now: Timestamp) -> bool {
        let Some(row) = self.lanes.get(&lane) else { return false };
        let waiting = self.ready.range((lane, Timestamp::EPOCH, FIRST)..=(lane, now, LAST));
        row.mode == LaneMode::Parallel
            && row.room() > 0
            && self.throttled(row, now).is_none()
            && !row.paused
            && row.blocked_until.is_none_or(|until| until <= now)
            && waiting.into_iter().all(|(_, _, id)| *id == newcomer)
    }

    /// Leases a delivery of an idle lane, at the price of a claim.
    pub(super) fn hand_over(
        &mut self,
        id: DeliveryId,
        session: SessionId,
        until: Timestamp,
        now: Timestamp,
    ) {
        let Some(lane) = self.rows.get(&id).and_then(|row| self.lanes.get(&row.lane)) else {
            return;
        };
        let pass = self.lanes.waking_pass(lane);
        let runnable = self.lanes.runnable_of(&lane.org) + 1;
        let lane = lane.id;
        self.lanes.edit(lane, |lane| lane.pass = pass);
        self.lease(id, session, until, now, runnable);
    }

    fn lease(
        &mut self,
        id: DeliveryId,
        session: SessionId,
        until: Timestamp,
        now: Timestamp,
        runnable: u32,
    ) -> Option<Delivery> {
        let row = self.edit(id, |row| {
            row.state = DeliveryState::Leased;
            row.epoch += 1;
            row.tries += 1;
            row.owner = Some(session);
            row.lease_until = Some(until);
            row.updated_at = now;
        })?;
        self.lanes.edit(row.lane, |lane| lane.pass += Lane::stride(lane.weight, runnable));
        self.spend(row.lane, now);
        self.refresh(row.lane, now);
        Some(row)
    }

    pub(super) fn claim(&mut self, claim: &Claim, events: &Events) -> Result<Claimed> {
        if !self.knows(claim.session) {
            return Err(session_lost(claim.session));
        }
        for lane in self.lanes.due(claim.now) {
            self.refresh(lane, claim.now);
        }
        let mut claimed = Claimed::default();
        let mut taken: BTreeMap<LaneId, usize> = BTreeMap::new();
        let mut runnable: BTreeMap<OrgId, u32> = BTreeMap::new();
        while claimed.deliveries.len() < claim.limit {
            let wanted = |id: &LaneId| {
                claim.without.is_empty()
                    || self.lanes.get(id).is_some_and(|lane| !claim.without.contains(&lane.org))
            };
            let fits =
                |id: &LaneId| taken.get(id).copied().unwrap_or(0) < claim.per_lane && wanted(id);
            let Some(lane) = self.lanes.next(fits).and_then(|id| self.lanes.get(&id)) else {
                break;
            };
            if let Some(until) = self.throttled(lane, claim.now) {
                let id = lane.id;
                self.block(id, until, claim.now);
                claimed.throttled += 1;
                continue;
            }
            *taken.entry(lane.id).or_default() += 1;
            let share = *runnable
                .entry(lane.org.clone())
                .or_insert_with(|| self.lanes.runnable_of(&lane.org));
            claimed.probes += u64::from(lane.health.breaker.is_open());
            let Some((id, _)) = self.head(lane) else { break };
            let leased = self.lease(id, claim.session, claim.lease_until, claim.now, share);
            let Some(delivery) = leased else { break };
            let lane = self.lanes.get(&delivery.lane);
            claimed.throttled += u64::from(lane.is_some_and(|l| l.blocked_until.is_some()));
            if let Some(event) = events.get(delivery.event) {
                let event = Arc::clone(event);
                claimed.deliveries.push(ClaimedDelivery { delivery, event });
            }
        }
        claimed.next_due = self.lanes.next_due();
        Ok(claimed)
    }
}
