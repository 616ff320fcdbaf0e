use std::sync::Arc;

use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::delivery::{Delivery, DeliveryState, EndReason};
use crate::erasure::{Erase, Erased, ErasureStore};
use crate::error::Result;
use crate::id::DeliveryId;
use crate::time::Timestamp;

impl State {
    fn erase_delivery(&mut self, row: &Delivery, now: Timestamp, erased: &mut Erased) {
        match row.state {
            DeliveryState::Leased => {
                erased.under_way += 1;
                self.erasing.insert(row.id);
            }
            DeliveryState::Ready => {
                erased.cancelled += 1;
                self.call_off(row, now);
                erased.attempts += self.scrub(row.id);
            }
            _ => erased.attempts += self.scrub(row.id),
        }
    }

    fn call_off(&mut self, row: &Delivery, now: Timestamp) {
        self.deliveries.edit(row.id, |row| {
            row.state = DeliveryState::Cancelled;
            row.reason = Some(EndReason::new("erased", ""));
            row.updated_at = now;
        });
        self.deliveries.refresh(row.lane, now);
    }

    /// Erases what an ended delivery tells; answers how many attempts had captured something.
    fn scrub(&mut self, id: DeliveryId) -> u64 {
        let mut count = 0;
        for (_, attempt) in self.deliveries.attempts.range_mut((id, 0)..=(id, u32::MAX)) {
            let (exchange, told) = (attempt.exchange.take(), attempt.transcript.take());
            let captured = attempt.message.take().is_some() || exchange.is_some();
            count += u64::from(captured || told.is_some());
        }
        if let Some(reason) = self.deliveries.rows.get_mut(&id).and_then(|row| row.reason.as_mut())
        {
            reason.message.clear();
        }
        if self.deliveries.unjudged.remove(&id) || self.letters.is_judged(id) {
            self.letters.silence(id);
        }
        count
    }
}

#[async_trait]
impl ErasureStore for MemoryStore {
    async fn erase(&self, erase: &Erase) -> Result<Erased> {
        let state = &mut *self.lock();
        let mut erased = Erased::default();
        let ids = state.events.take_for_erasure(erase);
        erased.more = ids.len() >= erase.limit;
        for id in ids {
            erased.events += 1;
            state.events.erase(id, erase.now);
            let rows: Vec<_> = state.deliveries.of_event(id).cloned().collect();
            for row in rows {
                state.erase_delivery(&row, erase.now, &mut erased);
            }
        }
        Ok(erased)
    }

    async fn finish_erasures(&self, limit: usize, now: Timestamp) -> Result<u64> {
        let state = &mut *self.lock();
        let rows = &state.deliveries.rows;
        let leased =
            |id: &&DeliveryId| rows.get(id).is_some_and(|row| row.state == DeliveryState::Leased);
        let ended: Vec<_> =
            state.erasing.iter().filter(|id| !leased(id)).take(limit).copied().collect();
        for id in &ended {
            state.erasing.remove(id);
            let row = state.deliveries.rows.get(id).cloned();
            if let Some(row) = row.filter(|row| row.state == DeliveryState::Ready) {
                state.call_off(&row, now);
            }
            state.scrub(*id);
        }
        Ok(ended.len() as u64)
    }
}

/// The subject of an event, where it is this one.
pub(super) fn is_of(event: &crate::event::Event, subject: &Arc<str>) -> bool {
    event.subject.as_ref() == Some(subject)
}
