//! What is done without a worker: leases of dead ones are taken back, deliveries expire, lanes wake.

use super::delivery::{Deliveries, FIRST, LAST};
use crate::delivery::{DeliveryState, EndReason, Rescue, RescueOf, Rescued, Sweep, Swept};
use crate::id::DeliveryId;

impl Deliveries {
    pub(super) fn rescue(&mut self, rescue: &Rescue) -> Vec<Rescued> {
        let lost: Vec<DeliveryId> = match rescue.of {
            RescueOf::Session(session) => {
                self.sessions.remove(&session);
                let held = self.leased.range((session, FIRST)..=(session, LAST));
                held.take(rescue.limit).map(|(_, id)| *id).collect()
            }
            RescueOf::Orphans { before } => self
                .leased
                .iter()
                .filter(|(owner, _)| !self.knows(*owner))
                .map(|(_, id)| *id)
                .filter(|id| {
                    let until = self.rows.get(id).and_then(|row| row.lease_until);
                    until.is_some_and(|until| until < before)
                })
                .take(rescue.limit)
                .collect(),
        };
        lost.into_iter().filter_map(|id| self.take_back(id, rescue)).collect()
    }

    fn take_back(&mut self, id: DeliveryId, rescue: &Rescue) -> Option<Rescued> {
        let row = self.edit(id, |row| {
            row.rescues += 1;
            row.updated_at = rescue.now;
            if row.rescues >= rescue.max_rescues {
                let message = format!("{} leases ended without an outcome", row.rescues);
                row.state = DeliveryState::Dead;
                row.reason = Some(EndReason::new("poison", message));
            } else {
                row.state = DeliveryState::Ready;
                row.due_at = row.due_at.min(rescue.now);
            }
        })?;
        self.refresh(row.lane, rescue.now);
        Some(Rescued { delivery: id, org: row.org.clone(), state: row.state })
    }

    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Swept {
        let over = (sweep.now, LAST);
        let expired: Vec<DeliveryId> =
            self.expiring.range(..=over).take(sweep.limit).map(|(_, id)| *id).collect();
        for id in &expired {
            let row = self.edit(*id, |row| {
                row.state = DeliveryState::Expired;
                row.updated_at = sweep.now;
            });
            if let Some(row) = row {
                self.refresh(row.lane, sweep.now);
            }
        }
        let mut asleep = self.lanes_where(|lane| {
            self.asleep(lane) > 0 && self.earliest(lane).is_some_and(|due| due <= sweep.now)
        });
        asleep.truncate(sweep.limit);
        for lane in &asleep {
            self.refresh(*lane, sweep.now);
        }
        Swept { expired: expired.len() as u64, woken: asleep.len() as u64 }
    }
}
