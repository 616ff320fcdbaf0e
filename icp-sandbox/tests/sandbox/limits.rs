//! Each limit, at what it admits and one beyond.

use icp_core::transform::Plan;
use icp_sandbox::Limits;
use serde_json::{Value, json};

use crate::fixture::{builder, function, outcome, plan, report, run, script};

fn step(language: &str, source: &str) -> Plan {
    let mut step = serde_json::Map::new();
    step.insert(language.to_owned(), json!({ "source": source }));
    plan(Value::from(vec![step]))
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

async fn under(limits: Limits, plan: &Plan, input: &str) -> String {
    outcome(&builder().limits(limits).build().unwrap(), "a", plan, input).await
}

#[tokio::test]
async fn texts_of_programs() {
    let schema = json!({ "const": 1 });
    for (plan, length, of) in [
        (script("return 1"), 8, (|l, n| l.javascript_bytes = n) as fn(&mut Limits, u32)),
        (step("jsonata", "[1,1][0]"), 8, |l, n| l.jsonata_bytes = n),
        (step("jmespath", "to_number('1')"), 14, |l, n| l.jmespath_bytes = n),
        (plan(json!([{ "schema": schema }])), 11, |l, n| l.schema_bytes = n),
    ] {
        assert_eq!(plan.programs().next().unwrap().source().len(), length);
        let length = u32::try_from(length).unwrap();
        assert_eq!(under(limits(|l| of(l, length)), &plan, "1").await, "1");
        assert_eq!(under(limits(|l| of(l, length - 1)), &plan, "1").await, "!compile");
    }
}

#[tokio::test]
async fn payloads() {
    let echo = function("return payload");
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for (admitted, refused, code, of) in [
        (
            "\"12345678\"".to_owned(),
            "\"123456789\"".to_owned(),
            "!input_too_large",
            (|l| l.input_bytes = 10) as fn(&mut Limits),
        ),
        ("\"12345678\"".to_owned(), "\"123456789\"".to_owned(), "!output_too_large", |l| {
            l.output_bytes = 10;
        }),
        (nested(9), nested(10), "!input_too_deep", |l| l.depth = 9),
        (
            r#"{"a":1,"b":{"a":1}}"#.to_owned(),
            r#"{"a":1,"b":{"c":1}}"#.to_owned(),
            "!input_too_many_names",
            |l| l.names = 2,
        ),
    ] {
        assert_eq!(under(limits(of), &echo, &admitted).await, admitted);
        assert_eq!(under(limits(of), &echo, &refused).await, code);
    }
    let deeper = function("return [[payload]]");
    for (input, expected) in [(nested(7), nested(9)), (nested(8), "!output_too_deep".to_owned())] {
        assert_eq!(under(limits(|l| l.depth = 9), &deeper, &input).await, expected);
    }
    for language in ["jmespath", "jsonata"] {
        let larger = step(language, if language == "jsonata" { "[$,$]" } else { "[@,@]" });
        let of = |l: &mut Limits| l.output_bytes = 11;
        assert_eq!(under(limits(of), &larger, "1234").await, "[1234,1234]");
        assert_eq!(under(limits(of), &larger, "12345").await, "!output_too_large");
    }
}

#[tokio::test]
async fn what_an_engine_may_use() {
    let levels = |n: u32| {
        step("jsonata", &format!("($f := function($n) {{ $n = 0 ? 0 : 1 + $f($n - 1) }}; $f({n}))"))
    };
    let frames =
        |n: u32| function(&format!("const f = (n) => n === 0 ? 0 : 1 + f(n - 1); return f({n})"));
    let reactions = |n: u32| script(&format!("for (let i = 0; i < {n}; i++) await 0; return 1"));
    let held = |n: u32| function(&format!("return 'x'.repeat({n}).length"));
    let range = |n: u32| step("jsonata", &format!("$count([1..{n}])"));
    for (fits, expected, beyond, code, of) in [
        (
            held(1 << 20),
            "1048576",
            held(4 << 20),
            "!memory",
            (|l| l.heap_bytes = 3 << 20) as fn(&mut Limits),
        ),
        (frames(20), "20", frames(400), "!stack", |l| l.stack_bytes = 64 << 10),
        (reactions(10), "1", reactions(200), "!never_settled", |l| l.reactions = 100),
        (levels(5), "5", levels(60), "!stack", |l| l.jsonata_depth = 50),
        (range(100), "100", range(101), "!runtime", |l| l.jsonata_sequence = 100),
    ] {
        assert_eq!(under(limits(of), &fits, "{}").await, expected);
        assert_eq!(under(limits(of), &beyond, "{}").await, code);
        // The default is larger.
        let found = under(Limits::default(), &beyond, "{}").await;
        assert!(!found.starts_with('!'), "{code} by default: {found}");
    }
}

#[tokio::test]
async fn the_time_and_the_console() {
    let long = function("for (let i = 0; i < 3e5; i++); return 1");
    let endless = function("for (;;) {}");
    for millis in [20, 300] {
        let strict = builder().limits(limits(|l| l.deadline_ms = millis)).build().unwrap();
        let error = run(&strict, "a", &endless, "{}").await.unwrap_err();
        assert!(error.message.contains(&format!("{millis} ms")), "{error}");
    }
    assert_eq!(under(limits(|l| l.deadline_ms = 1), &long, "{}").await, "!timeout");
    assert_eq!(under(limits(|l| l.deadline_ms = 1_000), &long, "{}").await, "1");
    let hang = function("Array.prototype.reverse.call({ length: 2 ** 53 - 1 })");
    let quick = limits(|l| (l.deadline_ms, l.grace_ms) = (20, 15));
    let error = run(&builder().limits(quick).build().unwrap(), "a", &hang, "{}").await.unwrap_err();
    assert!(error.message.contains("after 35 ms"), "{error}");
    let speaks = function("for (let i = 0; i < 9; i++) console.log('12345'); return 1");
    for (lines, bytes, expected) in [(3, 100, [5, 5, 5].as_slice()), (9, 12, &[5, 5, 2])] {
        let quiet = limits(|l| (l.console_lines, l.console_bytes) = (lines, bytes));
        let sandbox = builder().limits(quiet).build().unwrap();
        let console = report(&sandbox, "a", &speaks, "{}").await.unwrap().console;
        assert_eq!(console.iter().map(String::len).collect::<Vec<_>>(), expected);
    }
}

/// The largest limits are safe for the process: its stack and its memory hold what they promise.
#[tokio::test]
async fn the_largest_limits_hold() {
    let sandbox = builder().limits(Limits::MAX).build().unwrap();
    for (plan, expected) in [
        (function("const f = () => 1 + f(); return f()"), ["!stack", "!timeout"]),
        (
            function("let a = []; for (let i = 0; i < 3e5; i++) a = [a]; return a"),
            ["!stack", "!output_invalid"],
        ),
        (function("const a = []; for (;;) a.push('x'.repeat(1e6))"), ["!memory", "!timeout"]),
        (step("jsonata", "($f := function() { 1 + $f() }; $f())"), ["!stack", "!timeout"]),
        (step("jsonata", &"(".repeat(60_000)), ["!compile", "!stack"]),
        (step("jmespath", &"(".repeat(16_000)), ["!compile", "!stack"]),
    ] {
        let found = outcome(&sandbox, "a", &plan, "{}").await;
        assert!(expected.contains(&&*found), "{expected:?}: {found}");
    }
    let deep = "[".repeat(127) + &"]".repeat(127);
    for plan in [function("return payload"), step("jmespath", "@"), step("jsonata", "$")] {
        assert_eq!(outcome(&sandbox, "a", &plan, &deep).await, deep);
    }
}

/// Programs are saved without limits of their own: those of the host are what counts, also for
/// what was saved when they were higher.
#[tokio::test]
async fn a_lower_limit_holds_for_what_was_saved_before() {
    let saved = function("return 'x'.repeat(2e6).length");
    assert_eq!(under(Limits::default(), &saved, "{}").await, "2000000");
    assert_eq!(under(limits(|l| l.heap_bytes = 1 << 20), &saved, "{}").await, "!memory");
    assert_eq!(under(limits(|l| l.javascript_bytes = 40), &saved, "{}").await, "!compile");
}
