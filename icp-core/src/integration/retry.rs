//! When a failed delivery is tried again: pure policy, exact for a given seed.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Failure, Hint};
use crate::delivery::{EndReason, Next};
use crate::error::Violation;
use crate::time::Timestamp;
use crate::transform::TransformError;

/// The longest delay of a schedule, and the most that a receiver's `Retry-After` is heeded.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The longest total time an integration may keep trying.
const LONGEST_DEADLINE: u64 = 366 * 86_400;

/// How an integration tries again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySpec {
    /// The delays between tries. Default: the schedule of Standard Webhooks.
    pub schedule: Schedule,
    /// The most tries, the first included; the default follows from the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<u32>,
    /// Seconds after the delivery was made, or after its event is due where that is later, after
    /// which no try begins; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400))]
    pub deadline_seconds: Option<u64>,
    /// The HTTP statuses that are tried again. Default: 408, 425, 429 and everything from 500
    /// on; the rest is refused for good after [`REFUSED_TRIES`] tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<Vec<StatusRange>>,
    /// The failures of transformations, and of filters judged before attempts, that are tried again beside those that always are, by
    /// their codes without `transform_`, as `timeout_hard` or `crashed`. Default none: the same
    /// program on the same payload fails again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(regex(pattern = "^[a-z][a-z0-9_]{0,63}$")))]
    pub retry_on_transform: Vec<String>,
    /// Whether a receiver's `Retry-After` is left unheeded. Default `false`.
    pub ignore_retry_after: bool,
}

/// How often a delivery is tried whose receiver refuses it with a status that is not retried.
///
/// Receivers answer 401 or 404 while they are being deployed; a short second and third look
/// costs little and saves a dead letter.
pub const REFUSED_TRIES: u32 = 3;

/// The delays between the tries of a delivery.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: ten tries over about three days,
    /// each delay ±20 %, above ten minutes anything up to the delay.
    #[default]
    Standard,
    /// Three more tries after 10 s, 20 s and 40 s, each up to 2 s later; 401 and 403 are tried
    /// again, other statuses from 400 to 499 but 429 are final at once.
    Icplane,
    /// These delays, with the jitter of `standard`; one more try than there are delays.
    List {
        /// Seconds before the second try, the third, and so on.
        #[schemars(length(min = 1, max = 99))]
        delays_seconds: Vec<u64>,
    },
    /// `base · factor^(n-1)`, at most `cap`, with the jitter of `standard`.
    Exponential {
        /// Seconds before the second try.
        #[schemars(range(min = 1, max = 86_400))]
        base_seconds: u64,
        /// What each delay is multiplied by. Default 2.
        #[serde(default = "two")]
        #[schemars(range(min = 1.0, max = 10.0))]
        factor: f64,
        /// The most seconds between two tries. Default 86,400.
        #[serde(default = "day")]
        #[schemars(range(min = 1, max = 86_400))]
        cap_seconds: u64,
        /// The most tries, the first included. Default 10.
        #[serde(default = "ten")]
        #[schemars(range(min = 1, max = 100))]
        attempts: u32,
    },
}

fn two() -> f64 {
    2.0
}

fn day() -> u64 {
    LONGEST.as_secs()
}

fn ten() -> u32 {
    10
}

/// One status or a closed range of statuses, as in `"429"` or `"500-599"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatusRange {
    from: u16,
    to: u16,
}

impl std::str::FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.trim().parse(), to.trim().parse()) {
            (Ok(from), Ok(to)) if (100..=599).contains(&from) && from <= to && to <= 599 => {
                Ok(Self { from, to })
            }
            _ => Err(format!("`{text}` is not a status such as 429 or a range such as 500-599")),
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.from == self.to {
            serializer.collect_str(&self.from)
        } else {
            serializer.collect_str(&format_args!("{}-{}", self.from, self.to))
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" })
    }
}

impl RetrySpec {
    /// Lists what is wrong, with pointers that begin at `at`.
    #[must_use]
    pub fn validate(&self, at: &str) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut check = |fine: bool, pointer: &str, message: &str| {
            if !fine {
                violations.push(Violation::new(format!("{at}{pointer}"), "out_of_range", message));
            }
        };
        let day = LONGEST.as_secs();
        match &self.schedule {
            Schedule::Standard | Schedule::Icplane => {}
            Schedule::List { delays_seconds } => check(
                (1..=99).contains(&delays_seconds.len())
                    && delays_seconds.iter().all(|d| *d <= day),
                "/schedule/delays_seconds",
                "use 1 to 99 delays of at most 86400 seconds",
            ),
            Schedule::Exponential { base_seconds, factor, cap_seconds, attempts } => {
                check((1..=day).contains(base_seconds), "/schedule/base_seconds", "use 1 to 86400");
                check((1.0..=10.0).contains(factor), "/schedule/factor", "use 1 to 10");
                check((1..=day).contains(cap_seconds), "/schedule/cap_seconds", "use 1 to 86400");
                check((1..=100).contains(attempts), "/schedule/attempts", "use 1 to 100");
            }
        }
        check(
            self.max_attempts.is_none_or(|n| (1..=100).contains(&n)),
            "/max_attempts",
            "use 1 to 100",
        );
        check(
            self.deadline_seconds.is_none_or(|s| (1..=LONGEST_DEADLINE).contains(&s)),
            "/deadline_seconds",
            "use 1 to 31622400",
        );
        let word = |code: &String| {
            (1..=64).contains(&code.len())
                && code.starts_with(|first: char| first.is_ascii_lowercase())
                && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        check(
            self.retry_on_transform.len() <= 32 && self.retry_on_transform.iter().all(word),
            "/retry_on_transform",
            "use at most 32 codes, in lower case with underscores",
        );
        violations
    }

    /// What a failed transformation means for the delivery.
    #[must_use]
    pub fn after_transform(&self, error: &TransformError) -> Hint {
        let listed = self.retry_on_transform.iter().any(|code| code == error.code);
        if error.retryable || listed { Hint::Retry } else { Hint::Impossible }
    }

    /// The most tries, the first included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.max_attempts.unwrap_or_else(|| match &self.schedule {
            Schedule::Standard => count(STANDARD.len()),
            Schedule::Icplane => 4,
            Schedule::List { delays_seconds } => count(delays_seconds.len()),
            Schedule::Exponential { attempts, .. } => *attempts,
        })
    }

    /// The delay after the failed try `number` (from 1), jitter included.
    ///
    /// The same seed and number always give the same delay. Beyond its list a schedule goes on
    /// with its last delay, for integrations that allow more tries than there are delays.
    #[must_use]
    pub fn delay(&self, number: u32, seed: u64) -> Duration {
        let index = usize::try_from(number.max(1) - 1).unwrap_or(usize::MAX);
        let base = match &self.schedule {
            Schedule::Standard => pick(&STANDARD, index),
            Schedule::List { delays_seconds } => pick(delays_seconds, index),
            Schedule::Icplane => {
                let plain = 10_000u64.saturating_mul(1 << index.min(10)).min(240_000);
                return Duration::from_millis(plain + mix(seed, number) % 2_001);
            }
            Schedule::Exponential { base_seconds, factor, cap_seconds, .. } => {
                let power = factor.powi(i32::try_from(index).unwrap_or(i32::MAX));
                #[expect(clippy::cast_precision_loss, reason = "bounded by a day of seconds")]
                let seconds = (*base_seconds as f64 * power).min(*cap_seconds as f64);
                Duration::from_secs_f64(seconds)
            }
        };
        spread(base, seed, number)
    }

    /// What becomes of a delivery whose attempt failed.
    ///
    /// Its state comes in, the decision goes out; nothing is read from anywhere else.
    #[must_use]
    pub fn after_failure(&self, failure: &Failure, status: Option<u16>, past: &Past) -> Decision {
        let reason = EndReason::new(failure.class.clone(), failure.message.clone());
        let backoff = self.delay(past.tries, past.seed);
        let asked = match failure.hint {
            Hint::Wait(Some(wait)) if !self.ignore_retry_after => Some(wait),
            _ => None,
        };
        let wait = asked.map_or(backoff, |asked| asked.clamp(backoff, LONGEST.max(backoff)));
        let due_at = past.now + wait;
        // The receiver asked it of the whole lane, whatever becomes of this delivery.
        let block_lane_until = asked.map(|_| due_at);
        let dead = |code: &str| Decision {
            next: Next::Dead {
                reason: EndReason::new(code, format!("{}: {}", failure.class, failure.message)),
            },
            block_lane_until,
        };
        let hint = self.hint(failure.hint, status);
        let allowed = match hint {
            Hint::Gone => return dead("gone"),
            Hint::Impossible => return dead("impossible"),
            Hint::Refused if matches!(self.schedule, Schedule::Icplane) => return dead("refused"),
            Hint::Refused => self.attempts().min(REFUSED_TRIES),
            Hint::Retry | Hint::Wait(_) => self.attempts(),
        };
        let throttled =
            asked.is_some() && matches!(hint, Hint::Wait(_)) && past.throttles < MOST_THROTTLES;
        if !throttled && past.tries >= allowed {
            let refused = allowed < self.attempts();
            return dead(if refused { "refused" } else { "exhausted" });
        }
        if past.expires_at.is_some_and(|expires| due_at >= expires) {
            return Decision { next: Next::Expired, block_lane_until };
        }
        if self.is_late(past.since, due_at) {
            return dead(DEADLINE);
        }
        let next = if throttled {
            Next::Refund { due_at, throttled }
        } else {
            Next::Retry { due_at, reason }
        };
        Decision { next, block_lane_until }
    }

    /// Why a delivery that exists `since` then ends without a try at `now`; `None` where it is
    /// tried.
    #[must_use]
    pub fn before_try(&self, since: Timestamp, now: Timestamp) -> Option<EndReason> {
        let message = "its time was over before it could be tried";
        self.is_late(since, now).then(|| EndReason::new(DEADLINE, message))
    }

    fn is_late(&self, since: Timestamp, at: Timestamp) -> bool {
        self.deadline_seconds.is_some_and(|seconds| at > since + Duration::from_secs(seconds))
    }

    fn hint(&self, hint: Hint, status: Option<u16>) -> Hint {
        match (status, hint) {
            (Some(status), Hint::Retry | Hint::Refused | Hint::Wait(_)) => {
                let listed = match (&self.retry_on, &self.schedule) {
                    (Some(ranges), _) => ranges.iter().any(|r| (r.from..=r.to).contains(&status)),
                    (None, Schedule::Icplane) => status >= 500 || matches!(status, 401 | 403 | 429),
                    (None, _) => !matches!(hint, Hint::Refused),
                };
                match hint {
                    _ if !listed => Hint::Refused,
                    Hint::Refused => Hint::Retry,
                    other => other,
                }
            }
            (_, hint) => hint,
        }
    }
}

/// Why a delivery ends whose retry policy leaves it no more time.
const DEADLINE: &str = "deadline";

/// How many tries a receiver can have given back by asking to wait; then they count.
pub const MOST_THROTTLES: u32 = 20;

/// What is known of a delivery when one of its attempts failed.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Tries so far, this one included.
    pub tries: u32,
    /// Tries that were given back.
    pub throttles: u32,
    /// When the delivery was made, or when its event was due where that is later.
    pub since: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// What the jitter is drawn from; the delivery's id.
    pub seed: u64,
}

/// What becomes of a delivery, and of its lane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The delivery.
    pub next: Next,
    /// Until when the receiver asked the whole lane to wait.
    pub block_lane_until: Option<Timestamp>,
}

/// Reads a `Retry-After` field: seconds, or an HTTP date (RFC 9110, section 10.2.3).
///
/// Gives `None` for what is neither, for negative numbers and for dates in the past, so that
/// the schedule decides.
#[must_use]
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let at = Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?);
    (at > now).then(|| at.since(now))
}

const STANDARD: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

fn count(delays: usize) -> u32 {
    u32::try_from(delays).unwrap_or(u32::MAX).saturating_add(1)
}

fn pick(delays: &[u64], index: usize) -> Duration {
    Duration::from_secs(delays.get(index).or(delays.last()).copied().unwrap_or(5))
}

/// ±20 % up to ten minutes; above, anything from a tenth of the delay up to all of it, so that
/// what failed together does not come back together.
fn jitter(base: Duration, random: u64) -> Duration {
    let millis = u64::try_from(base.as_millis()).unwrap_or(u64::MAX);
    let (least, span) = if base > Duration::from_secs(600) {
        (millis / 10, millis - millis / 10)
    } else {
        (millis * 4 / 5, millis * 2 / 5)
    };
    Duration::from_millis(least + random % (span + 1))
}

/// `base` with the jitter of the schedules; the same seed and number always give the same.
pub(crate) fn spread(base: Duration, seed: u64, number: u32) -> Duration {
    jitter(base, mix(seed, number))
}

/// The finalizer of SplitMix64 over seed and number.
pub(crate) fn mix(seed: u64, number: u32) -> u64 {
    let mut z = seed.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
