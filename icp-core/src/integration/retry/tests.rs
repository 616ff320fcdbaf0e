use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);

fn past(tries: u32) -> Past {
    Past { tries, throttles: 0, since: NOW, expires_at: None, now: NOW, seed: 7 }
}

fn failure(hint: Hint) -> Failure {
    Failure { class: "status_500".into(), message: "internal server error".into(), hint }
}

fn code(decision: &Decision) -> &str {
    match &decision.next {
        Next::Dead { reason } => &reason.code,
        Next::Retry { .. } => "retry",
        Next::StepAside { .. } => "step_aside",
        Next::Refund { .. } => "refund",
        Next::Expired => "expired",
        Next::Delivered | Next::Skipped { .. } | Next::Cancelled { .. } => "other",
    }
}

#[test]
fn failed_transformations_are_tried_again_where_policy_says() {
    let hint = |spec: &RetrySpec, code, retryable| {
        let error = TransformError { retryable, ..TransformError::new(code, "no") };
        spec.after_transform(&error)
    };
    let patient =
        RetrySpec { retry_on_transform: vec!["timeout".to_owned()], ..RetrySpec::default() };
    for (code, retryable, by_default, listed) in [
        ("overloaded", true, Hint::Retry, Hint::Retry),
        ("timeout", false, Hint::Impossible, Hint::Retry),
        ("timeout_hard", false, Hint::Impossible, Hint::Impossible),
    ] {
        assert_eq!(hint(&RetrySpec::default(), code, retryable), by_default, "{code}");
        assert_eq!(hint(&patient, code, retryable), listed, "{code}");
    }
    assert!(patient.validate("/r").is_empty());
    for wrong in [vec!["Timeout".to_owned()], vec![String::new()], vec!["a".to_owned(); 33]] {
        let spec = RetrySpec { retry_on_transform: wrong, ..RetrySpec::default() };
        assert_eq!(spec.validate("/r")[0].pointer, "/r/retry_on_transform");
    }
}

#[test]
fn the_default_tries_ten_times() {
    let spec = RetrySpec::default();
    assert_eq!(spec.attempts(), 10);
    for tries in 1..10 {
        let decision = spec.after_failure(&failure(Hint::Retry), Some(500), &past(tries));
        assert_eq!(code(&decision), "retry", "{tries}");
    }
    assert_eq!(code(&spec.after_failure(&failure(Hint::Retry), Some(500), &past(10))), "exhausted");
}

#[test]
fn hints_decide_by_table() {
    let standard = RetrySpec::default();
    let icplane = RetrySpec { schedule: Schedule::Icplane, ..RetrySpec::default() };
    let only_503 =
        RetrySpec { retry_on: Some(vec!["503".parse().unwrap()]), ..RetrySpec::default() };
    let wait = Hint::Wait(Some(Duration::from_secs(60)));
    for (spec, hint, status, tries, expected) in [
        (&standard, Hint::Gone, Some(410), 1, "gone"),
        (&standard, Hint::Impossible, None, 1, "impossible"),
        (&standard, Hint::Refused, Some(404), 2, "retry"),
        (&standard, Hint::Refused, Some(404), 3, "refused"),
        (&standard, Hint::Retry, None, 9, "retry"),
        (&standard, wait, Some(429), 1, "refund"),
        (&standard, wait, Some(503), 10, "refund"),
        (&standard, Hint::Wait(None), Some(503), 10, "exhausted"),
        (&standard, Hint::Wait(None), Some(429), 1, "retry"),
        (&icplane, Hint::Refused, Some(404), 1, "refused"),
        (&icplane, Hint::Refused, Some(401), 3, "retry"),
        (&icplane, Hint::Refused, Some(401), 4, "exhausted"),
        (&icplane, Hint::Retry, Some(408), 1, "refused"),
        (&only_503, Hint::Retry, Some(500), 3, "refused"),
        (&only_503, Hint::Retry, Some(503), 9, "retry"),
        (&only_503, Hint::Retry, None, 9, "retry"),
        (&only_503, wait, Some(429), 2, "retry"),
        (&only_503, wait, Some(429), 3, "refused"),
    ] {
        let decision = spec.after_failure(&failure(hint), status, &past(tries));
        assert_eq!(code(&decision), expected, "{spec:?} {hint:?} {status:?} {tries}");
    }
}

#[test]
fn retry_after_blocks_the_lane_and_stays_in_bounds() {
    let spec = RetrySpec::default();
    let due = |seconds, expires_at| {
        let failure = failure(Hint::Wait(Some(Duration::from_secs(seconds))));
        spec.after_failure(&failure, Some(429), &Past { expires_at, ..past(1) })
    };
    let decision = due(60, None);
    assert_eq!(decision.block_lane_until, Some(NOW + Duration::from_secs(60)));
    let huge = due(u64::MAX / 2, None);
    assert_eq!(huge.block_lane_until, Some(NOW + LONGEST));
    let tiny = due(0, None);
    assert_eq!(tiny.block_lane_until, Some(NOW + spec.delay(1, 7)));
    assert_eq!(due(60, Some(NOW + Duration::from_secs(60))).next, Next::Expired);
    let unheeded = RetrySpec { ignore_retry_after: true, ..RetrySpec::default() };
    let failure = failure(Hint::Wait(Some(Duration::from_secs(60))));
    assert_eq!(unheeded.after_failure(&failure, Some(429), &past(1)).block_lane_until, None);
    let many = Past { throttles: MOST_THROTTLES, ..past(1) };
    assert_eq!(code(&spec.after_failure(&failure, Some(429), &many)), "retry");
}

#[test]
fn retry_after_blocks_the_lane_however_the_delivery_ends() {
    let list = |deadline_seconds| RetrySpec {
        schedule: Schedule::List { delays_seconds: vec![1, 2] },
        deadline_seconds,
        ..RetrySpec::default()
    };
    let icplane = RetrySpec { schedule: Schedule::Icplane, ..RetrySpec::default() };
    let wait = failure(Hint::Wait(Some(Duration::from_secs(3600))));
    let until = Some(NOW + Duration::from_secs(3600));
    let much = Past { throttles: MOST_THROTTLES, ..past(3) };
    let brief = Past { expires_at: Some(NOW + Duration::from_secs(9)), ..past(3) };
    for (spec, status, past, expected) in [
        (list(None), 429, past(1), "refund"),
        (list(None), 429, past(3), "refund"),
        (list(None), 503, past(3), "refund"),
        (list(None), 429, Past { tries: 2, ..much }, "retry"),
        (list(None), 429, much, "exhausted"),
        (list(None), 429, brief, "expired"),
        (list(Some(9)), 429, past(3), "deadline"),
        (icplane, 503, past(4), "refund"),
        (RetrySpec { retry_on: Some(Vec::new()), ..RetrySpec::default() }, 429, past(3), "refused"),
    ] {
        let decision = spec.after_failure(&wait, Some(status), &past);
        assert_eq!((code(&decision), decision.block_lane_until), (expected, until), "{past:?}");
    }
}

#[test]
fn the_deadline_ends_it() {
    let spec = RetrySpec { deadline_seconds: Some(4), ..RetrySpec::default() };
    let slow = RetrySpec { deadline_seconds: Some(7), ..RetrySpec::default() };
    let failure = failure(Hint::Retry);
    let late = Past { now: NOW + Duration::from_secs(1), ..past(1) };
    assert_eq!(code(&spec.after_failure(&failure, Some(500), &late)), "deadline");
    assert_eq!(code(&slow.after_failure(&failure, Some(500), &late)), "retry");
}

#[test]
fn no_try_begins_after_the_deadline() {
    let spec = RetrySpec { deadline_seconds: Some(4), ..RetrySpec::default() };
    let code = |spec: &RetrySpec, seconds| {
        spec.before_try(NOW, NOW + Duration::from_secs(seconds)).map(|reason| reason.code)
    };
    assert_eq!(code(&spec, 0), None);
    assert_eq!(code(&spec, 4), None);
    assert_eq!(code(&spec, 5).as_deref(), Some("deadline"));
    assert_eq!(spec.before_try(NOW + Duration::from_secs(9), NOW), None);
    assert_eq!(code(&RetrySpec::default(), 1_000_000_000), None);
}

#[test]
fn delays_are_exact_by_seed() {
    let icplane = RetrySpec { schedule: Schedule::Icplane, ..RetrySpec::default() };
    let list = RetrySpec {
        schedule: Schedule::List { delays_seconds: vec![1, 2] },
        ..RetrySpec::default()
    };
    assert_eq!(icplane.delay(1, 42), icplane.delay(1, 42));
    assert_ne!(icplane.delay(1, 42), icplane.delay(1, 43));
    for (number, plain) in [(1, 10_000), (2, 20_000), (5, 160_000), (6, 240_000), (60, 240_000)] {
        let millis = icplane.delay(number, 9).as_millis();
        assert!((plain..=plain + 2000).contains(&millis), "{number} {millis}");
    }
    assert_eq!(list.attempts(), 3);
    assert!((800..=1200).contains(&list.delay(1, 5).as_millis()));
    assert!((1600..=2400).contains(&list.delay(99, 5).as_millis()));
}

#[test]
fn what_fails_together_spreads_out() {
    let spec = RetrySpec::default();
    let mut seconds = std::collections::HashMap::new();
    for seed in 0..10_000u64 {
        *seconds.entry(spec.delay(3, seed).as_secs()).or_insert(0u32) += 1;
    }
    let mean = 10_000.0 / f64::from(u32::try_from(seconds.len()).unwrap());
    let most = f64::from(*seconds.values().max().unwrap());
    assert!(most <= mean * 3.0, "{most} in one second, {mean} on average");
}

#[test]
fn retry_after_is_read_as_rfc_9110_says() {
    let seconds = |s| Some(Duration::from_secs(s));
    let now = "2026-11-21T03:45:00Z".parse().unwrap();
    for (text, expected) in [
        ("0", seconds(0)),
        ("1", seconds(1)),
        ("120", seconds(120)),
        (" 7 ", seconds(7)),
        ("00060", seconds(60)),
        ("86400", seconds(86_400)),
        ("18446744073709551615", seconds(u64::MAX)),
        ("18446744073709551616", None),
        ("99999999999999999999999999", None),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("5s", None),
        ("5 s", None),
        ("", None),
        (" ", None),
        ("soon", None),
        ("null", None),
        ("NaN", None),
        ("inf", None),
        ("1,2", None),
        ("1;2", None),
        ("٣", None),
        ("Sat, 21 Nov 2026 03:45:00 GMT", None),
        ("Sat, 21 Nov 2026 03:45:01 GMT", seconds(1)),
        ("Sat, 21 Nov 2026 03:44:59 GMT", None),
        ("Sat, 21 Nov 2026 04:45:00 GMT", seconds(3600)),
        ("Sun, 22 Nov 2026 03:45:00 GMT", seconds(86_400)),
        ("Saturday, 21-Nov-26 03:46:00 GMT", seconds(60)),
        ("Sat Nov 21 03:46:00 2026", seconds(60)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Sat, 21 Nov 2026 03:46:00", None),
        ("Sat, 21 Nov 2026 03:46:00 UTC", None),
        ("Sat, 21 Nov 2026 25:00:00 GMT", None),
        ("Sat, 32 Nov 2026 03:46:00 GMT", None),
        ("2026-11-21T03:46:00Z", None),
        ("Sat, 21 Nov 0000 03:46:00 GMT", None),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            Some("9999-12-31T23:59:59Z".parse::<Timestamp>().unwrap().since(now)),
        ),
    ] {
        assert_eq!(retry_after(text, now), expected, "`{text}`");
    }
}

#[test]
fn specs_are_checked_with_pointers() {
    let spec: RetrySpec = serde_json::from_value(serde_json::json!({
        "schedule": { "type": "exponential", "base_seconds": 0, "factor": 0.5, "cap_seconds": 90_000, "attempts": 0 },
        "max_attempts": 0,
        "deadline_seconds": 0,
    }))
    .unwrap();
    let pointers: Vec<_> = spec.validate("/retry").into_iter().map(|v| v.pointer).collect();
    assert_eq!(
        pointers,
        [
            "/retry/schedule/base_seconds",
            "/retry/schedule/factor",
            "/retry/schedule/cap_seconds",
            "/retry/schedule/attempts",
            "/retry/max_attempts",
            "/retry/deadline_seconds",
        ]
    );
    assert!(RetrySpec::default().validate("").is_empty());
    for bad in ["99", "600", "500-499", "5xx", "500-", ""] {
        assert!(bad.parse::<StatusRange>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn jitter_keeps_its_bounds(base in 0u64..86_400_000, random: u64) {
        let base = Duration::from_millis(base);
        let delay = jitter(base, random);
        if base > Duration::from_secs(600) {
            prop_assert!(delay <= base && delay >= base / 11);
        } else {
            prop_assert!(delay <= base * 6 / 5 + Duration::from_millis(1));
            prop_assert!(delay + Duration::from_millis(1) >= base * 4 / 5);
        }
    }

    #[test]
    fn no_retry_comes_after_the_expiry(tries in 1u32..20, ttl in 0u64..400_000, seed: u64, wait in 0u64..200_000) {
        let expires_at = NOW + Duration::from_secs(ttl);
        let past = Past { expires_at: Some(expires_at), seed, ..past(tries) };
        let failure = failure(Hint::Wait(Some(Duration::from_secs(wait))));
        let decision = RetrySpec::default().after_failure(&failure, Some(503), &past);
        if let Next::Retry { due_at, .. } | Next::Refund { due_at, .. } = decision.next {
            prop_assert!(due_at < expires_at && due_at >= NOW);
        }
    }
}
