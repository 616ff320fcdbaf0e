//! Programs that mean harm: each ends with a code within bounds, and nobody else notices.

use std::time::Duration;

use icp_core::transform::Plan;
use icp_sandbox::Sandbox;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::fixture::{function, outcome, plan, run, sandbox};

/// Far beyond what a machine that is idle needs: these run beside other builds and tests.
const BOUND: Duration = Duration::from_secs(10);

/// Runs a hostile plan, then a good one of another organization.
async fn meet(sandbox: &Sandbox, name: &str, plan: &Plan, input: &str, codes: &[&str]) {
    let began = Instant::now();
    let found = timeout(BOUND, outcome(sandbox, "villain", plan, input)).await;
    let took = began.elapsed();
    let found = found.unwrap_or_else(|_| panic!("{name} did not end within {BOUND:?}"));
    assert!(codes.contains(&found.get(..40).unwrap_or(&found)), "{name}: {found:.80} in {took:?}");
    let good = function("return payload.n + 1");
    assert_eq!(outcome(sandbox, "neighbour", &good, r#"{"n":1}"#).await, "2", "after {name}");
}

async fn meet_all(codes: &[&str], bodies: &[(&str, &str)]) {
    // Not one sandbox for all: a program that kept killing workers would be suspended in time.
    for (name, body) in bodies {
        meet(&sandbox(), name, &function(body), "{}", codes).await;
    }
}

#[tokio::test]
async fn loops_are_stopped() {
    meet_all(
        &["!timeout", "!timeout_hard"],
        &[
            ("loop", "for (;;) {}"),
            ("finally", "for (;;) { try { for (;;) {} } finally { continue } }"),
            ("caught", "for (;;) { try { throw 1 } catch { } }"),
            ("generator", "function* g() { for (;;) yield 1 } for (const x of g()) {}"),
            ("getter", "const o = { get a() { return this.a2 } , get a2() { for (;;) {} } }; o.a"),
            ("iterator", "const i = { [Symbol.iterator]: () => ({ next: () => ({ done: false }) }) }; for (const x of i) {}"),
            ("set grows", "const s = new Set([0]); for (const x of s) { s.delete(x); s.add(x + 1) }"),
            ("toString", "`${ { toString() { for (;;) {} } } }`"),
            ("result getter", "return { get a() { for (;;) {} } }"),
            ("toJSON", "return { toJSON() { for (;;) {} } }"),
            ("backtracking", "return /^(a+)+$/.test('a'.repeat(40) + '!')"),
            ("backreference", r"return /^(a*)*\1$/.test('a'.repeat(40) + '!')"),
            ("quadratic regex", "return 'a'.repeat(3e5).replace(/a*b/g, '').length"),
            ("lookahead", "return /(?=(a+))+b/.test('a'.repeat(2e5)) || /(a|a)*b/.test('a'.repeat(60))"),
        ],
    )
    .await;
}

#[tokio::test]
async fn floods_of_reactions_are_stopped() {
    meet_all(
        &["!never_settled", "!timeout", "!timeout_hard", "!memory"],
        &[
            ("microtasks", "const f = () => Promise.resolve().then(f); return f()"),
            ("fan out", "const f = () => { for (let i = 0; i < 100; i++) Promise.resolve().then(f) }; f(); return new Promise(() => {})"),
            ("never", "return new Promise(() => {})"),
("await loop", "return (async () => { for (;;) await null; })()"),
            ("thenable", "const t = { then(r) { r(t) } }; return t"),
        ],
    )
    .await;
}

#[tokio::test]
async fn natives_that_never_look_up_are_killed() {
    meet_all(
        &["!timeout_hard", "!timeout", "!memory", "!crashed", "!runtime", "!output_invalid"],
        &[
            ("reverse", "Array.prototype.reverse.call({ length: 2 ** 53 - 1 })"),
            ("copyWithin", "Array.prototype.copyWithin.call({ length: 2 ** 53 - 1 }, 1, 0)"),
            ("shift", "Array.prototype.shift.call({ length: 2 ** 53 - 1 })"),
            ("unshift", "Array.prototype.unshift.call({ length: 2 ** 53 - 2 }, 1)"),
            ("splice", "Array.prototype.splice.call({ length: 2 ** 53 - 2 }, 0, 1)"),
            ("slice", "Array.prototype.slice.call({ length: 2 ** 32 - 1 })"),
            ("concat", "const a = []; a.length = 2 ** 32 - 1; [].concat(a)"),
            ("join", "Array.prototype.join.call({ length: 2 ** 53 - 1 })"),
            ("sort", "Array.prototype.sort.call({ length: 2 ** 53 - 1 })"),
            ("flat", "const a = []; a.length = 2 ** 32 - 1; a.flat()"),
            ("to string", "return new Array(1e9) + ''"),
            ("includes", "return 'a'.repeat(4e6).includes('a'.repeat(2e6) + 'b')"),
            ("indexOf", "return 'a'.repeat(4e6).indexOf('a'.repeat(2e6) + 'b')"),
            ("split", "return 'a'.repeat(4e6).split('a'.repeat(2e6) + 'b').length"),
            ("encode", "let s = '%'; for (let i = 0; i < 99; i++) s = encodeURIComponent(s + s)"),
            ("localeCompare", "const a = 'e\\u0301'.repeat(1e6); for (let i = 0; i < 1e5; i++) a.localeCompare(a + i)"),
            ("stringify sparse", "const a = []; a.length = 2 ** 32 - 1; return a"),
            ("stringify shared", "let a = []; for (let i = 0; i < 40; i++) a = [a, a]; return a"),
            ("big divide", "return String((1n << 1000000n) ** 3n / 7n).length"),
            ("big to string", "let b = 1n << 4000000n; return String(b).length"),
            ("class of 30,000", "const s = Array.from({ length: 30000 }, (_, i) => String.fromCodePoint(0x4e00 + i % 20000)).join(''); for (;;) new RegExp('[' + s + ']', 'ui')"),
            ("replaceAll", "return 'a'.repeat(1e6).replaceAll('a', 'b'.repeat(1000)).length"),
        ],
    )
    .await;
}

#[tokio::test]
async fn memory_and_stack_end() {
    meet_all(
        &["!memory", "!crashed", "!timeout", "!timeout_hard", "!stack", "!runtime", "!output_invalid"],
        &[
            ("array", "const a = []; for (;;) a.push(new Array(1000).fill(1))"),
            ("string", "let s = 'x'; for (;;) s += s"),
            ("repeat", "const a = []; for (;;) a.push('x'.repeat(1e6))"),
            ("objects", "const a = []; for (;;) a.push({ a: {}, b: [] })"),
            ("closures", "let f = () => 0; for (;;) { const g = f; f = () => g }"),
            ("symbols", "const a = []; for (let i = 0; ; i++) a.push(Symbol('s' + i))"),
            ("atoms", "const o = {}; for (let i = 0; ; i++) o['key' + i] = i"),
            ("map", "const m = new Map(); for (let i = 0; ; i++) m.set(i, {})"),
            ("errors", "const a = []; for (;;) { try { null.x } catch (e) { a.push(e) } }"),
            ("cycles", "let a = {}; for (;;) { a = { a }; a.self = a }"),
            ("linked list", "let l = null; for (;;) l = { l }"),
            ("full heap, caught", "const a = []; for (;;) { try { for (;;) a.push({}) } catch { } }"),
            ("bind at the limit", "const a = []; try { for (;;) a.push(new Array(64).fill({})) } catch { } const f = function () {}; const many = new Array(40000).fill(1); for (;;) { try { a.push(f.bind.apply(f, many)) } catch { } }"),
            ("recursion", "const f = () => 1 + f(); return f()"),
            ("mutual", "const f = () => g() + 1, g = () => f() + 1; return f()"),
            ("toJSON recursion", "const o = { toJSON() { return { o } } }; return o"),
            ("deep value", "let a = []; for (let i = 0; i < 1e6; i++) a = [a]; return a"),
            ("bind chain", "let f = () => 1; for (let i = 0; i < 1e6; i++) f = f.bind(); return f()"),
            ("parens", "return JSON.parse('['.repeat(1e6))"),
            ("promise chain", "let p = Promise.resolve(); for (;;) p = p.then(() => 1)"),
            ("regex parens", "return new RegExp('('.repeat(1e6))"),
        ],
    )
    .await;
}

#[tokio::test]
async fn errors_as_weapons() {
    let codes = &["!runtime", "!timeout", "!timeout_hard", "!memory"];
    let cases = [
        ("long message", "throw new Error('x'.repeat(5e6))"),
        (
            "throwing message",
            "const e = new Error(); Object.defineProperty(e, 'message', { get() { throw e } }); throw e",
        ),
        (
            "looping name",
            "const e = new Error(); Object.defineProperty(e, 'name', { get() { for (;;) {} } }); throw e",
        ),
        (
            "looping stack",
            "const e = new Error(); Object.defineProperty(e, 'stack', { get() { for (;;) {} } }); throw e",
        ),
        (
            "stack of many lines",
            "const e = new Error(); e.stack = '    at x (transform.js:1:1)\\n'.repeat(1e5); throw e",
        ),
        ("thrown cycle", "const o = {}; o.o = o; throw o"),
        ("thrown toJSON", "throw { toJSON() { for (;;) {} } }"),
        (
            "prepareStackTrace",
            "Error.prepareStackTrace = () => { for (;;) {} }; throw new Error('x')",
        ),
        ("stackTraceLimit", "Error.stackTraceLimit = 1e9; throw new Error('x')"),
        ("thrown symbol", "throw Symbol('x')"),
        ("thrown function", "throw () => 1"),
    ];
    meet_all(codes, &cases).await;
    let sandbox = sandbox();
    for (name, body) in cases {
        let error = run(&sandbox, "villain", &function(body), "{}").await.unwrap_err();
        assert!(error.message.len() <= 1_024, "{name}");
        if let Some(origin) = error.origin {
            assert!(origin.frames.len() <= 10, "{name}");
            assert!(origin.excerpt.unwrap_or_default().len() <= 256, "{name}");
        }
    }
}

#[tokio::test]
async fn programs_that_cannot_be_compiled_end_as_well() {
    let codes = &["!compile", "!stack", "!timeout", "!timeout_hard", "!memory", "!crashed"];
    for (name, source) in [
        ("parens", "(".repeat(60_000)),
        ("blocks", "{".repeat(60_000)),
        ("templates", "`${".repeat(20_000)),
        ("arrays", "[".repeat(60_000)),
        ("unary", format!("return {}1", "- ".repeat(30_000))),
        ("class", format!("return /[{}/ui.test('')", "\u{4e00}".repeat(20_000))),
        ("nul", "return '\0'".to_owned()),
        ("import", "import 'x'".to_owned()),
    ] {
        let plan = plan(json!([{ "javascript": { "source": source } }]));
        meet(&sandbox(), name, &plan, "{}", codes).await;
    }
}

#[tokio::test]
async fn names_that_collide_are_bounded() {
    // Distinct names beyond the limit never reach an engine; those within it cost little.
    let names: Vec<String> =
        (0..4_000).map(|n| format!("\"{:04x}\":{n}", n * 16_384 % 65_521)).collect();
    let input = format!("{{{}}}", names.join(","));
    let count = function("return Object.keys(payload).length");
    assert_eq!(outcome(&sandbox(), "villain", &count, &input).await, "4000");
}

#[tokio::test]
async fn jmespath_expressions_end() {
    let codes = &[
        "!compile",
        "!runtime",
        "!crashed",
        "!memory",
        "!stack",
        "!timeout_hard",
        "!output_too_large",
    ];
    let doubled = |times: usize| format!("@ {}", "| [@,@] ".repeat(times));
    for (name, source) in [
        ("parens", "(".repeat(8_000)),
        ("lists", "[".repeat(8_000)),
        ("dots", format!("a{}", ".a".repeat(4_000))),
        ("not_null", format!("{}@{}", "not_null(".repeat(800), ")".repeat(800))),
        ("doubling", doubled(26)),
        ("joining", format!("@ {}", "| join('',[@,@]) ".repeat(28))),
    ] {
        let plan = plan(json!([{ "jmespath": { "source": source } }]));
        let codes = match name {
            // Long, and harmless where it parses.
            "dots" | "not_null" => &[codes.as_slice(), &["null", "\"xxxxxxxx\""]].concat(),
            _ => &codes.to_vec(),
        };
        meet(&sandbox(), name, &plan, "\"xxxxxxxx\"", codes).await;
    }
}

#[tokio::test]
async fn jsonata_expressions_end() {
    let codes = &[
        "!compile",
        "!runtime",
        "!crashed",
        "!memory",
        "!stack",
        "!timeout",
        "!timeout_hard",
        "!output_too_large",
        "!output_too_deep",
        // Matching takes linear time here, and finds nothing.
        "!no_result",
    ];
    for (name, source) in [
        ("pad", "$pad('x', 2000000000)".to_owned()),
        ("replace", "($f := function($s, $n) { $n = 0 ? $s : $f($replace($s, 'x', 'xxxxxxxxxx'), $n - 1) }; $f('x', 12))".to_owned()),
        ("shared", "($f := function($v, $n) { $n = 0 ? $v : $f([$v, $v], $n - 1) }; $string($f([[1]], 40)))".to_owned()),
        ("shared result", "($f := function($v, $n) { $n = 0 ? $v : $f({'a': $v, 'b': $v}, $n - 1) }; $f(1, 40))".to_owned()),
        ("recursion", "($f := function() { 1 + $f() }; $f())".to_owned()),
        ("tail loop", "($f := function() { $f() }; $f())".to_owned()),
        ("range", "[1..10000000]".to_owned()),
        ("split", "$count($split($pad('x', 5000000), ''))".to_owned()),
        ("parens", "(".repeat(10_000)),
        ("arrays", "[".repeat(10_000)),
        ("regex", "$match($pad('a', 100000, 'a'), /(a*)*b/)".to_owned()),
    ] {
        let plan = plan(json!([{ "jsonata": { "source": source } }]));
        meet(&sandbox(), name, &plan, "{}", codes.as_slice()).await;
    }
}

#[tokio::test]
async fn schemas_end() {
    let codes = &["!compile", "!schema_invalid", "!timeout_hard", "!crashed", "!memory", "!stack"];
    let double = |word: &str| {
        let mut defs = json!({ "d0": { "type": "string" } });
        for level in 1..26 {
            let below = json!({ "$ref": format!("#/$defs/d{}", level - 1) });
            defs[format!("d{level}")] = json!({ word: [below.clone(), below] });
        }
        json!({ "$defs": defs, "$ref": "#/$defs/d25" })
    };
    let deep = "[".repeat(60) + &"]".repeat(60);
    let many = json!((0..5_000).map(|n| format!("v{n}")).collect::<Vec<_>>()).to_string();
    let choice: Vec<_> = (0..4_000).map(|n| json!(format!("w{n}"))).collect();
    for (name, schema, input) in [
        ("allOf", double("allOf"), "{}"),
        ("anyOf", double("anyOf"), "{}"),
        (
            "recursive anyOf",
            json!({ "type": "array", "anyOf": [{ "items": { "$ref": "#" }, "minItems": 9 }, { "items": { "$ref": "#" }, "maxItems": 0 }] }),
            &*deep,
        ),
        ("enum", json!({ "items": { "enum": choice } }), &*many),
        ("pattern", json!({ "pattern": "((a{1000}){1000}){1000}" }), "\"a\""),
        ("lookaround", json!({ "pattern": "(?=a)b" }), "\"a\""),
        ("unknown draft", json!({ "$schema": "https://example.com/s" }), "{}"),
        ("bad type", json!({ "type": "strange" }), "{}"),
    ] {
        meet(&sandbox(), name, &plan(json!([{ "schema": schema }])), input, codes).await;
    }
}

#[tokio::test]
async fn no_reference_leads_anywhere() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = sandbox();
    for reference in [
        format!("http://127.0.0.1:{port}/s"),
        format!("https://127.0.0.1:{port}/s"),
        "file:///etc/hostname".to_owned(),
        "other.json".to_owned(),
    ] {
        for schema in [
            json!({ "$ref": reference }),
            json!({ "$id": reference, "$ref": "x" }),
            json!({ "$schema": reference }),
        ] {
            let plan = plan(json!([{ "schema": schema }]));
            assert_eq!(outcome(&sandbox, "villain", &plan, "{}").await, "!compile", "{schema}");
        }
    }
    let seen = timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(seen.is_err(), "somebody asked for a schema");
}

#[tokio::test]
async fn ordinary_scripts_survive_any_memory_limit() {
    let bodies = [
        "return payload.lines.map((line) => ({ ...line, total: line.n * 2 }))",
        "const m = new Map(payload.lines.map((l) => [l.sku, l])); return [...m.values()].sort((a, b) => b.n - a.n)",
        "return (async () => { const all = await Promise.all(payload.lines.map(async (l) => l.n)); return all })()",
        "const add = function (a, b) { return this.n + a + b }; return payload.lines.map((l) => add.bind(l, 1)(2))",
        "return JSON.parse(JSON.stringify(payload)).lines.map((l) => l.sku.replace(/[a-z]/g, (c) => c.toUpperCase()))",
        "class Line { constructor(l) { Object.assign(this, l) } get total() { return this.n } } return payload.lines.map((l) => new Line(l).total)",
    ];
    let lines: Vec<_> = (0..20).map(|n| json!({ "sku": format!("s{n}"), "n": n })).collect();
    let input = json!({ "lines": lines }).to_string();
    for step in 0..24_u32 {
        let mut limits = icp_sandbox::Limits::default();
        limits.heap_bytes = 40_000 + step * 6_000;
        let sandbox = crate::fixture::builder().limits(limits).build().unwrap();
        for body in bodies {
            let found = outcome(&sandbox, "acme", &function(body), &input).await;
            let fine = !found.starts_with('!')
                // An engine without memory may lose a reaction, and says so to nobody.
                || ["!memory", "!crashed", "!runtime", "!never_settled"].contains(&found.as_str());
            assert!(fine, "{} bytes: {body}: {found}", 40_000 + step * 6_000);
        }
    }
}
