use std::fmt;

use async_trait::async_trait;

use crate::error::{Code, Error, Result};
use crate::time::Timestamp;

/// How long a key may be, in bytes.
pub const MAX_SLOT_KEY: usize = 256;

/// How long a value may be, in bytes.
pub const MAX_SLOT_VALUE: usize = 1 << 20;

/// Keeps slots: of several that put one at the same moment, one wins.
///
/// A slot whose time is over is treated as if it were gone, whether or not it was swept. Slots
/// belong to no organization: whoever needs that makes it part of the key.
#[async_trait]
pub trait SlotStore: fmt::Debug + Send + Sync + 'static {
    /// The slot of this key; none where its time is over.
    async fn slot(&self, key: &str, now: Timestamp) -> Result<Option<Slot>>;

    /// Puts a slot where what is there is what was expected; answers whether it is there now.
    ///
    /// It gets the version of [`NewSlot::version`]. The same call again answers `true` as long as
    /// nothing else was put; so two callers that race must not put the same.
    ///
    /// # Errors
    ///
    /// Those of [`NewSlot::check`].
    async fn put_slot(&self, slot: NewSlot, expect: SlotExpect, now: Timestamp) -> Result<bool>;

    /// Removes the slot of this key, where it has the expected version if one is given; answers
    /// whether it did.
    async fn remove_slot(&self, key: &str, expect: Option<u64>) -> Result<bool>;

    /// Removes up to `limit` slots whose time is over; answers how many.
    async fn sweep_slots(&self, now: Timestamp, limit: usize) -> Result<u64>;
}

/// A value with an end.
#[derive(Clone, Eq, PartialEq)]
pub struct Slot {
    /// What it is found by, byte by byte.
    pub key: String,
    /// The value.
    pub value: String,
    /// Which put of this key it is of; a later one has a larger number.
    pub version: u64,
    /// From when on it counts as gone.
    pub expires_at: Timestamp,
}

/// A slot as it is put.
#[derive(Clone, Eq, PartialEq)]
pub struct NewSlot {
    /// What it is found by: 1 to [`MAX_SLOT_KEY`] bytes.
    pub key: String,
    /// The value: up to [`MAX_SLOT_VALUE`] bytes.
    pub value: String,
    /// From when on it counts as gone.
    pub expires_at: Timestamp,
}

/// What is there before a slot is put.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotExpect {
    /// None, or one whose time is over.
    Absent,
    /// The one of this version, whose time is not over.
    Version(u64),
}

impl NewSlot {
    /// The version it gets: the moment it is put in milliseconds, or one more than that of the
    /// slot it takes the place of.
    ///
    /// A key whose slot has gone begins no count anew, so that a version known from before fits
    /// nothing that came after.
    #[must_use]
    pub fn version(expect: SlotExpect, now: Timestamp) -> u64 {
        let now = now.as_millis().max(1).unsigned_abs();
        match expect {
            SlotExpect::Absent => now,
            SlotExpect::Version(present) => now.max(present.saturating_add(1)),
        }
    }

    /// Whether `found` is what putting this makes.
    #[must_use]
    pub fn made(&self, found: &Slot, expect: SlotExpect, now: Timestamp) -> bool {
        found.version == Self::version(expect, now)
            && (&found.value, found.expires_at) == (&self.value, self.expires_at)
    }

    /// Refuses what no store can keep.
    ///
    /// # Errors
    ///
    /// [`Code::IdInvalid`] for a key, [`Code::BodyTooLarge`] for a value.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAX_SLOT_KEY).contains(&self.key.len()) {
            let message = format!("use a key of 1 to {MAX_SLOT_KEY} bytes");
            return Err(Error::new(Code::IdInvalid, message));
        }
        if self.value.len() > MAX_SLOT_VALUE {
            let message = format!("use a value of up to {MAX_SLOT_VALUE} bytes");
            return Err(Error::new(Code::BodyTooLarge, message));
        }
        Ok(())
    }
}

// A value may be a secret, and so may a key that nobody is to guess.
impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, expires_at) = (self.version, self.expires_at);
        f.debug_struct("Slot")
            .field("version", &version)
            .field("expires_at", &expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NewSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSlot").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn new(key: &str, value: String) -> NewSlot {
        NewSlot { key: key.to_owned(), value, expires_at: NOW }
    }

    #[test]
    fn versions_grow_with_time_and_with_each_put() {
        for (expect, version) in [
            (SlotExpect::Absent, 1_000),
            (SlotExpect::Version(7), 1_000),
            (SlotExpect::Version(1_000), 1_001),
            (SlotExpect::Version(5_000), 5_001),
        ] {
            assert_eq!(NewSlot::version(expect, NOW), version, "{expect:?}");
        }
        assert_eq!(NewSlot::version(SlotExpect::Absent, Timestamp::EPOCH), 1);
    }

    #[test]
    fn what_no_store_can_keep_is_refused() {
        let code = |key: &str, length| new(key, "x".repeat(length)).check().map_err(|e| e.code());
        assert_eq!(code("", 0), Err(Code::IdInvalid));
        assert_eq!(code(&"k".repeat(257), 0), Err(Code::IdInvalid));
        assert_eq!(code(&"k".repeat(256), MAX_SLOT_VALUE), Ok(()));
        assert_eq!(code("k", MAX_SLOT_VALUE + 1), Err(Code::BodyTooLarge));
    }

    #[test]
    fn debug_shows_neither_key_nor_value() {
        let shown = format!("{:?}", new("a-key", "a-value".to_owned()));
        assert!(!shown.contains("a-key") && !shown.contains("a-value"), "{shown}");
    }
}
