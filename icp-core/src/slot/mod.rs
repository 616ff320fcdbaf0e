//! Small values with an end, which only who knows their present version may replace: sessions,
//! claimed idempotency keys, the states of a login.

mod store;

pub use store::{MAX_SLOT_KEY, MAX_SLOT_VALUE, NewSlot, Slot, SlotExpect, SlotStore};
