use async_trait::async_trait;

use super::MemoryStore;
use super::delivery::Deliveries;
use crate::delivery::health::{LaneRules, Meter};
use crate::delivery::{Attempt, Lane, LaneBacklog, LaneId, LaneStore, LaneTotals};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

impl Deliveries {
    fn meter(&self, lane: &Lane) -> Meter {
        let key = (lane.org.clone(), lane.integration.clone());
        self.meters.get(&key).copied().unwrap_or_default()
    }

    /// Until when the rate of the lane's integration is used up.
    pub(super) fn throttled(&self, lane: &Lane, now: Timestamp) -> Option<Timestamp> {
        self.meter(lane).blocks_until(&lane.rules.rate_limit?, now)
    }

    /// Counts a lease against the rate of the lane's integration.
    pub(super) fn spend(&mut self, id: LaneId, now: Timestamp) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let Some(limit) = lane.rules.rate_limit else { return };
        let meter = self.meter(lane).used(&limit, 1, now);
        self.meters.insert((lane.org.clone(), lane.integration.clone()), meter);
        if let Some(until) = meter.blocks_until(&limit, now) {
            self.block(id, until, now);
        }
    }

    pub(super) fn block(&mut self, id: LaneId, until: Timestamp, now: Timestamp) {
        self.lanes.edit(id, |lane| lane.blocked_until = lane.blocked_until.max(Some(until)));
        self.refresh(id, now);
    }

    /// Takes in what a settled lease says of the lane's receiver and pace.
    pub(super) fn observe(
        &mut self,
        lane: LaneId,
        ended: bool,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) {
        self.lanes.edit(lane, |lane| {
            lane.pace = lane.pace.counted(ended.into(), now);
            if let Some(attempt) = attempt {
                lane.observe(attempt, now);
            }
        });
    }

    pub(super) fn rule(
        &mut self,
        org: &OrgId,
        integration: &ResourceId,
        rules: LaneRules,
        now: Timestamp,
    ) {
        for id in self.lanes_where(|lane| {
            lane.org == *org && lane.integration == *integration && lane.rules != rules
        }) {
            self.lanes.edit(id, |lane| lane.change_rules(rules));
            self.refresh(id, now);
            self.meters.remove(&(org.clone(), integration.clone()));
        }
    }
}

#[async_trait]
impl LaneStore for MemoryStore {
    async fn backlogs(&self, org: &OrgId, lanes: &[LaneId]) -> Result<Vec<LaneBacklog>> {
        let state = self.lock();
        let rows = &state.deliveries;
        let lanes = lanes.iter().filter_map(|id| rows.lanes.get(id)).filter(|l| l.org == *org);
        let backlog = |lane: &Lane| {
            let mut ready = rows.ready_of(lane.id).map(|(_, due, _)| *due);
            let first_due = ready.next()?;
            Some(LaneBacklog { lane: lane.id, waiting: 1 + ready.count() as u64, first_due })
        };
        Ok(lanes.filter_map(backlog).collect())
    }

    async fn meters(&self, org: &OrgId) -> Result<Vec<(ResourceId, Meter)>> {
        let state = self.lock();
        let meters = state.deliveries.meters.iter().filter(|((of, _), _)| of == org);
        Ok(meters.map(|((_, integration), meter)| (integration.clone(), *meter)).collect())
    }

    async fn lane_totals(&self, now: Timestamp) -> Result<LaneTotals> {
        let state = self.lock();
        let rows = &state.deliveries;
        let mut totals = LaneTotals::default();
        for lane in rows.lanes.iter() {
            totals.count(lane, now);
            let first = rows.ready_of(lane.id).next().map(|(_, due, _)| *due);
            totals.first_due = match (totals.first_due, first) {
                (Some(earlier), Some(due)) => Some(earlier.min(due)),
                (earlier, due) => earlier.or(due),
            };
        }
        Ok(totals)
    }
}
