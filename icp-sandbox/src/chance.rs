//! Chance that repeats: the same event draws the same numbers at every try.

use icp_core::id::EventId;

/// A small generator of numbers that look random; for programs, not for secrets.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The numbers of an event.
    pub(crate) fn of(event: EventId) -> Self {
        let bytes = u128::from_be_bytes(event.to_bytes());
        let folded = (bytes >> 64) ^ (bytes & u128::from(u64::MAX));
        Self(u64::try_from(folded).unwrap_or_default())
    }

    /// The next number: SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below 1, with 32 random bits.
    pub(crate) fn fraction(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or_default();
        f64::from(bits) / 4_294_967_296.0
    }

    /// Puts the items into another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
            let chosen = usize::try_from(self.next() % bound).unwrap_or_default();
            items.swap(last, chosen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_draws_the_same_numbers_again() {
        let draw = |seed: u8| {
            let mut chance = Chance::of(EventId::from_bytes([seed; 16]));
            (0..8).map(|_| chance.fraction()).collect::<Vec<_>>()
        };
        let other = {
            let mut bytes = [1; 16];
            bytes[15] = 2;
            Chance::of(EventId::from_bytes(bytes)).fraction()
        };
        let first = draw(1);
        assert_eq!(first, draw(1));
        assert!(first.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(first.windows(2).all(|pair| pair[0].to_bits() != pair[1].to_bits()));
        assert_ne!(first[0].to_bits(), other.to_bits());
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Chance::of(EventId::from_bytes([9; 16])).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
