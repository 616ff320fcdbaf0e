//! What programs of each language make of payloads.

use std::process::Command;

use icp_core::transform::{Outcome, Position, Transformer};
use icp_sandbox::{InProcess, Limits};
use serde_json::json;

use crate::fixture::{function, outcome, plan, report, run, sandbox, script};

const ORDER: &str = r#"{"id":17,"lines":[{"sku":"a","n":2},{"sku":"b","n":3}],"note":null}"#;

#[tokio::test]
async fn javascript_forms() {
    let sandbox = sandbox();
    for (source, expected) in [
        ("function transform(payload) { return payload.id }", "17"),
        ("const transform = (payload) => ({ id: payload.id })", r#"{"id":17}"#),
        ("let transform = async (p) => { await null; return p.lines.length }", "2"),
        (
            "async function transform(p, c) { return [c.event.type, c.org.id] }",
            r#"["order.paid","acme"]"#,
        ),
        ("return payload.lines.reduce((sum, line) => sum + line.n, 0)", "5"),
        ("const n = await Promise.resolve(payload.id); return { n }", r#"{"n":17}"#),
        (
            "payload.id = 1; return payload // and a comment",
            r#"{"id":1,"lines":[{"sku":"a","n":2},{"sku":"b","n":3}],"note":null}"#,
        ),
        ("function transform() { return null }", "null"),
        ("return null", "dropped: the program returned nothing"),
        ("return undefined", "dropped: the program returned nothing"),
        ("return context.drop('a test order')", "dropped: a test order"),
        ("function transform(p, c) { return c.drop() }", "dropped: the program dropped the event"),
        ("function transform() {}", "!no_result"),
        ("function transform() { return () => 1 }", "!no_result"),
        ("return Symbol('x')", "!no_result"),
        ("const x = 1", "!no_result"),
        ("function transform() { return new Promise(() => {}) }", "!never_settled"),
        ("function transform() { throw new Error('no') }", "!runtime"),
        ("async function transform() { throw { a: 1 } }", "!runtime"),
        ("return context.base64.decode(context.base64.encode('héllo'))", "\"héllo\""),
        ("return context.base64.decode('%%%')", "!runtime"),
        ("'use strict'; undeclared = 1; return 1", "!runtime"),
        ("context.event.id = 1; return 1", "!runtime"),
        ("\u{feff}return 1", "1"),
        ("return 1;\r\nfunction other() {}\r\n", "1"),
    ] {
        assert_eq!(outcome(&sandbox, "acme", &script(source), ORDER).await, expected, "{source}");
    }
}

/// A worker reads a program once, and later calls run what it kept.
#[tokio::test]
async fn every_call_of_a_compiled_program_is_alike() {
    forms(&sandbox()).await;
}

#[tokio::test]
async fn every_call_of_a_compiled_program_is_alike_in_one_process() {
    let mut limits = Limits::default();
    // So that a checker of memory, which is many times slower, can look on.
    limits.deadline_ms = Limits::MAX.deadline_ms;
    forms(&InProcess::start(limits).unwrap()).await;
}

/// Compiled programs are read by unsafe code.
#[test]
fn compiled_programs_break_no_memory() {
    let output = Command::new("valgrind")
        .args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite"])
        .arg("--error-exitcode=9")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "languages::every_call_of_a_compiled_program_is_alike_in_one_process"])
        .output()
        .unwrap_or_else(|error| panic!("valgrind: {error}; run `scripts/setup`"));
    let (told, found) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{found}");
}

async fn forms(by: &impl Transformer) {
    for (source, expected) in [
        (r"const tag = (t, v) => t.raw[0] + t[1] + v; return tag`a\n${1}b`", r#""a\\nb1""#),
        (r"return ['\ud83d\ude00', 'é', '\0', `${'x'}`]", "[\"😀\",\"é\",\"\\u0000\",\"x\"]"),
        (
            "return [12345678901234567890n + 1n, 1_000n].map(String)",
            r#"["12345678901234567891","1000"]"#,
        ),
        ("return 'a1b22'.replace(/(?<n>[0-9]+)/gu, '<$<n>>')", r#""a<1>b<22>""#),
        ("return /é+/iu.exec('xÉé')[0]", r#""Éé""#),
        (
            "return [0.1, 1e308, -0, NaN === NaN, 2 ** 53, 0xff, 0b11]",
            "[0.1,1e+308,0,false,9007199254740992,255,3]",
        ),
        // A division that the parser, looking ahead, takes for a regular expression.
        ("return payload.id / 17 + payload.new / payload.in", "null"),
        ("const o = { new: 6, default: 3 };\nreturn o.new / o.default", "2"),
        ("const p = `${payload.id}` / 17\nreturn p", "1"),
        ("if (payload.id) /'/.test('x')\nreturn 1", "1"),
        (
            "class A { #x = 1; static s = 2; static { A.t = 3 } get x() { return this.#x } \
             static has(o) { return #x in o } } \
             class B extends A { y = super.x + 1 } \
             return [new B().x, new B().y, A.s, A.t, A.has(new B())]",
            "[1,2,2,3,true]",
        ),
        (
            "function* g() { const x = yield 1; yield* [x, 3] } const i = g(); i.next(); return [i.next(2).value, ...i]",
            "[2,3]",
        ),
        (
            "let all = []; for await (const x of (async function* () { yield 1; yield 2 })()) all.push(x); return all",
            "[1,2]",
        ),
        (
            "const { a: { b = 5 } = {}, ...rest } = { c: 1, d: 2 }; return [b, rest, ...[1, 2]]",
            r#"[5,{"c":1,"d":2},1,2]"#,
        ),
        (
            "outer: for (const i of [1, 2, 3]) { for (;;) { if (i === 2) break outer; continue outer } } return 1",
            "1",
        ),
        (
            "try { try { throw new Error('a') } finally { null } } catch ({ message }) { return message }",
            r#""a""#,
        ),
        (
            "switch (payload.id) { case 16: return 'no'; default: return payload?.lines?.[1]?.n ?? 0 }",
            "3",
        ),
        (
            "let x = null; x ??= 4; x ||= 5; x &&= 6; return [x, x++, --x, typeof nothing, void 0 ?? 'u']",
            r#"[6,6,6,"undefined","u"]"#,
        ),
        (
            "function f(a, b = a + 1, ...c) { return [f.length, f.name, arguments.length, b, c] } return f(1, undefined, 3)",
            r#"[1,"f",3,2,[3]]"#,
        ),
        ("const f = (a) => a  +  1; return String(f)", r#""(a) => a  +  1""#),
        (
            "return [...new Map([[1, { a: [1n].length }]])].concat([[...new Set([2, 2])]])",
            r#"[[1,{"a":1}],[2]]"#,
        ),
        (
            "var hoisted = early(); function early() { return 'é' } return { hoisted, ['k' + 1]: 1, get g() { return 2 } }",
            r#"{"hoisted":"é","k1":1,"g":2}"#,
        ),
    ] {
        for call in 1..=2 {
            let made = outcome(by, "acme", &script(source), ORDER).await;
            assert_eq!(made, expected, "call {call} of {source}");
        }
    }
    let source = "const f = () => {\n  throw new Error('é')\n}\nreturn /é/.test('é') && f()";
    for _ in 1..=2 {
        let error = run(by, "acme", &script(source), ORDER).await.unwrap_err();
        let frames = error.origin.unwrap().frames;
        assert_eq!(frames[0].function.as_deref(), Some("f"));
        assert_eq!(frames[0].at, Position { line: 2, column: 13 });
    }
}

#[tokio::test]
async fn javascript_failures_tell_where() {
    let sandbox = sandbox();
    for (source, code, message, at) in [
        ("const a = 1\nreturn ü.b", "runtime", "ReferenceError: ü is not defined", (2, 8)),
        ("return 'é' + missing", "runtime", "ReferenceError: missing is not defined", (1, 14)),
        (
            "function f() {\n  throw new RangeError('far')\n}\nreturn f()",
            "runtime",
            "RangeError: far",
            (2, 13),
        ),
        ("const é = 'ü'; return (", "compile", "SyntaxError", (1, 24)),
        ("export default 1", "compile", "define `transform` without `export`", (1, 1)),
        ("import x from 'y'", "compile", "nothing to import", (1, 8)),
    ] {
        let error = run(&sandbox, "acme", &script(source), ORDER).await.unwrap_err();
        assert_eq!(error.code, code, "{source}: {error}");
        assert!(error.message.contains(message), "{source}: {error}");
        assert_eq!(error.pointer.as_deref(), Some("/transform/0/javascript/source"));
        let (line, column) = at;
        let found = error.origin.unwrap();
        assert_eq!(found.at, Some(Position { line, column }), "{source}: {found:?}");
        assert!(found.excerpt.is_some());
    }
    let source =
        "console.log('before', { a: 1 }); function f() { null.x } function g() { f() } g()";
    let origin = run(&sandbox, "acme", &script(source), ORDER).await.unwrap_err().origin.unwrap();
    let names: Vec<_> = origin.frames.iter().filter_map(|f| f.function.as_deref()).collect();
    assert_eq!(names, ["f", "g"]);
    assert_eq!(origin.console, [r#"before {"a":1}"#]);
}

/// The host judges what the last program made; the failure tells as much as a worker's.
#[tokio::test]
async fn a_last_result_that_is_refused_names_its_program() {
    let sandbox = sandbox();
    let deep = "let o = 1; for (let i = 0; i < 100; i++) o = [o];";
    for (body, code) in [
        (format!("{deep} return o"), "output_too_deep"),
        ("return '\\ud800'".to_owned(), "output_invalid"),
    ] {
        let source = format!("console.log('here'); {body}");
        for and in [json!([]), json!([{ "jmespath": { "source": "@" } }])] {
            let mut steps = vec![json!({ "javascript": { "source": source } })];
            steps.extend(and.as_array().unwrap().clone());
            let error = run(&sandbox, "acme", &plan(steps.into()), "{}").await.unwrap_err();
            assert_eq!(error.code, code);
            assert_eq!(error.pointer.as_deref(), Some("/transform/0/javascript/source"));
            assert_eq!(error.origin.unwrap().console, ["here"]);
        }
    }
}

#[tokio::test]
async fn a_program_speaks_to_its_console_within_bounds() {
    let sandbox = sandbox();
    let source = "console.log('a', 1, [2]); console.error(new TypeError('x')); \
                  for (let i = 0; i < 99; i++) console.info(i); return 1";
    let report = report(&sandbox, "acme", &script(source), "{}").await.unwrap();
    assert_eq!(report.console[..3], ["a 1 [2]", "TypeError: x", "0"]);
    assert_eq!(report.console.len(), 50);
    assert!(!report.cpu.is_zero());
    let source = "console.log('é'.repeat(1e6)); console.log('more'); return 1";
    let report = super::fixture::report(&sandbox, "acme", &script(source), "{}").await.unwrap();
    assert_eq!(report.console.concat().len(), 8 << 10);
}

#[tokio::test]
async fn expressions() {
    let sandbox = sandbox();
    for (language, source, expected) in [
        ("jmespath", "lines[].sku", r#"["a","b"]"#),
        ("jmespath", "{id: id, total: sum(lines[].n)}", r#"{"id":17,"total":5.0}"#),
        ("jmespath", "missing", "null"),
        ("jmespath", "to_upper(id)", "!runtime"),
        ("jmespath", "lines[", "!compile"),
        ("jsonata", "$sum(lines.n)", "5"),
        ("jsonata", r#"{"skus": lines.sku, "id": $string(id)}"#, r#"{"skus":["a","b"],"id":"17"}"#),
        ("jsonata", "note", "null"),
        ("jsonata", "missing", "!no_result"),
        ("jsonata", "function($x){$x}", "!no_result"),
        ("jsonata", "$now()", r#""2026-11-21T03:45:00.123Z""#),
        ("jsonata", "$millis()", "1795232700123"),
        ("jsonata", "$eval('1')", "!runtime"),
        ("jsonata", "id * 'x'", "!runtime"),
        ("jsonata", "lines[", "!compile"),
        ("jsonata", "($f := function($n) { $n + $f($n + 1) }; $f(1))", "!stack"),
        ("jsonata", "$sum([1..200000])", "!runtime"),
    ] {
        let mut step = serde_json::Map::new();
        step.insert(language.to_owned(), json!({ "source": source }));
        let found = outcome(&sandbox, "acme", &plan(json!([step])), ORDER).await;
        assert_eq!(found, expected, "{language} {source}");
    }
}

#[tokio::test]
async fn an_expression_tells_where_it_breaks() {
    let sandbox = sandbox();
    let broken = plan(json!([{ "jmespath": { "source": "{a: id,\n é: ]}" } }]));
    let error = run(&sandbox, "acme", &broken, ORDER).await.unwrap_err();
    assert_eq!(error.origin.unwrap().at.unwrap().line, 2);
    assert_eq!(error.pointer.as_deref(), Some("/transform/0/jmespath/source"));
}

#[tokio::test]
async fn a_schema_passes_or_refuses() {
    let sandbox = sandbox();
    let schema = json!([{ "schema": {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": { "type": "integer" },
            "lines": { "items": { "properties": { "n": { "maximum": 2 } } } },
            "mail": { "format": "email" },
        },
    } }]);
    let schema = plan(schema);
    assert_eq!(run(&sandbox, "acme", &schema, r#"{"id":1.0}"#).await.unwrap(), r#"{"id":1.0}"#);
    let error = run(&sandbox, "acme", &schema, ORDER).await.unwrap_err();
    assert_eq!(error.code, "schema_invalid");
    let pointer = "/transform/0/schema/properties/lines/items/properties/n/maximum";
    assert_eq!(error.pointer.as_deref(), Some(pointer));
    let violation = &error.origin.unwrap().violations[0];
    assert_eq!((violation.pointer.as_str(), violation.code.as_str()), ("/lines/1/n", "maximum"));
    let secret = r#"{"id":"secret-id","mail":"secret mail"}"#;
    let error = run(&sandbox, "acme", &schema, secret).await.unwrap_err();
    assert_eq!(error.origin.as_ref().unwrap().violations.len(), 2);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn steps_of_every_kind_make_one_plan() {
    let sandbox = sandbox();
    let steps = json!([
        { "schema": { "required": ["lines"] } },
        { "map": { "base": "empty", "rules": [
            { "target": "first", "from": "lines[0]" },
            { "target": "id", "from": "id", "cast": "string" },
        ] } },
        { "jsonata": { "source": "$merge([$, {\"n\": first.n * 2}])" } },
        { "javascript": { "source": "payload.id += '!'; return payload" } },
        { "jmespath": { "source": "{id: id, n: n, sku: first.sku}" } },
        { "schema": { "properties": { "n": { "const": 4 } } } },
    ]);
    let made = run(&sandbox, "acme", &plan(steps), ORDER).await.unwrap();
    assert_eq!(made, r#"{"id":"17!","n":4,"sku":"a"}"#);
    let dropping = json!([
        { "map": { "drop": { "when": { "id": 17 }, "reason": "seventeen" } } },
        { "javascript": { "source": "throw 1" } },
    ]);
    let dropped = run(&sandbox, "acme", &plan(dropping), ORDER).await.unwrap();
    assert_eq!(dropped, "dropped: seventeen");
    let second = json!([
        { "jmespath": { "source": "@" } },
        { "javascript": { "source": "throw new Error('second')" } },
    ]);
    let error = run(&sandbox, "acme", &plan(second), ORDER).await.unwrap_err();
    assert_eq!(error.pointer.as_deref(), Some("/transform/1/javascript/source"));
}

#[tokio::test]
async fn payloads_are_admitted_before_any_program_sees_them() {
    let sandbox = sandbox();
    let names: String = (0..5_000).map(|n| format!("\"k{n}\":1,")).collect();
    for (input, expected) in [
        ("{secret", "!input_invalid"),
        ("\u{feff}{}", "!input_invalid"),
        (&"[".repeat(65), "!input_too_deep"),
        (&format!("{{{names}\"z\":1}}"), "!input_too_many_names"),
        (&format!("\"{}\"", "x".repeat(256 << 10)), "!input_too_large"),
    ] {
        for plan in [function("return 1"), plan(json!([{ "jmespath": { "source": "@" } }]))] {
            assert_eq!(outcome(&sandbox, "acme", &plan, input).await, expected);
        }
    }
    let error = run(&sandbox, "acme", &function("return 1"), "{secret").await.unwrap_err();
    assert!(!error.to_string().contains("secret"));
    // What reads like an expression is data.
    let payload =
        r##"["$eval('1')","{{id}}","a.b[0]","`x`","${1}","$now()",{"$ref":"#/no","@":"$"}]"##;
    for step in [
        json!({ "jsonata": { "source": "$" } }),
        json!({ "jmespath": { "source": "@" } }),
        json!({ "javascript": { "source": "return payload" } }),
        json!({ "schema": { "type": "array", "items": { "type": ["string", "object"] } } }),
    ] {
        assert_eq!(run(&sandbox, "acme", &plan(json!([step])), payload).await.unwrap(), payload);
    }
}

#[tokio::test]
async fn numbers_across_languages() {
    let sandbox = sandbox();
    let numbers = "[12345678901234567890,-9007199254740993,1.0,-0.0]";
    for (step, expected) in [
        (json!({ "map": {} }), numbers),
        (json!({ "jmespath": { "source": "@" } }), numbers),
        (
            json!({ "javascript": { "source": "return payload" } }),
            "[12345678901234567000,-9007199254740992,1,0]",
        ),
        (json!({ "jsonata": { "source": "$" } }), "[1.2345678901234567e+19,-9007199254740992,1,0]"),
    ] {
        let found = report(&sandbox, "acme", &plan(json!([step])), numbers).await.unwrap();
        let text = run(&sandbox, "acme", &plan(json!([step])), numbers).await.unwrap();
        assert_eq!(text, expected);
        let rounds = expected != numbers;
        assert_eq!(found.warnings.iter().any(|w| w.contains("2 integers")), rounds, "{step}");
    }
    for language in ["javascript", "jsonata"] {
        let source = if language == "jsonata" { "$" } else { "return payload" };
        let strict = json!({ "source": source, "reject_unsafe_integers": true });
        let mut step = serde_json::Map::new();
        step.insert(language.to_owned(), strict);
        let strict = plan(json!([step]));
        assert_eq!(outcome(&sandbox, "acme", &strict, numbers).await, "!input_unsafe_integer");
        assert_eq!(
            outcome(&sandbox, "acme", &strict, "[9007199254740991]").await,
            "[9007199254740991]"
        );
    }
}

#[tokio::test]
async fn tables_are_looked_up_between_programs() {
    let steps = json!([
        { "javascript": { "source": "console.log('in'); return { code: payload.land.toUpperCase() }" } },
        { "map": { "rules": [
            { "target": "name", "from": "code", "lookup": { "table": "countries" } },
        ] } },
        { "jmespath": { "source": "{to: name}" } },
    ]);
    let done = report(&sandbox(), "acme", &plan(steps.clone()), r#"{"land":"de"}"#).await.unwrap();
    assert_eq!(done.outcome, Outcome::Value(r#"{"to":"Germany"}"#.into()));
    assert_eq!(done.console, ["in"]);
    let failed = run(&sandbox(), "acme", &plan(steps), r#"{"land":"fr"}"#).await.unwrap_err();
    assert_eq!((failed.code, failed.retryable), ("lookup_missing", true));
    assert_eq!(failed.pointer.as_deref(), Some("/transform/1/map/rules/0/lookup"));
}

#[tokio::test]
async fn what_a_program_still_holds_is_measured() {
    let sandbox = sandbox();
    let held = async |plan| report(&sandbox, "acme", &plan, ORDER).await.unwrap().heap_bytes;
    let little = held(script("return 1")).await.unwrap();
    let much = held(script("globalThis.kept = 'x'.repeat(1e6) + payload.id; return 1")).await;
    assert!((900_000..3_000_000).contains(&(much.unwrap() - little)), "{much:?} {little}");
    let steps =
        [json!({"javascript": {"source": "return 1"}}), json!({"jmespath": {"source": "@"}})];
    assert!(held(plan(json!(steps))).await.unwrap() >= little / 2);
    assert_eq!(held(plan(json!([{"jmespath": {"source": "id"}}]))).await, None);
}
