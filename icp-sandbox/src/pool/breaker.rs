//! Programs that keep taking their workers down are suspended for a while.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Duration;

use icp_core::id::OrgId;
use lru::LruCache;
use tokio::time::Instant;

/// How many workers a program may take down within [`WINDOW`].
const DEATHS: usize = 5;
/// The time that deaths are counted over.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a program is suspended then.
const SUSPENDED: Duration = Duration::from_secs(300);
/// How many programs are remembered; those that died longest ago are forgotten first.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4_095);

/// A program of an organization.
pub(super) type Suspect = (OrgId, [u8; 32]);

/// What is known of programs that took workers down.
#[derive(Debug)]
pub(super) struct Breaker {
    known: LruCache<Suspect, Past>,
}

#[derive(Debug, Default)]
struct Past {
    deaths: VecDeque<Instant>,
    suspended_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { known: LruCache::new(REMEMBERED) }
    }

    /// How long the program stays suspended; none where it is not.
    pub(super) fn suspended(&self, suspect: &Suspect, now: Instant) -> Option<Duration> {
        let until = self.known.peek(suspect)?.suspended_until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Notes that the program took a worker down.
    pub(super) fn died(&mut self, suspect: Suspect, now: Instant) {
        let past = self.known.get_or_insert_mut(suspect, Past::default);
        past.deaths.push_back(now);
        while past.deaths.front().is_some_and(|death| now.duration_since(*death) > WINDOW) {
            past.deaths.pop_front();
        }
        if past.deaths.len() >= DEATHS {
            past.deaths.clear();
            past.suspended_until = Some(now + SUSPENDED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(org: &str) -> Suspect {
        (OrgId::new(org).unwrap(), [1; 32])
    }

    #[test]
    fn five_deaths_in_a_minute_suspend_a_program_for_five() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new();
        for second in 0..4 {
            breaker.died(suspect("acme"), at(second));
        }
        assert_eq!(breaker.suspended(&suspect("acme"), at(4)), None);
        breaker.died(suspect("acme"), at(4));
        let left = breaker.suspended(&suspect("acme"), at(5)).unwrap();
        assert_eq!(left, Duration::from_secs(299));
        assert_eq!(breaker.suspended(&suspect("other"), at(5)), None);
        assert_eq!(breaker.suspended(&suspect("acme"), at(304)), None);
        breaker.died(suspect("acme"), at(305));
        assert_eq!(breaker.suspended(&suspect("acme"), at(305)), None);
    }

    #[test]
    fn deaths_far_apart_suspend_nothing() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for minute in 0..20 {
            let now = start + Duration::from_secs(minute * 16);
            breaker.died(suspect("acme"), now);
            assert_eq!(breaker.suspended(&suspect("acme"), now), None);
        }
    }
}
