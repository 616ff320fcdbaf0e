//! What one call leaves behind for the next: nothing.

use icp_core::transform::Transformer;
use serde_json::Value;

use crate::fixture::{function, outcome, plan, run, sandbox, script};

/// What one program does, and what a later one asks for; the answer must be `false`.
const LEAKS: &[(&str, &str, &str)] = &[
    ("global", "globalThis.leak = 1", "return 'leak' in globalThis"),
    (
        "undeclared global",
        "(0, function () { return this })(); globalThis.x1 = 1",
        "return 'x1' in globalThis",
    ),
    ("Object.prototype", "Object.prototype.leak = 1", "return 'leak' in {}"),
    (
        "Array.prototype.map",
        "Array.prototype.map = () => 'leak'",
        "return [1].map((x) => x) === 'leak'",
    ),
    (
        "RegExp.prototype.exec",
        "RegExp.prototype.exec = () => { throw 1 }",
        "try { /a/.test('a'); return false } catch { return true }",
    ),
    ("Symbol.for", "globalThis[Symbol.for('s')] = 1", "return globalThis[Symbol.for('s')] === 1"),
    (
        "generator prototype",
        "Object.getPrototypeOf(function* () {}).leak = 1",
        "return 'leak' in Object.getPrototypeOf(function* () {})",
    ),
    (
        "array iterator",
        "Object.getPrototypeOf([][Symbol.iterator]()).next = () => ({ done: true })",
        "return [...[1]].length === 0",
    ),
    (
        "Error.prepareStackTrace",
        "Error.prepareStackTrace = () => 'leak'",
        "return new Error().stack === 'leak'",
    ),
    ("Error.stackTraceLimit", "Error.stackTraceLimit = 0", "return new Error().stack === ''"),
    (
        "left-over microtask",
        "(async () => { for (let i = 0; i < 5000; i++) await 0; globalThis.late = 1 })()",
        "await null; return 'late' in globalThis",
    ),
    (
        "Promise.prototype.then",
        "Promise.prototype.then = () => { throw 1 }",
        "return Promise.prototype.then.toString().includes('throw')",
    ),
    ("JSON", "JSON.stringify = () => 'leak'", "return JSON.stringify(1) === 'leak'"),
    (
        "context",
        "try { context.leak = 1 } catch {} try { context.event.id = 2 } catch {}",
        "return 'leak' in context || context.event.id === 2",
    ),
    ("console", "try { console.log = 1 } catch {}", "return typeof console.log !== 'function'"),
    ("top-level let", "let leak = 1", "return typeof leak !== 'undefined'"),
    ("transform", "globalThis.transform = () => 'leak'", "return typeof transform !== 'undefined'"),
    (
        "Function.prototype.call",
        "Function.prototype.call = () => 'leak'",
        "return (() => 1).call() === 'leak'",
    ),
    (
        "iterator prototype",
        "Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())).leak = 1",
        "return 'leak' in [][Symbol.iterator]()",
    ),
    (
        "asynchronous generator prototype",
        "Object.getPrototypeOf(async function* () {}).leak = 1",
        "return 'leak' in Object.getPrototypeOf(async function* () {})",
    ),
    (
        "Array.prototype setter",
        "Object.defineProperty(Array.prototype, 0, { set() { throw 1 }, get() { return 'leak' } })",
        "return [][0] === 'leak'",
    ),
    (
        "Object.prototype.toJSON",
        "Object.prototype.toJSON = () => 'leak'",
        "return JSON.stringify({}) !== '{}'",
    ),
    (
        "Date and Math",
        "Date.now = Math.random = () => 'leak'",
        "return Date.now() === 'leak' || Math.random() === 'leak'",
    ),
    (
        "a full heap",
        "const a = []; for (;;) a.push({})",
        "return new Array(1000).fill(1).length !== 1000",
    ),
    (
        "a killed worker",
        "globalThis.leak = 1; Array.prototype.reverse.call({ length: 2 ** 53 - 1 })",
        "return 'leak' in globalThis",
    ),
    ("own state", "globalThis.count = (globalThis.count ?? 0) + 1", "return globalThis.count > 0"),
];

#[tokio::test]
async fn nothing_leaks_within_or_between_organizations() {
    let sandbox = sandbox();
    for (name, first, second) in LEAKS {
        let first = script(&format!("{first}\nreturn 1"));
        let second = script(second);
        let mut begun = String::new();
        for (one, other) in [("a", "b"), ("a", "a")] {
            begun = outcome(&sandbox, one, &first, "{}").await;
            let found = outcome(&sandbox, other, &second, "{}").await;
            assert_eq!(found, "false", "{name}, {one} to {other}");
        }
        // The same in one plan: steps share a worker and a payload, no more.
        let both = |a: &str, b: &str| serde_json::json!([{ "javascript": { "source": a } }, { "javascript": { "source": b } }]);
        let sources: Vec<_> = [&first, &second]
            .iter()
            .map(|plan| plan.programs().next().unwrap().source().to_owned())
            .collect();
        let both = plan(both(&sources[0], &sources[1]));
        // Where the first fails there is no second.
        let expected = if begun.starts_with('!') { &*begun } else { "false" };
        assert_eq!(outcome(&sandbox, "a", &both, "{}").await, expected, "{name}");
    }
}

#[tokio::test]
async fn expressions_leave_nothing_behind() {
    let sandbox = sandbox();
    for (language, first, second, expected) in [
        ("jsonata", "($leak := 7; $leak)", "$leak", "!no_result"),
        ("jsonata", "($sum := function($x) { 'leak' }; $sum(1))", "$sum([1, 2])", "3"),
        ("jsonata", "($random := function() { 'leak' }; $random())", "$random() < 1", "true"),
        ("jsonata", "$ ~> |$|{'leak': 1}|", "leak", "!no_result"),
        ("jmespath", "let $leak = `7` in $leak", "$leak", "!runtime"),
    ] {
        let of = |source: &str| {
            let mut step = serde_json::Map::new();
            step.insert(language.to_owned(), serde_json::json!({ "source": source }));
            plan(Value::from(vec![step]))
        };
        for (one, other) in [("a", "b"), ("a", "a")] {
            let begun = outcome(&sandbox, one, &of(first), "{}").await;
            assert!(!begun.starts_with('!'), "{first}: {begun}");
            assert_eq!(outcome(&sandbox, other, &of(second), "{}").await, expected, "{first}");
        }
    }
}

#[tokio::test]
async fn the_same_event_sees_the_same_time_and_chance() {
    let sandbox = sandbox();
    let source = "return [Date.now(), new Date(), Date().slice(0, 33), +new Date(2020, 0, 1), \
                  new Date().getTimezoneOffset(), Math.random(), Math.random(), new Date().constructor === Date, \
                  new Date() instanceof Date, Date.UTC(2020, 0), new Date(0).toISOString()]";
    let first = run(&sandbox, "a", &script(source), "{}").await.unwrap();
    assert_eq!(first, run(&sandbox, "b", &script(source), "{}").await.unwrap());
    let values: Vec<Value> = serde_json::from_str(&first).unwrap();
    assert_eq!(values[0], 1_795_232_700_123_i64);
    assert_eq!(values[1], "2026-11-21T03:45:00.123Z");
    assert_eq!(values[2], "Sat Nov 21 2026 03:45:00 GMT+0000");
    assert_eq!(values[3], 1_577_836_800_000_i64);
    assert_eq!(values[4], 0);
    assert_ne!(values[5], values[6]);
    assert_eq!(
        values[7..],
        [true.into(), true.into(), 1_577_836_800_000_i64.into(), "1970-01-01T00:00:00.000Z".into()]
            as [Value; 4]
    );
    for source in ["$random()", "$shuffle([1..50])", "$now()"] {
        let expression = plan(serde_json::json!([{ "jsonata": { "source": source } }]));
        let first = run(&sandbox, "a", &expression, "{}").await.unwrap();
        assert_eq!(first, run(&sandbox, "b", &expression, "{}").await.unwrap(), "{source}");
    }
}

#[tokio::test]
async fn the_globals_are_these_and_no_others() {
    let source = "return Object.getOwnPropertyNames(globalThis).sort().join(' ')";
    let found = run(&sandbox(), "a", &script(source), "{}").await.unwrap();
    assert_eq!(
        found,
        "\"AggregateError Array AsyncDisposableStack BigInt Boolean Date DisposableStack Error EvalError Function Infinity Iterator JSON Map \
         Math NaN Number Object Promise RangeError ReferenceError Reflect RegExp Set String \
         SuppressedError Symbol SyntaxError TypeError URIError WeakMap WeakSet console decodeURI \
         decodeURIComponent encodeURI encodeURIComponent globalThis isFinite isNaN parseFloat \
         parseInt undefined\""
    );
}

#[tokio::test]
async fn no_text_becomes_code() {
    let sandbox = sandbox();
    for source in [
        "return eval('1')",
        "return (0, eval)('1')",
        "return globalThis.eval('1')",
        "return Function('return 1')()",
        "return new Function('return 1')()",
        "return (() => 1).constructor('return 1')()",
        "return (function () {}).constructor('return 1')()",
        "return (function* () {}).constructor('yield 1')().next()",
        "return (async () => 1).constructor('return 1')()",
        "return (async function* () {}).constructor('yield 1')().next()",
        "return Object.getPrototypeOf(async () => 1).constructor('return 1')()",
        "return [].map.constructor('return 1')()",
        "return Reflect.construct(Function, ['return 1'])()",
        "return Reflect.construct(Object.getPrototypeOf(function* () {}).constructor, ['yield 1'])()",
        "class F extends Function {} return new F('return 1')()",
        "return context.drop.constructor('return 1')()",
        "return context.base64.encode.constructor('return 1')()",
        "return console.log.constructor('return 1')()",
        "return Date.constructor('return 1')()",
        "return Math.random.constructor('return 1')()",
        "return Function.prototype.constructor('return 1')()",
        "return await import('x')",
        "return setTimeout('1')",
        "return Object.getOwnPropertyDescriptor(Object.getPrototypeOf(() => 1), 'constructor').value('return 1')()",
    ] {
        assert_eq!(outcome(&sandbox, "a", &script(source), "{}").await, "!runtime", "{source}");
    }
    assert_eq!(
        outcome(&sandbox, "a", &script("return (() => 1) instanceof Function"), "{}").await,
        "true"
    );
}

#[tokio::test]
async fn values_go_in_and_out_as_json_says() {
    let sandbox = sandbox();
    for (body, input, expected) in [
        ("return 1n", "{}", "!output_invalid"),
        ("return [NaN, Infinity, -Infinity, -0]", "{}", "[null,null,null,0]"),
        ("return [undefined, () => 1, Symbol('x')]", "{}", "[null,null,null]"),
        ("return { a: undefined, b: () => 1 }", "{}", "{}"),
        ("const a = {}; a.a = a; return a", "{}", "!output_invalid"),
        ("return new Date(0)", "{}", r#""1970-01-01T00:00:00.000Z""#),
        ("return [new Map([[1, 2]]), new Set([1]), /x/g]", "{}", "[{},{},{}]"),
        ("return [1, , 3]", "{}", "[1,null,3]"),
        ("const a = []; a[5] = 1; return a", "{}", "[null,null,null,null,null,1]"),
        ("return '\\ud800'", "{}", "!output_invalid"),
        ("return { '\\udc00': 1 }", "{}", "!output_invalid"),
        ("return '\\u{1f600}'", "{}", "\"\u{1f600}\""),
        ("return 'a\\0b'", "{}", r#""a\u0000b""#),
        ("return payload.length", r#""a\u0000b""#, "3"),
        (
            "return payload",
            r#"{"__proto__":{"admin":true},"constructor":1}"#,
            r#"{"__proto__":{"admin":true},"constructor":1}"#,
        ),
        (
            "return [payload.admin, Object.keys(payload)]",
            r#"{"__proto__":{"admin":true}}"#,
            r#"[null,["__proto__"]]"#,
        ),
        ("return payload", r#"{"b":1,"2":2,"a":3,"1":4}"#, r#"{"1":4,"2":2,"b":1,"a":3}"#),
        ("return payload", r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        ("return payload", "9007199254740991", "9007199254740991"),
        ("return payload", "9007199254740993", "9007199254740992"),
        ("return payload", "1.0", "1"),
        ("return payload", "1e21", "1e+21"),
        ("return new String('x')", "{}", "\"x\""),
        ("return new Error('x')", "{}", "{}"),
        ("return { toJSON: () => 7 }", "{}", "7"),
        ("throw null", "{}", "!memory"),
        ("throw undefined", "{}", "!runtime"),
    ] {
        let found = outcome(&sandbox, "a", &function(body), input).await;
        assert_eq!(found, expected, "{body} of {input}");
    }
}

#[tokio::test]
async fn the_explicit_choice_of_one_process_answers_alike() {
    let own = icp_sandbox::InProcess::start(icp_sandbox::Limits::default()).unwrap();
    let sandbox = sandbox();
    for (plan, input) in [
        (script("return payload.a + 1"), r#"{"a":1}"#),
        (script("return context.drop('x')"), "{}"),
        (script("throw new Error('x')"), "{}"),
        (script("for (;;) {}"), "{}"),
        (script("return ("), "{}"),
        (plan(serde_json::json!([{ "jmespath": { "source": "a" } }, { "map": {} }])), r#"{"a":1}"#),
        (plan(serde_json::json!([{ "schema": { "type": "string" } }])), "1"),
    ] {
        let expected = outcome(&sandbox, "a", &plan, input).await;
        assert_eq!(outcome(&own, "a", &plan, input).await, expected);
        let org = crate::fixture::org("a");
        assert_eq!(own.check(&plan, &org).await, sandbox.check(&plan, &org).await);
    }
}
