use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::event::delivery_of;
use super::{MemoryStore, State};
use crate::delivery::Delivery;
use crate::error::{Code, Error, Result};
use crate::id::{DeliveryId, OrgId, ReplayId, SessionId};
use crate::replay::{
    EventRange, NewReplay, ReplayChange, ReplayClaim, ReplayClaimed, ReplayDeliveries, ReplayJob,
    ReplayQuery, ReplayScan, ReplayScanned, ReplayStep, ReplayStore, ScannedEvent, Standing,
};
use crate::store::Page;
use crate::time::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Replays {
    jobs: BTreeMap<ReplayId, ReplayJob>,
    made: BTreeSet<(ReplayId, DeliveryId)>,
}

impl Replays {
    fn edit(&mut self, id: ReplayId) -> Result<&mut ReplayJob> {
        self.jobs.get_mut(&id).ok_or_else(|| not_found(id))
    }

    fn claim(&mut self, claim: &ReplayClaim) -> ReplayClaimed {
        let open = || self.jobs.values().filter(|job| job.state.is_open());
        let next_at = open().map(|job| job.next_at).filter(|at| *at > claim.now).min();
        let due = open().filter(|job| job.is_claimable(claim));
        let Some(id) = due.min_by_key(|job| (job.next_at, job.id)).map(|job| job.id) else {
            return ReplayClaimed { job: None, next_at };
        };
        let job = self.jobs.get_mut(&id).map(|job| {
            job.claim(claim);
            job.clone()
        });
        ReplayClaimed { job, next_at: None }
    }

    pub(super) fn next_org(&self, after: Option<&OrgId>) -> Option<OrgId> {
        let orgs = self.jobs.values().map(|job| &job.org);
        orgs.filter(|org| after.is_none_or(|after| *org > after)).min().cloned()
    }

    /// Removes up to `limit` links and jobs; answers how many jobs, and how many of both.
    pub(super) fn prune(&mut self, org: &OrgId, before: Timestamp, limit: usize) -> (u64, usize) {
        let ended = |job: &&ReplayJob| {
            job.org == *org && job.state.is_final() && job.ended_at.is_some_and(|at| at < before)
        };
        let old: Vec<_> = self.jobs.values().filter(ended).map(|job| job.id).collect();
        let (mut jobs, mut removed) = (0, 0);
        for id in old {
            let first = (id, DeliveryId::from_bytes([0; 16]));
            let links = self.made.range(first..).take_while(|(job, _)| *job == id);
            let links: Vec<_> = links.take(limit - removed).copied().collect();
            removed += links.len();
            links.iter().for_each(|link| {
                self.made.remove(link);
            });
            if removed == limit {
                break;
            }
            self.jobs.remove(&id);
            jobs += 1;
            removed += 1;
        }
        (jobs, removed)
    }
}

impl State {
    fn step(&mut self, step: &ReplayStep) -> Result<ReplayJob> {
        let job = self.replays.edit(step.job)?;
        job.admit(step)?;
        let mut job = job.clone();
        let mut created = 0;
        for item in &step.items {
            created += u64::from(self.make(&job, item, step.now));
        }
        job.advance(step, created);
        self.replays.jobs.insert(job.id, job.clone());
        Ok(job)
    }

    /// Makes a delivery, where nobody else has replayed its event meanwhile.
    fn make(&mut self, job: &ReplayJob, item: &NewReplay, now: Timestamp) -> bool {
        let NewReplay { event, replay_of, new } = item;
        let of_event = self.deliveries.of_event(*event);
        let newest = of_event.filter(|row| row.integration == new.integration).last();
        if newest.map(|row| row.id) != *replay_of {
            return false;
        }
        let Some(event) = self.events.get(*event).map(Arc::clone) else { return false };
        let row = delivery_of(&event, new, now);
        let row = Delivery { expires_at: None, replay_of: *replay_of, ..row };
        self.deliveries.lanes.ensure(&event.org, &new.integration, &new.lane);
        self.deliveries.insert(row);
        self.deliveries.refresh(new.lane.id, now);
        if replay_of.is_none() {
            self.events.fan_out_further(event.id);
        }
        self.replays.made.insert((job.id, new.id));
        true
    }

    fn scan(&self, scan: &ReplayScan) -> ReplayScanned {
        let (first, last) = scan.range.ids();
        let after = scan.after.map_or(first, |after| after.max(first));
        let events = self.events.between(&scan.range.org, after, last);
        let mut events = events.filter(|event| scan.range.takes(event)).peekable();
        let mut scanned = ReplayScanned::default();
        let mut bytes = 0;
        while scanned.events.len() < scan.limit
            && (bytes < scan.bytes || scanned.events.is_empty())
            && let Some(event) = events.next()
        {
            bytes += event.body.len();
            let deliveries = self.deliveries.of_event(event.id).map(|row| Standing {
                delivery: row.id,
                integration: row.integration.clone(),
                state: row.state,
            });
            let deliveries = deliveries.collect();
            scanned.events.push(ScannedEvent { event: Arc::clone(event), deliveries });
        }
        scanned.more = events.peek().is_some();
        scanned
    }
}

fn not_found(id: ReplayId) -> Error {
    Error::new(Code::ReplayNotFound, format!("there is no replay `{id}`; check the id"))
}

#[async_trait]
impl ReplayStore for MemoryStore {
    async fn create_replay(&self, job: ReplayJob) -> Result<ReplayJob> {
        Ok(self.lock().replays.jobs.entry(job.id).or_insert(job).clone())
    }

    async fn replay_job(&self, org: &OrgId, id: ReplayId) -> Result<Option<ReplayJob>> {
        Ok(self.lock().replays.jobs.get(&id).filter(|job| job.org == *org).cloned())
    }

    async fn replay_jobs(&self, org: &OrgId, query: &ReplayQuery) -> Result<Page<ReplayJob>> {
        let state = self.lock();
        let jobs = state.replays.jobs.values().rev();
        let items = jobs
            .filter(|job| job.org == *org)
            .filter(|job| query.page.after.is_none_or(|after| job.id < after))
            .filter(|job| query.state.is_none_or(|state| job.state == state))
            .take(query.page.limit.saturating_add(1))
            .cloned()
            .collect();
        Ok(Page::cut(items, query.page.limit))
    }

    async fn change_replay(
        &self,
        org: &OrgId,
        id: ReplayId,
        change: ReplayChange,
        now: Timestamp,
    ) -> Result<ReplayJob> {
        let mut state = self.lock();
        let job = state.replays.edit(id)?;
        if job.org != *org {
            return Err(not_found(id));
        }
        job.change(change, now)?;
        Ok(job.clone())
    }

    async fn claim_replay(&self, claim: ReplayClaim) -> Result<ReplayClaimed> {
        Ok(self.lock().replays.claim(&claim))
    }

    async fn step_replay(&self, step: &ReplayStep) -> Result<ReplayJob> {
        self.lock().step(step)
    }

    async fn release_replays(&self, session: SessionId, now: Timestamp) -> Result<()> {
        let mut state = self.lock();
        let open = state.replays.jobs.values_mut().filter(|job| job.state.is_open());
        open.filter(|job| job.owner == Some(session)).for_each(|job| job.release(now));
        Ok(())
    }

    async fn scan_replay(&self, scan: &ReplayScan) -> Result<ReplayScanned> {
        Ok(self.lock().scan(scan))
    }

    async fn count_events(&self, range: &EventRange, most: u64) -> Result<u64> {
        let (first, last) = range.ids();
        let state = self.lock();
        let events = state.events.between(&range.org, first, last);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(events.filter(|event| range.takes(event)).take(most).count() as u64)
    }

    async fn replay_deliveries(
        &self,
        org: &OrgId,
        query: &ReplayDeliveries,
    ) -> Result<Page<Delivery>> {
        let state = self.lock();
        let first = (query.job, DeliveryId::from_bytes([0; 16]));
        let last = query.page.after.unwrap_or(DeliveryId::from_bytes([0xff; 16]));
        let made = state.replays.made.range(first..(query.job, last)).rev();
        let items = made
            .filter_map(|(_, id)| state.deliveries.rows.get(id))
            .filter(|row| row.org == *org)
            .take(query.page.limit.saturating_add(1))
            .cloned()
            .collect();
        Ok(Page::cut(items, query.page.limit))
    }
}
