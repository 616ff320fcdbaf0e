//! Workers that lie: nothing they send is trusted, and what they get is little.

use std::time::Duration;

use icp_core::transform::Plan;
use icp_sandbox::Limits;
use serde_json::json;
use tokio::time::timeout;

use crate::fake::{Fake, GOOD, frame, good};
use crate::fixture::{outcome, report, run, script};

/// Limits under which a worker that is silent is soon given up.
fn hasty() -> Limits {
    let mut limits = Limits::default();
    (limits.deadline_ms, limits.grace_ms) = (20, 10);
    limits
}

fn one() -> Plan {
    script("return 1")
}

#[tokio::test]
async fn workers_that_answer_nonsense_are_dropped() {
    let whole = frame(GOOD, "7");
    for (name, script, answer, expected) in [
        ("good", "cat $AT/answer; exec sleep 60", whole.clone(), "7"),
        ("garbage", "cat $AT/answer; exec sleep 60", vec![0xff; 4_096], "!crashed"),
        ("no json", "cat $AT/answer; exec sleep 60", frame("{nonsense", "7"), "!crashed"),
        (
            "oversized body",
            "cat $AT/answer; exec sleep 60",
            frame(GOOD, &"7".repeat(300 << 10)),
            "!crashed",
        ),
        ("truncated", "cat $AT/answer", whole[..whole.len() - 1].to_vec(), "!crashed"),
        ("truncated head", "cat $AT/answer", whole[..20].to_vec(), "!crashed"),
        ("truncated lengths", "cat $AT/answer", whole[..7].to_vec(), "!crashed"),
        (
            "cut, then silent",
            "cat $AT/answer; exec sleep 60",
            whole[..20].to_vec(),
            "!timeout_hard",
        ),
        (
            "oversized head",
            "cat $AT/answer; exec sleep 60",
            frame(&"[".repeat(600 << 10), ""),
            "!crashed",
        ),
        ("empty frames", "cat $AT/answer; exec sleep 60", vec![0; 4_096], "!crashed"),
        ("deep head", "cat $AT/answer; exec sleep 60", frame(&"[".repeat(9_000), ""), "!crashed"),
        (
            "checked",
            "cat $AT/answer; exec sleep 60",
            frame(r#"{"checked":{"number":1,"failures":[]}}"#, ""),
            "!crashed",
        ),
        (
            "a program that is not there",
            "cat $AT/answer; exit 1",
            frame(r#"{"begins":{"number":1,"program":18446744073709551615}}"#, ""),
            "!crashed",
        ),
        (
            "begins for ever",
            "while :; do cat $AT/answer; done",
            frame(r#"{"begins":{"number":1,"program":0}}"#, "").repeat(1_000),
            "!timeout_hard",
        ),
        (
            "speaks for ever",
            "head -c 9000000 /dev/zero >&2; cat $AT/answer",
            whole.clone(),
            "!timeout_hard",
        ),
        (
            "two numbers",
            "cat $AT/answer; exec sleep 60",
            frame(r#"{"done":{"number":1},"failed":{}}"#, "7"),
            "!crashed",
        ),
        ("empty body", "cat $AT/answer; exec sleep 60", frame(GOOD, ""), "!output_invalid"),
        (
            "no text",
            "cat $AT/answer; exec sleep 60",
            [frame(GOOD, "\"xx\""), Vec::new()]
                .concat()
                .iter()
                .map(|byte| if *byte == b'x' { 0xff } else { *byte })
                .collect(),
            "!output_invalid",
        ),
        ("silent end", "exit 0", Vec::new(), "!crashed"),
        ("not json", "cat $AT/answer; exec sleep 60", frame(GOOD, "{\"a\":"), "!output_invalid"),
        (
            "surrogate",
            "cat $AT/answer; exec sleep 60",
            frame(GOOD, r#""\ud800""#),
            "!output_invalid",
        ),
        (
            "too deep",
            "cat $AT/answer; exec sleep 60",
            frame(GOOD, &"[".repeat(200)),
            "!output_too_deep",
        ),
        (
            "unknown code",
            "cat $AT/answer; exec sleep 60",
            frame(
                r#"{"failed":{"number":1,"failure":{"code":"delivered","message":"x","pointer":null,"origin":null}}}"#,
                "",
            ),
            "!crashed",
        ),
        ("ready again", "cat $AT/ready; exec sleep 60", Vec::new(), "!crashed"),
        ("another number", "cat $AT/answer; exec sleep 60", frame(&good(9), "7"), "!crashed"),
        (
            "no memory",
            "echo 'memory allocation of 9 bytes failed' >&2; exit 134",
            Vec::new(),
            "!memory",
        ),
        (
            "no stack",
            "echo 'thread x has overflowed its stack' >&2; exit 134",
            Vec::new(),
            "!stack",
        ),
        ("never answers", "exec sleep 60", Vec::new(), "!timeout_hard"),
        ("never reads", "exec sleep 60", Vec::new(), "!timeout_hard"),
    ] {
        let fake = Fake::new(script, &answer);
        let sandbox = fake.builder().limits(hasty()).build().unwrap();
        // More than a pipe holds, where nobody reads.
        let size = if name == "never reads" { 200 << 10 } else { 1 };
        let input = format!("\"{}\"", "x".repeat(size));
        let found = timeout(Duration::from_secs(30), outcome(&sandbox, "a", &one(), &input)).await;
        assert_eq!(found.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn an_answer_too_many_is_not_taken_for_the_next() {
    let twice = [frame(GOOD, "1"), frame(GOOD, "2")].concat();
    let fake = Fake::new("cat $AT/answer; exec sleep 60", &twice);
    let sandbox = fake.sandbox();
    assert_eq!(outcome(&sandbox, "a", &one(), "{}").await, "1");
    // The rest of the first worker would answer with the second; a fresh one answers instead.
    assert_eq!(outcome(&sandbox, "a", &one(), "{}").await, "1");
}

#[tokio::test]
async fn workers_get_no_environment() {
    let fake = Fake::new("env > $AT/env; cat $AT/answer; exec sleep 60", &frame(GOOD, "1"));
    assert_eq!(outcome(&fake.sandbox(), "a", &one(), "{}").await, "1");
    let told = fake.told("env");
    // The shell adds these by itself.
    let own = ["PWD=", "OLDPWD=", "SHLVL=", "_="];
    let kept = |line: &&str| !own.iter().any(|own| line.starts_with(own));
    let mut found: Vec<_> = told.lines().filter(kept).collect();
    found.sort_unstable();
    assert_eq!(found, ["MALLOC_ARENA_MAX=1", "TZ=UTC0"]);
    assert!(told.contains("PWD=/\n"), "{told}");
}

#[tokio::test]
async fn what_a_worker_tells_is_cut() {
    let long = |n: usize| "x".repeat(n);
    let notes = json!({
        "warnings": vec![long(2_000); 80], "console": vec![long(1_000); 99], "cpu_micros": u64::MAX,
    });
    let done = json!({ "done": { "number": 1, "dropped": null, "notes": notes } });
    let fake = Fake::new("cat $AT/answer; exec sleep 60", &frame(&done.to_string(), "7"));
    let found = report(&fake.sandbox(), "a", &one(), "{}").await.unwrap();
    assert_eq!((found.warnings.len(), found.warnings[0].len()), (50, 1_024));
    assert_eq!((found.console.len(), found.console.concat().len()), (50, 8 << 10));
    let notes = json!({ "warnings": [], "console": [], "cpu_micros": 1 });
    let done = json!({ "done": { "number": 1, "dropped": long(9_000), "notes": notes } });
    let fake = Fake::new("cat $AT/answer; exec sleep 60", &frame(&done.to_string(), ""));
    let reason = outcome(&fake.sandbox(), "a", &one(), "{}").await;
    assert_eq!(reason.len(), "dropped: ".len() + 256);
    let failed = json!({ "failed": { "number": 1, "failure": {
        "code": "runtime", "message": long(100_000), "pointer": long(100_000), "origin": {
            "at": { "line": u32::MAX, "column": u32::MAX }, "excerpt": long(100_000), "frames": [],
            "violations": [], "console": vec![long(1_000); 99],
        },
    } } });
    let fake = Fake::new("cat $AT/answer; exec sleep 60", &frame(&failed.to_string(), ""));
    let error = run(&fake.sandbox(), "a", &one(), "{}").await.unwrap_err();
    assert_eq!((error.code, error.message.len()), ("runtime", 1_024));
    assert_eq!(error.pointer.unwrap().len(), 1_024);
    let origin = error.origin.unwrap();
    assert_eq!((origin.excerpt.unwrap().len(), origin.console.concat().len()), (256, 8 << 10));
}

#[tokio::test]
async fn workers_that_never_become_ready_are_started_once_for_a_call() {
    for (name, script) in [
        ("ends", "echo x >> $AT/starts; exit 0"),
        ("fails", "echo x >> $AT/starts; exit 71"),
        ("garbage", "echo x >> $AT/starts; cat $AT/answer; exec sleep 60"),
        ("kills itself", "echo x >> $AT/starts; kill -9 $$"),
    ] {
        let fake = Fake::raw(script, &frame(GOOD, "7"));
        let sandbox = fake.sandbox();
        for _ in 0..5 {
            let error = run(&sandbox, "a", &one(), "{}").await.unwrap_err();
            assert_eq!((error.code, error.retryable), ("unavailable", true), "{name}");
        }
        assert_eq!(fake.told("starts").lines().count(), 5, "{name}");
    }
}

#[tokio::test]
async fn a_storm_of_new_workers_is_broken() {
    let fake = Fake::new("echo x >> $AT/starts; exit 0", &[]);
    let sandbox = fake.sandbox();
    let mut found = Vec::new();
    for _ in 0..20 {
        found.push(outcome(&sandbox, "a", &one(), "{}").await);
    }
    let crashed = found.iter().filter(|found| *found == "!crashed").count();
    let suspended = found.iter().filter(|found| *found == "!suspended").count();
    assert_eq!((crashed, suspended), (5, 15));
    assert_eq!(fake.told("starts").lines().count(), 5);
}
