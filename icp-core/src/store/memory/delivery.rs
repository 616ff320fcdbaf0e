use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::lane::{Lanes, Rest};
use super::{MemoryStore, audit};
use crate::delivery::health::Meter;
use crate::delivery::{
    Attempt, Audit, Cancel, Claim, Claimed, Delivery, DeliveryQuery, DeliveryState, DeliveryStore,
    Lane, LaneId, LaneMode, Lease, Renew, Replay, Rescue, Rescued, SessionBeat, Settle, Settled,
    Sweep, Swept,
};
use crate::error::{Code, Error, Result};
use crate::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use crate::store::{Page, PageQuery};
use crate::time::Timestamp;

pub(super) const FIRST: DeliveryId = DeliveryId::from_bytes([0; 16]);
pub(super) const LAST: DeliveryId = DeliveryId::from_bytes([0xff; 16]);

/// Deliveries with their attempts, lanes and sessions; rows change in [`Deliveries::edit`] only,
/// which keeps the indexes in line.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pub(super) rows: BTreeMap<DeliveryId, Delivery>,
    pub(super) attempts: BTreeMap<(DeliveryId, u32), Attempt>,
    pub(super) lanes: Lanes,
    pub(super) meters: BTreeMap<(OrgId, ResourceId), Meter>,
    pub(super) ready: BTreeSet<(LaneId, Timestamp, DeliveryId)>,
    pub(super) open: BTreeSet<(LaneId, DeliveryId)>,
    /// How many deliveries each lane has, those that have ended included.
    of_lane: BTreeMap<LaneId, u64>,
    of_org: BTreeSet<(OrgId, DeliveryId)>,
    pub(super) of_event: BTreeSet<(EventId, DeliveryId)>,
    pub(super) dead: BTreeSet<(OrgId, DeliveryId)>,
    /// Dead ones that may not be judged yet.
    pub(super) unjudged: BTreeSet<DeliveryId>,
    pub(super) leased: BTreeSet<(SessionId, DeliveryId)>,
    pub(super) expiring: BTreeSet<(Timestamp, DeliveryId)>,
    counts: BTreeMap<&'static str, (DeliveryState, u64)>,
    pub(super) sessions: BTreeMap<SessionId, u64>,
}

impl Deliveries {
    pub(super) fn knows(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    pub(super) fn insert(&mut self, delivery: Delivery) {
        self.of_org.insert((delivery.org.clone(), delivery.id));
        self.of_event.insert((delivery.event, delivery.id));
        self.index(&delivery);
        self.rows.insert(delivery.id, delivery);
    }

    /// The deliveries of an event, oldest first.
    pub(super) fn of_event(&self, event: EventId) -> impl Iterator<Item = &Delivery> {
        let all = self.of_event.range((event, FIRST)..=(event, LAST));
        all.filter_map(|(_, id)| self.rows.get(id))
    }

    /// Removes a delivery that has ended, with its attempts.
    pub(super) fn remove(&mut self, row: &Delivery) {
        self.unindex(row);
        self.unjudged.remove(&row.id);
        self.of_org.remove(&(row.org.clone(), row.id));
        self.of_event.remove(&(row.event, row.id));
        self.rows.remove(&row.id);
        let made = self.attempts.range((row.id, 0)..=(row.id, u32::MAX)).map(|(key, _)| *key);
        for key in made.collect::<Vec<_>>() {
            self.attempts.remove(&key);
        }
    }

    /// Removes those of an organization's lanes after `after` that are idle, of as many as are
    /// looked at; answers how many, and the last that was looked at where more may follow.
    pub(super) fn prune_lanes(
        &mut self,
        org: &OrgId,
        after: Option<LaneId>,
        limit: usize,
    ) -> (u64, Option<LaneId>) {
        let later = |lane: &&Lane| lane.org == *org && after.is_none_or(|after| lane.id > after);
        let lanes = self.lanes.iter().filter(later).take(limit);
        let is_idle = |lane: &Lane| lane.is_idle() && !self.of_lane.contains_key(&lane.id);
        let looked: Vec<_> = lanes.map(|lane| (lane.id, is_idle(lane))).collect();
        let idle = looked.iter().filter(|(_, idle)| *idle);
        let gone = idle.map(|(id, _)| self.lanes.remove(*id)).count();
        let last = looked.last().filter(|_| looked.len() == limit).map(|(id, _)| *id);
        (gone as u64, last)
    }

    /// Tells the lane anew when its earliest delivery is due.
    pub(super) fn refresh(&mut self, lane: LaneId, now: Timestamp) {
        let earliest = self.lanes.get(&lane).and_then(|row| self.earliest(row));
        self.lanes.refresh(lane, earliest, now);
    }

    pub(super) fn configure(
        &mut self,
        org: &OrgId,
        integration: &ResourceId,
        max_in_flight: u32,
        paused: bool,
        now: Timestamp,
    ) {
        self.lanes.rest(org, Rest::Off(integration.clone()), paused);
        let paused = self.lanes.rests(org, integration);
        for id in self.lanes_where(|lane| lane.org == *org && lane.integration == *integration) {
            self.lanes.edit(id, |lane| {
                lane.paused = paused;
                if lane.mode == LaneMode::Parallel {
                    lane.max_in_flight = max_in_flight;
                }
            });
            self.refresh(id, now);
        }
    }

    pub(super) fn pause(
        &mut self,
        org: &OrgId,
        integration: Option<&ResourceId>,
        paused: bool,
        now: Timestamp,
    ) {
        let why = integration.map_or(Rest::Organization, |id| Rest::Paused(id.clone()));
        self.lanes.rest(org, why, paused);
        let meant = |lane: &Lane| {
            lane.org == *org
                && integration.is_none_or(|integration| *integration == lane.integration)
        };
        for id in self.lanes_where(meant) {
            let lane = self.lanes.get(&id);
            let paused = lane.is_some_and(|lane| self.lanes.rests(org, &lane.integration));
            self.lanes.edit(id, |lane| lane.paused = paused);
            self.refresh(id, now);
        }
    }

    pub(super) fn weigh(&mut self, org: &OrgId, weight: u32) {
        for id in self.lanes_where(|lane| lane.org == *org) {
            self.lanes.edit(id, |lane| lane.weight = weight);
        }
    }

    /// How many ready deliveries no timer and no claim would find.
    pub(super) fn asleep(&self, lane: &Lane) -> u64 {
        if lane.runnable || lane.paused {
            return 0;
        }
        let heard = |due: Timestamp| lane.next_due.is_some_and(|next| next <= due);
        match lane.mode {
            LaneMode::Parallel => {
                self.ready_of(lane.id).filter(|(_, due, _)| !heard(*due)).count() as u64
            }
            LaneMode::Fifo => u64::from(self.earliest(lane).is_some_and(|due| !heard(due))),
        }
    }

    pub(super) fn lanes_where(&self, wanted: impl Fn(&Lane) -> bool) -> Vec<LaneId> {
        self.lanes.iter().filter(|lane| wanted(lane)).map(|lane| lane.id).collect()
    }

    pub(super) fn ready_of(
        &self,
        lane: LaneId,
    ) -> impl Iterator<Item = &(LaneId, Timestamp, DeliveryId)> {
        self.ready.range((lane, Timestamp::EPOCH, FIRST)..=(lane, Timestamp::MAX, LAST))
    }

    /// The delivery of the lane that goes next, and when: of a fifo lane the oldest open one.
    pub(super) fn head(&self, lane: &Lane) -> Option<(DeliveryId, Timestamp)> {
        match lane.mode {
            LaneMode::Parallel => self.ready_of(lane.id).next().map(|(_, due, id)| (*id, *due)),
            LaneMode::Fifo => {
                let (_, id) = self.open.range((lane.id, FIRST)..=(lane.id, LAST)).next()?;
                let row = self.rows.get(id).filter(|row| row.state == DeliveryState::Ready)?;
                Some((row.id, row.due_at))
            }
        }
    }

    pub(super) fn earliest(&self, lane: &Lane) -> Option<Timestamp> {
        self.head(lane).map(|(_, due)| due)
    }

    pub(super) fn edit(
        &mut self,
        id: DeliveryId,
        change: impl FnOnce(&mut Delivery),
    ) -> Option<Delivery> {
        let mut row = self.rows.get(&id)?.clone();
        self.unindex(&row);
        let lane = row.lane;
        let was_leased = row.state == DeliveryState::Leased;
        change(&mut row);
        let is_leased = row.state == DeliveryState::Leased;
        if !is_leased {
            row.owner = None;
            row.lease_until = None;
        }
        self.index(&row);
        if was_leased != is_leased {
            self.lanes.edit(lane, |lane| {
                let left = lane.in_flight.saturating_sub(1);
                lane.in_flight = if is_leased { lane.in_flight + 1 } else { left };
            });
        }
        self.rows.insert(id, row.clone());
        Some(row)
    }

    fn index(&mut self, row: &Delivery) {
        self.counts.entry(row.state.as_str()).or_insert((row.state, 0)).1 += 1;
        *self.of_lane.entry(row.lane).or_default() += 1;
        if !row.state.is_final() {
            self.open.insert((row.lane, row.id));
        }
        if row.state == DeliveryState::Ready {
            self.ready.insert((row.lane, row.due_at, row.id));
            self.expiring.extend(row.expires_at.map(|at| (at, row.id)));
        }
        self.leased.extend(row.owner.map(|owner| (owner, row.id)));
        if row.state == DeliveryState::Dead {
            self.dead.insert((row.org.clone(), row.id));
            self.unjudged.insert(row.id);
        }
    }

    fn unindex(&mut self, row: &Delivery) {
        if let Some((_, count)) = self.counts.get_mut(row.state.as_str()) {
            *count -= 1;
        }
        if let Some(count) = self.of_lane.get_mut(&row.lane) {
            *count -= 1;
            if *count == 0 {
                self.of_lane.remove(&row.lane);
            }
        }
        self.open.remove(&(row.lane, row.id));
        if row.state == DeliveryState::Dead {
            self.dead.remove(&(row.org.clone(), row.id));
        }
        self.ready.remove(&(row.lane, row.due_at, row.id));
        if let Some(at) = row.expires_at {
            self.expiring.remove(&(at, row.id));
        }
        if let Some(owner) = row.owner {
            self.leased.remove(&(owner, row.id));
        }
    }

    fn find(&self, org: &OrgId, id: DeliveryId) -> Result<&Delivery> {
        self.rows.get(&id).filter(|row| row.org == *org).ok_or_else(|| {
            Error::new(Code::DeliveryNotFound, format!("there is no delivery `{id}`"))
        })
    }

    fn replay(&mut self, replay: &Replay) -> Result<Delivery> {
        let old = self.find(&replay.org, replay.delivery)?;
        if !old.state.is_final() {
            return Err(state_conflict(old, "replayed once it has ended"));
        }
        if let Some(made) = self.rows.get(&replay.id) {
            return Ok(made.clone());
        }
        let row = Delivery {
            id: replay.id,
            state: DeliveryState::Ready,
            due_at: replay.now,
            epoch: 0,
            tries: 0,
            throttles: 0,
            rescues: 0,
            expires_at: replay.expires_at,
            replay_of: Some(old.id),
            round: 0,
            reason: None,
            created_at: replay.now,
            updated_at: replay.now,
            ..old.clone()
        };
        self.insert(row.clone());
        self.refresh(row.lane, replay.now);
        Ok(row)
    }

    fn cancel(&mut self, cancel: Cancel) -> Result<Delivery> {
        let Cancel { org, delivery: id, reason, now, .. } = cancel;
        let row = self.find(&org, id)?;
        if row.state != DeliveryState::Ready {
            return Err(state_conflict(row, "called off while it is ready"));
        }
        let (row, untouched) = (row.lane, row.clone());
        let changed = self.edit(id, |row| {
            row.state = DeliveryState::Cancelled;
            row.reason = Some(reason);
            row.updated_at = now;
        });
        self.refresh(row, now);
        Ok(changed.unwrap_or(untouched))
    }

    fn list(&self, org: &OrgId, query: &DeliveryQuery) -> Page<Delivery> {
        let limit = query.page.limit;
        let first = (org.clone(), FIRST);
        let rows = match query.page.after {
            Some(after) => self.of_org.range(first..(org.clone(), after)),
            None => self.of_org.range(first..=(org.clone(), LAST)),
        };
        let items = rows
            .rev()
            .filter_map(|(_, id)| self.rows.get(id))
            .filter(|row| query.state.is_none_or(|state| state == row.state))
            .filter(|row| query.event.is_none_or(|event| event == row.event))
            .filter(|row| query.integration.as_ref().is_none_or(|id| *id == row.integration))
            .take(limit + 1)
            .cloned()
            .collect();
        Page::cut(items, limit)
    }
}

pub(super) fn session_lost(session: SessionId) -> Error {
    Error::new(Code::LeaseLost, format!("session `{session}` is not known any more; open another"))
}

fn state_conflict(row: &Delivery, rule: &str) -> Error {
    let message = format!("delivery `{}` is {}; it can be {rule}", row.id, row.state);
    Error::new(Code::DeliveryStateConflict, message)
}

#[async_trait]
impl DeliveryStore for MemoryStore {
    async fn open_session(&self, session: SessionId, _now: Timestamp) -> Result<()> {
        self.lock().deliveries.sessions.entry(session).or_insert(0);
        Ok(())
    }

    async fn beat(&self, session: SessionId, _now: Timestamp) -> Result<()> {
        match self.lock().deliveries.sessions.get_mut(&session) {
            Some(beat) => *beat += 1,
            None => return Err(session_lost(session)),
        }
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<SessionBeat>> {
        let state = self.lock();
        let known = state.deliveries.sessions.iter();
        Ok(known.map(|(session, beat)| SessionBeat { session: *session, beat: *beat }).collect())
    }

    async fn close_session(&self, session: SessionId) -> Result<()> {
        let rows = &mut self.lock().deliveries;
        if rows.leased.range((session, FIRST)..=(session, LAST)).next().is_none() {
            rows.sessions.remove(&session);
        }
        Ok(())
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed> {
        let state = &mut *self.lock();
        state.deliveries.claim(&claim, &state.events)
    }

    async fn renew(&self, renew: Renew) -> Result<Vec<Lease>> {
        let rows = &mut self.lock().deliveries;
        let (held, lost): (Vec<Lease>, Vec<Lease>) =
            renew.leases.into_iter().partition(|lease| rows.holds(*lease));
        for lease in held {
            rows.edit(lease.delivery, |row| row.lease_until = Some(renew.until));
        }
        Ok(lost)
    }

    async fn settle(&self, settle: Settle) -> Result<Vec<Settled>> {
        let state = &mut *self.lock();
        let mut answers = Vec::with_capacity(settle.settlements.len());
        for settlement in settle.settlements.iter() {
            let answer = state.deliveries.settle(settlement.clone(), settle.now);
            if let Some(notice) =
                settlement.notice.as_deref().filter(|_| answer == Settled::Recorded)
            {
                state.events.put_outbox(notice.clone());
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn rescue(&self, rescue: Rescue) -> Result<Vec<Rescued>> {
        Ok(self.lock().deliveries.rescue(&rescue))
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Swept> {
        Ok(self.lock().deliveries.sweep(&sweep))
    }

    async fn replay(&self, replay: Replay) -> Result<Delivery> {
        let state = &mut *self.lock();
        let made = state.deliveries.rows.contains_key(&replay.id);
        let delivery = state.deliveries.replay(&replay)?;
        if let Some(note) = replay.note().filter(|_| !made) {
            state.resources.note(&note?);
        }
        Ok(delivery)
    }

    async fn cancel(&self, cancel: Cancel) -> Result<Delivery> {
        let state = &mut *self.lock();
        let note = cancel.note()?;
        let delivery = state.deliveries.cancel(cancel)?;
        state.resources.note(&note);
        Ok(delivery)
    }

    async fn delivery(&self, org: &OrgId, id: DeliveryId) -> Result<Option<Delivery>> {
        Ok(self.lock().deliveries.find(org, id).ok().cloned())
    }

    async fn deliveries(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Delivery>> {
        Ok(self.lock().deliveries.list(org, query))
    }

    async fn attempts(&self, org: &OrgId, delivery: DeliveryId) -> Result<Vec<Attempt>> {
        let rows = &self.lock().deliveries;
        if rows.find(org, delivery).is_err() {
            return Ok(Vec::new());
        }
        let made = rows.attempts.range((delivery, 0)..=(delivery, u32::MAX));
        Ok(made.map(|(_, attempt)| attempt.clone()).collect())
    }

    async fn lanes(&self, org: &OrgId, page: PageQuery<LaneId>) -> Result<Page<Lane>> {
        let state = self.lock();
        let lanes = state.deliveries.lanes.iter();
        let items = lanes
            .filter(|lane| lane.org == *org && page.after.is_none_or(|after| lane.id > after))
            .take(page.limit.saturating_add(1))
            .cloned()
            .collect();
        Ok(Page::cut(items, page.limit))
    }

    async fn counts(&self) -> Result<Vec<(DeliveryState, u64)>> {
        let state = self.lock();
        Ok(state.deliveries.counts.values().copied().filter(|(_, count)| *count > 0).collect())
    }

    async fn audit(&self) -> Result<Audit> {
        Ok(audit::audit(&self.lock()))
    }
}
