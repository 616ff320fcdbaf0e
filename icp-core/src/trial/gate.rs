use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::error::{Code, Error, Result};
use crate::id::OrgId;

/// How many organizations are told apart; the one that was idle for longest begins anew.
const ORGS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// Bounds what each organization tries out, so that it is no means to scan networks or to keep a
/// node busy.
#[derive(Debug)]
pub(crate) struct Gate {
    /// What passes, for people.
    what: &'static str,
    per_minute: u32,
    left: Mutex<LruCache<OrgId, Allowance>>,
}

impl Gate {
    pub(crate) fn new(what: &'static str, per_minute: u32) -> Self {
        Self { what, per_minute, left: Mutex::new(LruCache::new(ORGS)) }
    }

    /// Lets one pass, at `now` of a clock that only goes forward.
    pub(super) fn admit(&self, org: &OrgId, now: Duration) -> Result<()> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Allowance { tests: f64::from(self.per_minute), at: now };
        let allowance = left.get_or_insert_mut(org.clone(), || full);
        if allowance.take(self.per_minute, now) {
            return Ok(());
        }
        let message = format!(
            "the organization may make {} {} a minute; wait and try again",
            self.per_minute, self.what
        );
        Err(Error::new(Code::TestsLimited, message))
    }
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    tests: f64,
    at: Duration,
}

impl Allowance {
    fn take(&mut self, per_minute: u32, now: Duration) -> bool {
        let most = f64::from(per_minute);
        let earned = now.saturating_sub(self.at).as_secs_f64() * most / 60.0;
        *self = Self { tests: (self.tests + earned).min(most), at: now };
        let enough = self.tests >= 1.0;
        if enough {
            self.tests -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_organization_has_an_allowance_that_grows_back() {
        let gate = Gate::new("tests", 3);
        let [acme, other] = ["acme", "other"].map(|org| OrgId::new(org).unwrap());
        let passes = |org, seconds| gate.admit(org, Duration::from_secs(seconds)).is_ok();
        assert!(passes(&acme, 0) && passes(&acme, 0) && passes(&acme, 0));
        assert!(!passes(&acme, 0) && !passes(&acme, 19));
        assert!(passes(&other, 19));
        assert!(passes(&acme, 21) && !passes(&acme, 21));
        let all: Vec<_> = (0..5).map(|_| passes(&acme, 100_000)).collect();
        assert_eq!(all, [true, true, true, false, false], "no more is saved up");
    }

    #[test]
    fn none_at_all() {
        let refused =
            Gate::new("tests", 0).admit(&OrgId::new("acme").unwrap(), Duration::from_secs(9));
        assert_eq!(refused.unwrap_err().code(), Code::TestsLimited);
    }
}
