use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Violation;
use crate::integration::retry::spread;

const HOUR: u64 = 3_600;

/// Whether and when the dead letters of an integration are delivered once more by themselves.
///
/// Each round makes a new delivery that is linked to the dead one and goes through all tries of
/// the integration's retry policy. Within a round the letters are spread, so that what failed
/// together does not come back together: up to ten minutes by ±20 %, above that anywhere from a
/// tenth of the delay to all of it. A letter whose rounds are spent is given up.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum AutoRetry {
    /// Never; people decide.
    #[default]
    Off,
    /// Two rounds, within an hour and then within six hours.
    Native {
        /// The most rounds, 1 to 20. Default 2.
        #[serde(default = "two")]
        #[schemars(range(min = 1, max = 20))]
        rounds: u32,
    },
    /// After 1, 2, 4, … minutes, at most 60.
    Exponential {
        /// The most rounds, 1 to 20. Default 5.
        #[serde(default = "five")]
        #[schemars(range(min = 1, max = 20))]
        rounds: u32,
    },
    /// After 5, 10, 15, … minutes.
    Linear {
        /// The most rounds, 1 to 20. Default 5.
        #[serde(default = "five")]
        #[schemars(range(min = 1, max = 20))]
        rounds: u32,
    },
    /// Every 10 minutes.
    Fixed {
        /// The most rounds, 1 to 20. Default 5.
        #[serde(default = "five")]
        #[schemars(range(min = 1, max = 20))]
        rounds: u32,
    },
}

fn two() -> u32 {
    2
}

fn five() -> u32 {
    5
}

impl AutoRetry {
    /// Lists what is wrong, with pointers that begin at `at`.
    #[must_use]
    pub fn validate(&self, at: &str) -> Vec<Violation> {
        if *self == Self::Off || (1..=20).contains(&self.rounds()) {
            return Vec::new();
        }
        vec![Violation::new(format!("{at}/rounds"), "out_of_range", "use 1 to 20")]
    }

    /// The most rounds; 0 where it is off.
    #[must_use]
    pub const fn rounds(&self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Native { rounds }
            | Self::Exponential { rounds }
            | Self::Linear { rounds }
            | Self::Fixed { rounds } => *rounds,
        }
    }

    /// How long after its death a letter of the round `done` gets its next one; nothing where no
    /// round is left. The same seed and round always give the same delay.
    #[must_use]
    pub fn delay(&self, done: u32, seed: u64) -> Option<Duration> {
        if done >= self.rounds() {
            return None;
        }
        let n = u64::from(done);
        let seconds = match self {
            Self::Off => return None,
            Self::Native { .. } => [HOUR, 6 * HOUR][usize::from(done > 0)],
            Self::Exponential { .. } => (60 << n.min(6)).min(HOUR),
            Self::Linear { .. } => 300 * (n + 1),
            Self::Fixed { .. } => 600,
        };
        Some(spread(Duration::from_secs(seconds), seed, done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_their_presets_and_end() {
        let cases: [(AutoRetry, &[u64]); 4] = [
            (AutoRetry::Native { rounds: 2 }, &[3_600, 21_600]),
            (AutoRetry::Exponential { rounds: 8 }, &[60, 120, 240, 480, 960, 1920, 3600, 3600]),
            (AutoRetry::Linear { rounds: 3 }, &[300, 600, 900]),
            (AutoRetry::Fixed { rounds: 2 }, &[600, 600]),
        ];
        for (policy, delays) in cases {
            for (done, plain) in (0u32..).zip(delays) {
                for seed in 0..200 {
                    let delay = policy.delay(done, seed).unwrap();
                    let least = if *plain > 600 { plain / 10 } else { plain * 4 / 5 };
                    let most = if *plain > 600 { *plain } else { plain * 6 / 5 };
                    let fits = Duration::from_secs(least)..=Duration::from_secs(most);
                    assert!(fits.contains(&delay), "{policy:?} {done} {delay:?}");
                    assert_eq!(policy.delay(done, seed), Some(delay));
                }
            }
            assert_eq!(policy.delay(u32::try_from(delays.len()).unwrap(), 1), None);
        }
        assert_eq!(AutoRetry::Off.delay(0, 1), None);
    }

    #[test]
    fn letters_of_a_round_are_spread() {
        let policy = AutoRetry::Native { rounds: 2 };
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|seed| policy.delay(0, seed)).collect();
        assert!(delays.len() > 90);
    }

    #[test]
    fn the_number_of_rounds_is_bounded() {
        assert!(AutoRetry::Off.validate("").is_empty());
        assert!(AutoRetry::Fixed { rounds: 20 }.validate("").is_empty());
        for rounds in [0, 21] {
            let found = AutoRetry::Linear { rounds }.validate("/auto_retry");
            assert_eq!(found[0].pointer, "/auto_retry/rounds");
        }
    }

    #[test]
    fn documents_name_the_preset_alone() {
        let read = |text| serde_json::from_str::<AutoRetry>(text).unwrap();
        assert_eq!(read(r#"{"type":"exponential"}"#), AutoRetry::Exponential { rounds: 5 });
        assert_eq!(read(r#"{"type":"native"}"#), AutoRetry::Native { rounds: 2 });
        assert_eq!(read(r#"{"type":"off"}"#), AutoRetry::Off);
    }
}
