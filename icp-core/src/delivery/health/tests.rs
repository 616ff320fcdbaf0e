use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::delivery::{AttemptTimings, LaneId};
use crate::id::{DeliveryId, OrgId, ResourceId};

fn at(secs: u64) -> Timestamp {
    Timestamp::from_millis(1_795_232_700_000) + Duration::from_secs(secs)
}

fn lane(mode: LaneMode, max_in_flight: u32) -> Lane {
    let (org, integration) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
    Lane {
        id: LaneId::of(&org, &integration, None),
        org,
        integration,
        order_key: None,
        mode,
        weight: 1,
        pass: 0,
        runnable: false,
        next_due: None,
        in_flight: 0,
        max_in_flight,
        blocked_until: None,
        paused: false,
        rules: LaneRules::default(),
        health: LaneHealth::default(),
        pace: Pace::default(),
    }
}

fn attempt(started: Timestamp, outcome: &str, status: Option<u16>) -> Attempt {
    Attempt {
        delivery: DeliveryId::from_bytes([1; 16]),
        epoch: 1,
        number: 1,
        started_at: started,
        outcome: match outcome {
            "delivered" => AttemptOutcome::Delivered,
            "skipped" => AttemptOutcome::Skipped,
            class => AttemptOutcome::Failed(class.into()),
        },
        status,
        timings: AttemptTimings { total: 7, ..AttemptTimings::default() },
        exchange: None,
        message: None,
        transcript: None,
    }
}

fn answer(started: Timestamp, status: u16) -> Attempt {
    let outcome = if status < 300 { "delivered" } else { "status" };
    attempt(started, outcome, Some(status))
}

/// The lane after answers that took no time.
fn after(mut lane: Lane, answers: impl IntoIterator<Item = (u64, u16)>) -> Lane {
    for (secs, status) in answers {
        lane.observe(&answer(at(secs), status), at(secs));
    }
    lane
}

#[test]
fn what_an_attempt_says_of_its_receiver() {
    use Verdict::{Delivered, Failed, Overloaded, Refused};
    let table = [
        ("delivered", Some(204), Some(Delivered)),
        ("skipped", None, None),
        ("status_404", Some(404), Some(Refused)),
        ("status_301", Some(301), Some(Refused)),
        ("status_410", Some(410), Some(Refused)),
        ("status_429", Some(429), Some(Overloaded)),
        ("status_503", Some(503), Some(Overloaded)),
        ("status_500", Some(500), Some(Failed)),
        ("timeout_headers", None, Some(Overloaded)),
        ("timeout_body", Some(200), Some(Overloaded)),
        ("connect_failed", None, Some(Failed)),
        ("dns_failed", None, Some(Failed)),
        ("tls_failed", None, Some(Failed)),
        ("connection_reset", None, Some(Failed)),
        ("address_denied", None, None),
        ("overloaded", None, None),
    ];
    for (outcome, status, expected) in table {
        assert_eq!(Verdict::of(&attempt(at(0), outcome, status)), expected, "{outcome}");
    }
    let mut untimed = attempt(at(0), "transform_type", None);
    untimed.timings.total = 0;
    assert_eq!(Verdict::of(&untimed), None, "nothing was sent");
    untimed.outcome = AttemptOutcome::Failed("timeout_attempt".into());
    assert_eq!(Verdict::of(&untimed), None, "all the time went before it was sent");
    untimed.timings.total = 1;
    assert_eq!(Verdict::of(&untimed), Some(Overloaded), "the engine's own deadline");
}

#[test]
fn it_opens_at_the_fifth_failure_in_a_row_and_not_before() {
    let four = after(lane(LaneMode::Parallel, 10), (0..4).map(|n| (n, 500)));
    assert_eq!(
        (four.health.breaker.state(at(4)), four.blocked_until),
        (BreakerState::Closed, None)
    );
    assert_eq!(four.allowed(), 10);
    let saved = after(four.clone(), [(4, 404), (5, 500), (6, 200), (7, 500)]);
    assert_eq!(saved.health.breaker.state(at(7)), BreakerState::Closed);
    let five = after(four, [(4, 500)]);
    let until = five.health.breaker.open_until().unwrap();
    let open = until.since(at(4));
    assert!(open >= Duration::from_secs(24) && open <= Duration::from_secs(30), "{open:?}");
    assert_eq!((five.blocked_until, five.allowed()), (Some(until), 1));
    assert_eq!(five.health.breaker.state(at(5)), BreakerState::Open);
    assert_eq!(five.health.breaker.state(until), BreakerState::HalfOpen);
}

#[test]
fn it_opens_at_half_of_twenty_within_the_window() {
    let mixed = |count: u64| (0..count).map(|n| (n, if n % 2 == 0 { 500 } else { 200 }));
    let nineteen = after(lane(LaneMode::Parallel, 10), mixed(19));
    assert!(!nineteen.health.breaker.is_open());
    assert!(after(nineteen, [(19, 200), (20, 500)]).health.breaker.is_open());
    let slow = (0..60).map(|n| (n * 7, if n % 2 == 0 { 500 } else { 200 }));
    let slow = after(lane(LaneMode::Parallel, 10), slow);
    assert!(!slow.health.breaker.is_open(), "fewer than twenty in each window");
    assert!(after(slow, [(1_000, 200)]).health.is_well(), "and all is forgotten");
}

#[test]
fn what_was_under_way_neither_closes_nor_reopens_it() {
    let open = after(lane(LaneMode::Parallel, 10), (0..5).map(|n| (n, 500)));
    let until = open.health.breaker.open_until().unwrap();
    let mut late = open.clone();
    late.observe(&answer(at(3), 200), at(8));
    late.observe(&answer(at(3), 500), until + Duration::from_secs(9));
    assert_eq!(late, open);
    let probed = |status| {
        let mut lane = open.clone();
        lane.observe(&answer(until, status), until);
        lane
    };
    assert!(probed(200).health.is_well());
    assert!(probed(422).health.is_well(), "the receiver is there");
    let again = probed(500).health.breaker;
    assert_eq!((again.trips(), again.state(until)), (2, BreakerState::Open));
    assert!(again.open_until().unwrap().since(until) >= Duration::from_secs(48));
}

#[test]
fn the_open_time_doubles_up_to_the_most_and_is_exact_for_a_seed() {
    let spec = BreakerSpec::default();
    for trip in 1..60 {
        let whole = Duration::from_secs((30u64 << (trip - 1).min(20)).min(3_600));
        for seed in 0..50 {
            let open = spec.open_time(trip, seed);
            assert!(open <= whole && open >= whole * 4 / 5, "{trip}: {open:?}");
            assert_eq!(open, spec.open_time(trip, seed));
        }
    }
    assert_ne!(spec.open_time(1, 1), spec.open_time(1, 2));
}

#[test]
fn rules_that_are_off_remember_nothing_and_changed_ones_begin_afresh() {
    let mut off = lane(LaneMode::Parallel, 10);
    off.rules = LaneRules::off();
    let off = after(off, (0..50).map(|n| (n, 503)));
    assert_eq!((off.health.is_well(), off.allowed(), off.blocked_until), (true, 10, None));
    let mut open = after(lane(LaneMode::Parallel, 10), (0..5).map(|n| (n, 503)));
    let before = open.clone();
    open.change_rules(LaneRules::default());
    assert_eq!(open, before, "nothing changed");
    open.change_rules(LaneRules::off());
    assert_eq!((open.health.is_well(), open.allowed(), open.blocked_until), (true, 10, None));
}

#[test]
fn a_lane_is_halved_once_for_what_was_under_way_and_widens_by_one() {
    let mut narrow = lane(LaneMode::Parallel, 16);
    for _ in 0..4 {
        narrow.observe(&answer(at(0), 429), at(1));
    }
    assert_eq!(narrow.allowed(), 8, "one cut for four that went together");
    narrow = after(narrow, [(2, 200), (3, 429), (4, 200), (5, 503)]);
    assert_eq!(narrow.allowed(), 2);
    narrow = after(narrow, [(6, 200)]);
    assert_eq!(narrow.allowed(), 2, "one delivery is not enough");
    narrow = after(narrow, [(7, 200)]);
    assert_eq!(narrow.allowed(), 3);
    narrow = after(narrow, (0..200).map(|n| (100 + n, 200)));
    assert!(narrow.health.is_well());
    assert_eq!(narrow.allowed(), 16);
    let fifo = after(lane(LaneMode::Fifo, 1), [(1, 503)]);
    assert_eq!(fifo.health.narrowed, None);
}

#[test]
fn health_round_trips_and_a_well_lane_keeps_nothing() {
    assert_eq!(serde_json::to_string(&LaneHealth::default()).unwrap(), "{}");
    let ill = after(lane(LaneMode::Parallel, 10), (0..5).map(|n| (n, 503)));
    let text = serde_json::to_string(&ill.health).unwrap();
    assert!(text.len() < 200, "{text}");
    assert_eq!(serde_json::from_str::<LaneHealth>(&text).unwrap(), ill.health);
}

#[test]
fn the_pace_is_that_of_two_minutes() {
    let minute = |n: u64, secs: u64| Timestamp::EPOCH + Duration::from_secs(n * 60 + secs);
    let pace = Pace::default().counted(90, minute(5, 10)).counted(30, minute(6, 0));
    assert_eq!((pace.before, pace.ended), (90, 30));
    let time = |count, now| pace.time_for(count, now);
    assert_eq!(time(120, minute(6, 30)), Some(Duration::from_secs(90)));
    assert_eq!(time(0, minute(6, 30)), Some(Duration::ZERO));
    assert_eq!(time(30, minute(7, 0)), Some(Duration::from_secs(60)));
    assert_eq!(time(30, minute(8, 0)), None, "nothing ended of late");
}

#[test]
fn settings_out_of_range_are_named() {
    assert_eq!(BreakerSpec::default().validate("/b"), []);
    let spec =
        BreakerSpec { failures: 0, open_seconds: 60, max_open_seconds: 30, ..Default::default() };
    let pointers: Vec<_> = spec.validate("/b").into_iter().map(|v| v.pointer).collect();
    assert_eq!(pointers, ["/b/failures", "/b/max_open_seconds"]);
    let limit = |requests, per_seconds, burst| RateLimit { requests, per_seconds, burst };
    let wrong = |limit: RateLimit| limit.validate("/r").len();
    assert_eq!(wrong(limit(100, 60, 1)) + wrong(limit(10_000, 1, 10_000)), 0);
    assert_eq!(wrong(limit(0, 60, 1)), 1);
    assert_eq!(wrong(limit(10_001, 1, 1)), 1);
    assert_eq!(wrong(limit(5, 1, 6)), 1);
    assert_eq!(wrong(limit(5, 0, 1)), 1);
}

#[test]
fn a_rate_is_told_with_its_quota_and_what_may_go_now() {
    let limit = RateLimit { requests: 60, per_seconds: 60, burst: 3 };
    let fresh = Meter::default();
    let status =
        |remaining, reset| RateStatus { limit: 60, per_seconds: 60, burst: 3, remaining, reset };
    assert_eq!(fresh.status(&limit, at(0)), status(3, at(0)));
    let used = fresh.used(&limit, 3, at(0));
    assert_eq!(used.status(&limit, at(0)), status(0, at(3)));
    assert_eq!(used.blocks_until(&limit, at(0)), Some(at(1)));
    assert_eq!(used.status(&limit, at(1)), status(1, at(3)));
    assert_eq!(used.blocks_until(&limit, at(1)), None);
    assert_eq!(Meter::from_micros(used.as_micros()), used);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The naive model keeps a bucket of `burst` tokens in millionths, refilled as time passes.
    #[test]
    fn the_meter_is_a_bucket_of_tokens(
        requests in 1..50u32,
        per_seconds in 1..20u32,
        burst in 1..10u32,
        steps in prop::collection::vec((0..3_000u64, 0..6u32), 1..60),
    ) {
        let burst = burst.min(requests);
        let limit = RateLimit { requests, per_seconds, burst };
        let interval = (u64::from(per_seconds) * 1_000_000).div_ceil(u64::from(requests));
        let full = interval * u64::from(burst);
        let (mut tokens, mut meter, mut now) = (full, Meter::default(), at(0));
        for (millis, wanted) in steps {
            now = now + Duration::from_millis(millis);
            tokens = (tokens + millis * 1_000).min(full);
            let there = u32::try_from(tokens / interval).unwrap();
            prop_assert_eq!(meter.room(&limit, now), there);
            prop_assert_eq!(meter.blocks_until(&limit, now).is_none(), there > 0);
            let taken = wanted.min(there);
            meter = meter.used(&limit, taken, now);
            tokens -= interval * u64::from(taken);
            if let Some(next) = meter.blocks_until(&limit, now) {
                prop_assert!(meter.room(&limit, next) >= 1);
                prop_assert_eq!(meter.room(&limit, next - Duration::from_millis(1)), 0);
            }
        }
    }

    /// In no span of the period do more go than are allowed, however greedily they are taken.
    #[test]
    fn no_span_has_more_than_the_limit(
        requests in 1..40u32,
        burst in 1..10u32,
        steps in prop::collection::vec(1..700u64, 1..200),
    ) {
        let burst = burst.min(requests);
        let limit = RateLimit { requests, per_seconds: 5, burst };
        let (mut meter, mut now) = (Meter::default(), at(0));
        let mut span: VecDeque<Timestamp> = VecDeque::new();
        for millis in steps {
            now = now + Duration::from_millis(millis);
            let count = meter.room(&limit, now);
            meter = meter.used(&limit, count, now);
            span.extend((0..count).map(|_| now));
            while span.front().is_some_and(|first| now.since(*first) >= Duration::from_secs(5)) {
                span.pop_front();
            }
            prop_assert!(span.len() <= (requests + burst - 1) as usize);
        }
    }

    /// Whatever happens: an open breaker lets one go and blocks the lane, the lane never has
    /// more or less room than one to its most, and what is forgotten is forgotten whole.
    #[test]
    fn no_history_leaves_a_lane_in_between(
        answers in prop::collection::vec((0..40u64, 0..40u64, 0..5usize), 1..120),
    ) {
        let mut lane = lane(LaneMode::Parallel, 12);
        let mut now = 0;
        for (pause, took, status) in answers {
            now += pause;
            let status = [200, 404, 429, 500, 503][status];
            let before = lane.clone();
            lane.observe(&answer(at(1_000 + now - took.min(now)), status), at(1_000 + now));
            prop_assert!((1..=12).contains(&lane.allowed()));
            let breaker = lane.health.breaker;
            if breaker.is_open() {
                prop_assert_eq!(lane.allowed(), 1);
                prop_assert!(lane.blocked_until >= breaker.open_until());
                prop_assert!(breaker.trips() <= before.health.breaker.trips() + 1);
            } else {
                prop_assert_eq!(breaker.trips(), 0);
                prop_assert!(breaker.failures < 5);
            }
        }
    }
}
