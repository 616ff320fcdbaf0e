use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryStore;
use crate::error::Result;
use crate::slot::{NewSlot, Slot, SlotExpect, SlotStore};
use crate::time::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Slots(BTreeMap<String, Slot>);

impl Slots {
    fn live(&self, key: &str, now: Timestamp) -> Option<&Slot> {
        self.0.get(key).filter(|slot| now < slot.expires_at)
    }

    fn put(&mut self, new: NewSlot, expect: SlotExpect, now: Timestamp) -> bool {
        let live = self.live(&new.key, now);
        let fits = match expect {
            SlotExpect::Absent => live.is_none(),
            SlotExpect::Version(version) => live.is_some_and(|live| live.version == version),
        };
        if !fits {
            return live.is_some_and(|live| new.made(live, expect, now));
        }
        let version = NewSlot::version(expect, now);
        let NewSlot { key, value, expires_at } = new;
        self.0.insert(key.clone(), Slot { key, value, version, expires_at });
        true
    }
}

#[async_trait]
impl SlotStore for MemoryStore {
    async fn slot(&self, key: &str, now: Timestamp) -> Result<Option<Slot>> {
        Ok(self.lock().slots.live(key, now).cloned())
    }

    async fn put_slot(&self, slot: NewSlot, expect: SlotExpect, now: Timestamp) -> Result<bool> {
        slot.check()?;
        Ok(self.lock().slots.put(slot, expect, now))
    }

    async fn remove_slot(&self, key: &str, expect: Option<u64>) -> Result<bool> {
        let slots = &mut self.lock().slots.0;
        let fits = slots.get(key).is_some_and(|slot| expect.is_none_or(|e| e == slot.version));
        Ok(fits && slots.remove(key).is_some())
    }

    async fn sweep_slots(&self, now: Timestamp, limit: usize) -> Result<u64> {
        let slots = &mut self.lock().slots.0;
        let over = slots.values().filter(|slot| slot.expires_at <= now).take(limit);
        let over: Vec<String> = over.map(|slot| slot.key.clone()).collect();
        over.iter().for_each(|key| drop(slots.remove(key)));
        Ok(over.len() as u64)
    }
}
