use std::time::Duration;

use super::LATENCIES;

/// The upper bounds of all buckets but the last, in milliseconds; each is within its bucket.
///
/// Neighbours are at most a factor of two apart, so that a percentile is told to within a
/// fraction of itself, and the same everywhere, so that buckets of nodes and hours add up.
pub const LATENCY_BOUNDS: [u64; LATENCIES - 1] = [
    1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000,
    3_000, 5_000, 10_000, 15_000, 20_000, 30_000, 60_000,
];

/// How long attempts took: how many there were in each bucket.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Latency {
    /// How many fell into each bucket of [`LATENCY_BOUNDS`]; the last has no bound.
    pub buckets: [u64; LATENCIES],
}

impl Latency {
    /// Counts an attempt that took so many microseconds.
    pub fn observe(&mut self, micros: u64) {
        let at = LATENCY_BOUNDS.partition_point(|bound| bound * 1_000 < micros);
        self.buckets[at] += 1;
    }

    /// How many attempts were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
    }

    /// The time that so many of a thousand attempts did not exceed, even within its bucket;
    /// nothing where none was counted. Of those in the last bucket it tells the lower bound.
    #[must_use]
    pub fn per_mille(&self, per_mille: u32) -> Option<Duration> {
        let count = self.count();
        let rank = (u128::from(count) * u128::from(per_mille)).div_ceil(1_000).max(1);
        let mut below: u128 = 0;
        for (at, found) in self.buckets.iter().copied().map(u128::from).enumerate() {
            if below + found < rank {
                below += found;
                continue;
            }
            let lower = at.checked_sub(1).map_or(0, |before| LATENCY_BOUNDS[before]);
            let upper = LATENCY_BOUNDS.get(at).copied().unwrap_or(lower);
            let width = u128::from(upper - lower) * 1_000;
            let within = width * (rank - below) / found.max(1);
            let micros = u128::from(lower) * 1_000 + within;
            return Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Latency {
        let mut latency = Latency::default();
        micros.iter().for_each(|micros| latency.observe(*micros));
        latency
    }

    #[test]
    fn bounds_grow_by_a_factor_of_two_at_most() {
        for pair in LATENCY_BOUNDS.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] <= pair[0] * 2, "{pair:?}");
        }
    }

    #[test]
    fn a_time_is_within_the_bucket_of_its_bound() {
        for (micros, bucket) in
            [(0, 0), (1_000, 0), (1_001, 1), (60_000_000, 26), (60_000_001, 27), (u64::MAX, 27)]
        {
            assert_eq!(of(&[micros]).buckets[bucket], 1, "{micros}");
        }
    }

    #[test]
    fn nothing_has_no_percentile_and_the_last_bucket_tells_its_bound() {
        assert_eq!(Latency::default().per_mille(500), None);
        let slow = of(&[u64::MAX; 3]);
        assert_eq!(slow.per_mille(990), Some(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn percentiles_are_near_and_do_not_depend_on_where_they_were_counted(
            mut micros in prop::collection::vec(1_001_u64..60_000_000, 1..200),
            split in 0_usize..200,
            per_mille in 1_u32..=1_000,
        ) {
            let whole = of(&micros);
            let (left, right) = micros.split_at(split.min(micros.len()));
            let mut parts = of(left);
            parts.add(&of(right));
            prop_assert_eq!(parts, whole);
            micros.sort_unstable();
            let rank = (micros.len() * per_mille as usize).div_ceil(1_000).max(1);
            let exact = micros[rank - 1];
            let told = u64::try_from(whole.per_mille(per_mille).unwrap().as_micros()).unwrap();
            prop_assert!(told <= exact * 2 && exact <= told * 2, "{told} for {exact}");
        }
    }
}
