//! When an endpoint counts as failing, and what follows from it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use crate::error::Violation;
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

/// The name of the entry, and the reason of an integration that is switched off.
pub(crate) const FAILING: &str = "failing";
/// With how many failures in a row, none of its attempts succeeding between, an endpoint counts
/// as failing.
pub(crate) const FAILURES: u32 = 5;
/// At which shares of the time an alert is given; with the last one it is switched off.
const ALERTS: [u8; 4] = [100, 90, 70, 50];
/// For how long failures add up until an endpoint counts as failing: a node does not see the
/// successes of the others, so that of what is older it cannot know that none came between.
const MEMORY: Duration = Duration::from_secs(86_400);
/// How many failing integrations a node keeps count of.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);

/// What becomes of an integration whose endpoint keeps failing.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailingSpec {
    /// Seconds of failing without one success after which the integration is switched off; `null`
    /// for never. Default 432,000, five days.
    #[schemars(range(min = 60, max = 31_622_400))]
    pub disable_after_seconds: Option<u64>,
}

impl FailingSpec {
    pub(crate) fn validate(&self, at: &str) -> Vec<Violation> {
        let fine = self.disable_after_seconds.is_none_or(|s| (60..=31_622_400).contains(&s));
        let pointer = format!("{at}/disable_after_seconds");
        let violation = || Violation::new(pointer, "out_of_range", "use 60 to 31622400, or null");
        if fine { Vec::new() } else { vec![violation()] }
    }
}

impl Default for FailingSpec {
    fn default() -> Self {
        Self { disable_after_seconds: Some(5 * 86_400) }
    }
}

/// The `failing` entry in the status of an integration.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Failing {
    /// The first failure since the last success, as far as the node that found it knows; at the
    /// most half of the time before it was found.
    pub since: Timestamp,
    /// The share of the time for which an alert was given, in percent; 0 for none.
    pub alerted: u8,
}

impl Failing {
    /// What the status of an integration says of its endpoint.
    pub(crate) fn of(status: &Value) -> Option<Self> {
        Self::deserialize(status.get(FAILING)?).ok()
    }
}

/// Failures in a row as one node saw them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Streak {
    pub(crate) first: Timestamp,
    pub(crate) failures: u32,
    /// Whether the status of the integration told of it. What the status tells no more is over,
    /// by a success on whichever node, or because somebody switched the integration on again.
    pub(crate) told: bool,
}

impl Streak {
    fn starting_at(now: Timestamp) -> Self {
        Self { first: now, failures: 0, told: false }
    }

    /// Whether a failure now begins another streak.
    fn is_over(self, failing: Option<Failing>, now: Timestamp) -> bool {
        failing.is_none() && (self.told || now.since(self.first) > MEMORY)
    }
}

/// What there is to do about an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Note that it fails.
    Begin(Failing),
    /// Give an alert.
    Alert(Failing),
    /// Switch it off.
    SwitchOff(Failing),
}

/// What follows from one more failure.
///
/// A failure that begins has at least half of the time before it, so that an alert comes before
/// the end, whatever a node saw alone.
pub(crate) fn next_step(
    failing: Option<Failing>,
    streak: Streak,
    limit: Option<Duration>,
    now: Timestamp,
) -> Option<Step> {
    let Some(failing) = failing else {
        let begins = streak.failures >= FAILURES && !streak.told;
        let since = limit.map_or(streak.first, |limit| streak.first.max(now - limit / 2));
        return begins.then_some(Step::Begin(Failing { since, alerted: 0 }));
    };
    let limit = limit?.as_millis().max(1);
    let share = now.since(failing.since).as_millis() * 100 / limit;
    let reached = ALERTS.into_iter().find(|alert| u128::from(*alert) <= share)?;
    let reached_now = Failing { alerted: reached, ..failing };
    match reached {
        100 => Some(Step::SwitchOff(reached_now)),
        _ if reached > failing.alerted => Some(Step::Alert(reached_now)),
        _ => None,
    }
}

type Key = (OrgId, ResourceId);

/// What an attempt showed of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Observed {
    Success,
    Failure(Streak),
}

/// What this node knows of endpoints that fail, and what is to be looked into.
#[derive(Debug)]
pub(crate) struct Health {
    streaks: Mutex<LruCache<Key, Streak>>,
    /// How many streaks there are, so that the usual success takes no lock.
    count: AtomicUsize,
    suspects: Mutex<BTreeMap<Key, Observed>>,
    wake: Notify,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            streaks: Mutex::new(LruCache::new(KEPT)),
            count: AtomicUsize::new(0),
            suspects: Mutex::default(),
            wake: Notify::new(),
        }
    }
}

impl Health {
    /// Notes a success; `failing` is whether the integration's status says otherwise.
    pub(crate) fn succeeded(&self, org: &OrgId, integration: &ResourceId, failing: bool) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut streaks = lock(&self.streaks);
            streaks.pop(&(org.clone(), integration.clone()));
            self.count.store(streaks.len(), Ordering::Release);
        }
        if failing {
            self.suspect(org, integration, Observed::Success);
        }
    }

    /// Notes a failure, and has it looked into where something follows from it.
    pub(crate) fn failed(
        &self,
        org: &OrgId,
        integration: &ResourceId,
        failing: Option<Failing>,
        limit: Option<Duration>,
        now: Timestamp,
    ) {
        let streak = {
            let mut streaks = lock(&self.streaks);
            let key = (org.clone(), integration.clone());
            let streak = streaks.get_or_insert_mut(key, || Streak::starting_at(now));
            if streak.is_over(failing, now) {
                *streak = Streak::starting_at(now);
            }
            streak.told |= failing.is_some();
            streak.failures = streak.failures.saturating_add(1);
            let streak = *streak;
            self.count.store(streaks.len(), Ordering::Release);
            streak
        };
        if next_step(failing, streak, limit, now).is_some() {
            self.suspect(org, integration, Observed::Failure(streak));
        }
    }

    /// Notes that the status of the integration tells of the failures that were counted here.
    pub(crate) fn told(&self, org: &OrgId, integration: &ResourceId) {
        if let Some(streak) = lock(&self.streaks).get_mut(&(org.clone(), integration.clone())) {
            streak.told = true;
        }
    }

    /// A success that was not looked into yet stays: were a failure to take its place, the status
    /// would go on to count from before it. The next failure gives reason again.
    fn suspect(&self, org: &OrgId, integration: &ResourceId, observed: Observed) {
        let mut suspects = lock(&self.suspects);
        let known = suspects.entry((org.clone(), integration.clone())).or_insert(observed);
        if *known != Observed::Success {
            *known = observed;
        }
        drop(suspects);
        self.wake.notify_one();
    }

    /// Waits until there is something to look into.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes what there is to look into.
    pub(crate) fn take(&self) -> BTreeMap<Key, Observed> {
        std::mem::take(&mut *lock(&self.suspects))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn streak(failures: u32) -> Streak {
        Streak { first: at(0), failures, told: false }
    }

    #[test]
    fn a_few_failures_are_nothing_and_five_begin_a_failure() {
        for failures in 0..FAILURES {
            assert_eq!(next_step(None, streak(failures), Some(HOUR), at(9_999)), None);
        }
        for (limit, now, since) in [
            (Some(HOUR), 60, 0),
            (Some(HOUR), 1_800, 0),
            (Some(HOUR), 9_999, 8_199),
            (None, 9_999, 0),
        ] {
            let step = next_step(None, streak(FAILURES), limit, at(now));
            let begun = Failing { since: at(since), alerted: 0 };
            assert_eq!(step, Some(Step::Begin(begun)), "half of the time is left");
        }
    }

    #[test]
    fn each_alert_is_given_once_and_the_last_switches_off() {
        let mut failing = Failing { since: at(0), alerted: 0 };
        let mut given = Vec::new();
        for second in (0..=3_600).step_by(60) {
            match next_step(Some(failing), streak(99), Some(HOUR), at(second)) {
                Some(Step::Alert(alert)) => {
                    given.push((second, alert.alerted));
                    failing = alert;
                }
                Some(Step::SwitchOff(last)) => given.push((second, last.alerted)),
                Some(Step::Begin(_)) => panic!("it began before"),
                None => {}
            }
        }
        assert_eq!(given, [(1_800, 50), (2_520, 70), (3_240, 90), (3_600, 100)]);
        let late = Failing { since: at(0), alerted: 0 };
        let step = next_step(Some(late), streak(1), Some(HOUR), at(3_300));
        assert_eq!(step, Some(Step::Alert(Failing { since: at(0), alerted: 90 })), "the highest");
        assert_eq!(next_step(Some(late), streak(99), None, at(99_999_999)), None, "never");
    }

    #[test]
    fn a_success_ends_the_count_and_is_looked_into_only_where_it_is_news() {
        let health = Health::default();
        let (org, hook) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
        for _ in 1..FAILURES {
            health.failed(&org, &hook, None, Some(HOUR), at(7));
        }
        health.succeeded(&org, &hook, false);
        health.failed(&org, &hook, None, Some(HOUR), at(8));
        assert!(health.take().is_empty());
        for _ in 1..FAILURES {
            health.failed(&org, &hook, None, Some(HOUR), at(9));
        }
        let observed = Observed::Failure(Streak { first: at(8), ..streak(FAILURES) });
        assert_eq!(health.take().into_values().collect::<Vec<_>>(), [observed]);
        health.succeeded(&org, &hook, true);
        assert_eq!(health.take().into_values().collect::<Vec<_>>(), [Observed::Success]);
        assert!(health.take().is_empty());
    }

    #[test]
    fn what_another_node_ended_is_not_counted_on() {
        let health = Health::default();
        let (org, hook) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
        let begun = Failing { since: at(0), alerted: 0 };
        let saw: [fn(&Health, &OrgId, &ResourceId); 2] = [
            |health, org, hook| health.told(org, hook),
            |health, org, hook| {
                let begun = Failing { since: at(0), alerted: 0 };
                health.failed(org, hook, Some(begun), Some(HOUR), at(5));
            },
        ];
        for saw in saw {
            for second in 0..u64::from(FAILURES) {
                let now = at(0) + Duration::from_secs(second);
                health.failed(&org, &hook, None, Some(HOUR), now);
            }
            assert_eq!(health.take().len(), 1, "it begins");
            saw(&health, &org, &hook);
            // A success elsewhere takes it out of the status.
            for failure in 1..FAILURES {
                let now = at(3_660 + i64::from(failure));
                health.failed(&org, &hook, None, Some(HOUR), now);
                assert!(health.take().is_empty(), "failure {failure} after it");
            }
            health.failed(&org, &hook, None, Some(HOUR), at(3_700));
            let observed = health.take().into_values().next();
            let streak = Streak { first: at(3_661), ..streak(FAILURES) };
            assert_eq!(observed, Some(Observed::Failure(streak)), "five of its own");
            health.succeeded(&org, &hook, false);
        }
        let told = Streak { told: true, ..streak(99) };
        assert_eq!(next_step(None, told, Some(HOUR), at(9_999)), None);
        let last = next_step(Some(begun), told, Some(HOUR), at(9_999));
        assert!(matches!(last, Some(Step::SwitchOff(_))));
    }

    #[test]
    fn failures_of_another_day_are_not_counted_on() {
        let health = Health::default();
        let (org, hook) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
        for day in 0..20 {
            health.failed(&org, &hook, None, Some(HOUR), at(day * 86_400));
            assert!(health.take().is_empty(), "day {day}");
        }
    }

    #[test]
    fn a_failure_does_not_take_the_place_of_a_success() {
        let health = Health::default();
        let (org, hook) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
        let failing = Some(Failing { since: at(0), alerted: 0 });
        health.failed(&org, &hook, failing, Some(HOUR), at(3_590));
        health.succeeded(&org, &hook, true);
        health.failed(&org, &hook, failing, Some(HOUR), at(3_700));
        assert_eq!(health.take().into_values().collect::<Vec<_>>(), [Observed::Success]);
    }
}
