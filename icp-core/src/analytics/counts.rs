use super::Latency;

/// How many buckets times of attempts are counted in.
pub const LATENCIES: usize = 28;

const OUTCOMES: usize = 7;

/// How outcomes add up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Attempts that were sent, or that failed before they could be.
    pub attempts: u64,
    /// Deliveries that the receiver took.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Failed attempts that are tried again.
    pub retried: u64,
    /// Deliveries that became dead letters.
    pub dead: u64,
    /// Deliveries that a transformation dropped, or a filter did not want after all.
    pub skipped: u64,
    /// Tries that were given back because the receiver asked to wait.
    pub throttled: u64,
    /// How long the attempts took that were sent.
    pub latency: Latency,
}

impl Counts {
    /// How many numbers there are.
    pub const LEN: usize = OUTCOMES + LATENCIES;

    /// What a store calls the numbers, in the order of [`numbers`](Self::numbers).
    pub const NAMES: [&str; Self::LEN] = [
        "attempts",
        "delivered",
        "failed",
        "retried",
        "dead",
        "skipped",
        "throttled",
        "t0",
        "t1",
        "t2",
        "t3",
        "t4",
        "t5",
        "t6",
        "t7",
        "t8",
        "t9",
        "t10",
        "t11",
        "t12",
        "t13",
        "t14",
        "t15",
        "t16",
        "t17",
        "t18",
        "t19",
        "t20",
        "t21",
        "t22",
        "t23",
        "t24",
        "t25",
        "t26",
        "t27",
    ];

    /// Every number, for a store to keep and to sum up.
    #[must_use]
    pub fn numbers(&self) -> [u64; Self::LEN] {
        let mut numbers = [0; Self::LEN];
        let (outcomes, latency) = numbers.split_at_mut(OUTCOMES);
        outcomes.copy_from_slice(&[
            self.attempts,
            self.delivered,
            self.failed,
            self.retried,
            self.dead,
            self.skipped,
            self.throttled,
        ]);
        latency.copy_from_slice(&self.latency.buckets);
        numbers
    }

    /// The counts of which these are the numbers.
    #[must_use]
    pub fn of_numbers(numbers: &[u64; Self::LEN]) -> Self {
        let [attempts, delivered, failed, retried, dead, skipped, throttled, buckets @ ..] =
            *numbers;
        let latency = Latency { buckets };
        Self { attempts, delivered, failed, retried, dead, skipped, throttled, latency }
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        let mut sums = self.numbers();
        for (sum, number) in sums.iter_mut().zip(other.numbers()) {
            *sum += number;
        }
        *self = Self::of_numbers(&sums);
    }

    /// Deliveries that ended in these ways.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.delivered + self.dead + self.skipped
    }

    /// The part of the deliveries that were not skipped which the receiver took, 0 to 1; nothing
    /// where none ended.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn success_rate(&self) -> Option<f64> {
        let tried = self.delivered + self.dead;
        (tried > 0).then(|| self.delivered as f64 / tried as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip_and_add_up(a: [u32; Counts::LEN], b: [u32; Counts::LEN]) {
            let (a, b) = (a.map(u64::from), b.map(u64::from));
            let mut sum = Counts::of_numbers(&a);
            prop_assert_eq!(sum.numbers(), a);
            sum.add(&Counts::of_numbers(&b));
            for (at, number) in sum.numbers().into_iter().enumerate() {
                prop_assert_eq!(number, a[at] + b[at]);
            }
        }
    }

    #[test]
    fn what_was_skipped_is_neither_success_nor_failure() {
        let counts = Counts { delivered: 3, dead: 1, skipped: 9, ..Counts::default() };
        assert_eq!((counts.success_rate(), counts.ended()), (Some(0.75), 13));
        let none = Counts { skipped: 9, ..Counts::default() };
        assert_eq!(none.success_rate(), None);
    }
}
