//! Ending leases.

use super::delivery::Deliveries;
use crate::delivery::{Delivery, DeliveryState, Lease, Next, Settled, Settlement};
use crate::time::Timestamp;

impl Deliveries {
    pub(super) fn holds(&self, lease: Lease) -> bool {
        self.rows
            .get(&lease.delivery)
            .is_some_and(|row| row.state == DeliveryState::Leased && row.epoch == lease.epoch)
    }

    pub(super) fn settle(&mut self, settlement: Settlement, now: Timestamp) -> Settled {
        let Settlement { lease, attempt, next, block_lane_until, .. } = settlement;
        let held = self.rows.get(&lease.delivery).filter(|_| self.holds(lease));
        let Some(lane) = held.map(|row| row.lane) else { return Settled::Stale };
        if let (Next::StepAside { lane: beside, .. }, Some(row)) = (&next, held) {
            self.lanes.ensure(&row.org, &row.integration, beside);
        }
        let Some(row) = self.edit(lease.delivery, |row| apply(row, &next, now)) else {
            return Settled::Stale;
        };
        self.observe(lane, row.state.is_final(), attempt.as_ref(), now);
        if let Some(attempt) = attempt {
            self.attempts.insert((lease.delivery, lease.epoch), attempt);
        }
        if let Some(until) = block_lane_until {
            self.lanes.edit(lane, |lane| {
                lane.blocked_until = lane.blocked_until.max(Some(until));
            });
        }
        self.refresh(lane, now);
        if row.lane != lane {
            self.refresh(row.lane, now);
        }
        Settled::Recorded
    }
}

fn apply(row: &mut Delivery, next: &Next, now: Timestamp) {
    row.state = next.state();
    row.reason = next.reason().cloned();
    row.updated_at = now;
    match next {
        Next::Retry { due_at, .. } => row.due_at = *due_at,
        Next::StepAside { due_at, lane, .. } => {
            row.due_at = *due_at;
            row.lane = lane.id;
            row.out_of_order = true;
        }
        Next::Refund { due_at, throttled } => {
            row.due_at = *due_at;
            row.tries = row.tries.saturating_sub(1);
            row.throttles += u32::from(*throttled);
        }
        _ => {}
    }
}
