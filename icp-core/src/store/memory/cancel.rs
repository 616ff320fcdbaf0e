use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::delivery::{
    CancelBatch, CancelPlace, CancelStore, CancelledSome, Delivery, DeliveryFilter, DeliveryState,
};
use crate::error::Result;
use crate::id::OrgId;

impl State {
    fn cancel_some(&mut self, batch: &CancelBatch) -> CancelledSome {
        let looked = self.ready_after(batch);
        let next = looked.last().map(|(place, _)| place.clone());
        let wanted: Vec<Delivery> = looked
            .into_iter()
            .filter(|(_, row)| self.takes(&batch.filter, row))
            .map(|(_, row)| row)
            .collect();
        let matched = wanted.len() as u64;
        if let Some(reason) = &batch.reason {
            for row in wanted {
                self.deliveries.edit(row.id, |row| {
                    row.state = DeliveryState::Cancelled;
                    row.reason = Some(reason.clone());
                    row.updated_at = batch.now;
                });
                self.deliveries.refresh(row.lane, batch.now);
            }
        }
        CancelledSome { matched, next }
    }

    /// The next ready deliveries in the order of the walk.
    fn ready_after(&self, batch: &CancelBatch) -> Vec<(CancelPlace, Delivery)> {
        let rows = &self.deliveries;
        let only = batch.filter.only_lane(&batch.org);
        let mut lanes: Vec<_> = rows
            .lanes
            .iter()
            .filter(|lane| lane.org == batch.org)
            .filter(|lane| only.is_none_or(|only| only == lane.id))
            .map(|lane| CancelPlace::end_of(lane.integration.clone(), lane.id))
            .filter(|end| batch.after.as_ref().is_none_or(|after| after < end))
            .collect();
        lanes.sort_unstable();
        let ready = lanes.iter().flat_map(|end| {
            rows.ready_of(end.lane).filter_map(|(lane, due_at, id)| {
                let integration = end.integration.clone();
                let place =
                    CancelPlace { integration, lane: *lane, due_at: *due_at, delivery: *id };
                Some((place, rows.rows.get(id)?.clone()))
            })
        });
        let further =
            ready.skip_while(|(place, _)| batch.after.as_ref().is_some_and(|after| place <= after));
        further.take(batch.limit).collect()
    }

    fn takes(&self, filter: &DeliveryFilter, row: &Delivery) -> bool {
        self.events.get(row.event).is_some_and(|event| filter.takes(row, &event.event_type))
    }
}

#[async_trait]
impl CancelStore for MemoryStore {
    async fn cancel_some(&self, batch: CancelBatch) -> Result<CancelledSome> {
        Ok(self.lock().cancel_some(&batch))
    }

    async fn leased(&self, org: &OrgId, filter: &DeliveryFilter) -> Result<u64> {
        let state = self.lock();
        let rows =
            state.deliveries.leased.iter().filter_map(|(_, id)| state.deliveries.rows.get(id));
        Ok(rows.filter(|row| row.org == *org && state.takes(filter, row)).count() as u64)
    }
}
