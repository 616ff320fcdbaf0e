//! How often a principal may do something: a token bucket for each.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Violation;

/// How many buckets a node holds; the one that was idle for longest begins anew.
const BUCKETS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99_999);

/// A number of requests in a window of time. The first ones may come at once; what is used comes
/// back evenly.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many requests, 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// In how many seconds, 1 to 86,400.
    #[schemars(range(min = 1, max = 86_400))]
    pub seconds: u32,
}

impl RateLimit {
    pub(super) fn validate(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for (pointer, value, most) in
            [("/requests", self.requests, 1_000_000), ("/seconds", self.seconds, 86_400)]
        {
            if !(1..=most).contains(&value) {
                let message = format!("use 1 to {most}");
                found.push(Violation::new(pointer, "out_of_range", message));
            }
        }
        found
    }
}

/// What is left of a [`RateLimit`], as the `RateLimit` header field tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quota {
    /// The limit.
    pub limit: RateLimit,
    /// Whether this request is within it.
    pub allowed: bool,
    /// How many more requests are, at once.
    pub remaining: u32,
    /// When the next one that is not will be, in seconds, rounded up; 0 where one is left.
    pub retry_after: u32,
    /// When all of them will be there again, in seconds, rounded up.
    pub reset: u32,
}

/// The buckets of a node.
#[derive(Debug)]
pub(crate) struct Buckets(Mutex<LruCache<Box<str>, Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Default for Buckets {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(BUCKETS)))
    }
}

impl Buckets {
    /// Takes one from the bucket of `name`, at `now` of a clock that only goes forward.
    pub(crate) fn take(&self, name: &str, limit: RateLimit, now: Duration) -> Quota {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = f64::from(limit.requests);
        let bucket = buckets.get_or_insert_mut(name.into(), || Bucket { left: most, at: now });
        bucket.take(limit, now)
    }

    /// Fills the bucket of `name`.
    pub(crate) fn reset(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(name);
    }
}

impl Bucket {
    fn filled(self, limit: RateLimit, now: Duration) -> Self {
        let earned = now.saturating_sub(self.at).as_secs_f64() * rate(limit);
        Self { left: (self.left + earned).min(f64::from(limit.requests)), at: now }
    }

    fn take(&mut self, limit: RateLimit, now: Duration) -> Quota {
        *self = self.filled(limit, now);
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        self.quota(limit, allowed)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither more than the limit nor less than nothing"
    )]
    fn quota(self, limit: RateLimit, allowed: bool) -> Quota {
        let seconds = |missing: f64| (missing.max(0.0) / rate(limit)).ceil() as u32;
        Quota {
            limit,
            allowed,
            remaining: self.left as u32,
            retry_after: seconds(1.0 - self.left),
            reset: seconds(f64::from(limit.requests) - self.left),
        }
    }
}

fn rate(limit: RateLimit) -> f64 {
    f64::from(limit.requests) / f64::from(limit.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { requests: 3, seconds: 60 };

    #[test]
    fn what_is_used_comes_back_evenly() {
        let buckets = Buckets::default();
        let take = |seconds| buckets.take("a", LIMIT, Duration::from_secs(seconds));
        assert_eq!((take(0).remaining, take(0).remaining, take(0).remaining), (2, 1, 0));
        let refused = take(1);
        assert!(!refused.allowed);
        assert_eq!((refused.retry_after, refused.reset), (19, 59));
        assert!(take(20).allowed && !take(20).allowed);
        assert_eq!(take(500).remaining, 2);
    }

    #[test]
    fn each_name_has_its_own_and_can_begin_anew() {
        let buckets = Buckets::default();
        let one = RateLimit { requests: 1, seconds: 60 };
        let take = |name| buckets.take(name, one, Duration::ZERO).allowed;
        assert!(take("a") && !take("a") && take("b"));
        buckets.reset("a");
        assert!(take("a"));
    }
}
