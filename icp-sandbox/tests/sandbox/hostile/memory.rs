//! Programs that use up the heap or the stack.

use icp_sandbox::Limits;

use super::{BOUNDED, HELD, Street};
use crate::fixture::{function, outcome, script};

#[tokio::test]
async fn a_heap_that_is_full_ends_the_call() {
    let cases = [
        ("arrays", "const a = []; for (;;) a.push(new Array(1000).fill(1))"),
        ("one array", "const a = []; for (;;) a.push(1)"),
        ("doubled array", "let a = [1]; for (;;) a = a.concat(a)"),
        ("spread array", "let a = [1]; for (;;) a = [...a, ...a]"),
        ("text", "let s = 'x'; for (;;) s += s"),
        ("texts", "const a = []; for (;;) a.push('x'.repeat(1e6))"),
        ("padded", "return 'x'.padEnd(2 ** 29)"),
        ("wide", "let s = '\\u1234'; for (;;) s = s + s + 'x'"),
        ("joined", "let a = Array(1e4).fill('x'.repeat(1e4)); return a.join('').length"),
        ("pieces", "return 'x,'.repeat(3e6).split(',').length"),
        ("objects", "const a = []; for (;;) a.push({ a: {}, b: [] })"),
        ("members", "const o = {}; for (let i = 0; ; i++) o['key' + i] = i"),
        ("closures", "let f = () => 0; for (;;) { const g = f; f = () => g }"),
        ("symbols", "const a = []; for (let i = 0; ; i++) a.push(Symbol('s' + i))"),
        ("registered symbols", "for (let i = 0; ; i++) Symbol.for('s' + i)"),
        ("map", "const m = new Map(); for (let i = 0; ; i++) m.set(i, {})"),
        ("set", "const s = new Set(); for (let i = 0; ; i++) s.add('x' + i)"),
        (
            "weak map",
            "const m = new WeakMap(), a = []; for (;;) { const o = {}; a.push(o); m.set(o, {}) }",
        ),
        ("errors", "const a = []; for (;;) { try { null.x } catch (e) { a.push(e) } }"),
        ("cycles", "let a = {}; for (;;) { a = { a }; a.self = a }"),
        ("linked list", "let l = null; for (;;) l = { l }"),
        ("big integer", "let b = 1n; for (;;) b <<= 1000000n"),
        ("matches", "const a = []; for (;;) a.push(/(x)(y)(z)/.exec('xyz'))"),
        ("patterns", "const a = []; for (let i = 0; ; i++) a.push(new RegExp('x' + i))"),
        (
            "generators",
            "const a = []; function* g() { yield 1 } for (;;) { const i = g(); i.next(); a.push(i) }",
        ),
        ("promises", "const a = []; for (;;) a.push(new Promise(() => {}))"),
        ("bound", "let f = () => 1; const a = []; for (;;) a.push(f.bind(a, 1, 2, 3))"),
        ("classes", "const a = []; for (;;) a.push(class { #x = 1; static y = a })"),
        ("console", "for (;;) console.log('x'.repeat(1e6))"),
        ("base64", "return context.base64.encode('x'.repeat(9e6)).length"),
        ("payload again and again", "const a = []; for (;;) a.push(JSON.parse(JSON.stringify(a)))"),
    ];
    Street::new().await.meet_all(BOUNDED, &cases).await;
}

/// Every function holds its own text, so that what is compiled can be many times as long as what
/// was written. Whatever room is left for it, it is whole or it is not there.
#[tokio::test]
async fn a_program_is_compiled_whole_or_not_at_all() {
    let mut limits = Limits::default();
    limits.deadline_ms = Limits::MAX.deadline_ms;
    let street = Street::with(limits).await;
    for (functions, comment, text) in [
        (200, 45_602, 12_000),
        (190, 29_752, 28_000),
        (169, 25_445, 28_000),
        (224, 44_469, 12_000),
        (120, 50_000, 100),
        (250, 1_000, 1_000),
    ] {
        for more in [0, 7, 1_000] {
            let inner = format!("/*{}*/return '{}'", "x".repeat(comment + more), "A".repeat(text));
            let source = format!(
                "return {}(()=>{{{inner}}})(){}",
                "(()=>{return ".repeat(functions),
                "})()".repeat(functions)
            );
            let name = format!("{functions} functions, {comment} and {more}");
            let right = format!("\"{}\"", "A".repeat(text));
            let met =
                street.meet(&name, &script(&source), "{}", &["!memory", "!stack", &right]).await;
            // What is compiled and what is written of it are there at once.
            assert!(met.taken.held <= 2 * HELD, "{name}: {:?}", met.taken);
        }
    }
}

/// On a full heap even what is raised for it may find no room.
#[tokio::test]
async fn a_heap_that_is_full_and_caught_ends_the_call() {
    let fill = "const a = []; try { for (;;) a.push(new Array(64).fill({})) } catch { }";
    let many = "const f = function () {}; const many = new Array(40000).fill(1);";
    let case = |rest: &str| format!("{fill} {rest}");
    let cases = [
        (
            "filled again",
            "const a = []; for (;;) { try { for (;;) a.push({}) } catch { } }".to_owned(),
        ),
        ("then a loop", case("for (;;) { try { a.push({}) } catch { } }")),
        ("then a silent loop", case("for (;;) { try { for (;;) {} } catch { } }")),
        ("then finally", case("for (;;) { try { throw {} } finally { continue } }")),
        (
            "bind at the limit",
            case(&format!(
                "{many} for (;;) {{ try {{ a.push(f.bind.apply(f, many)) }} catch {{ }} }}"
            )),
        ),
        (
            "bind in between",
            format!(
                "{many} const a = []; for (;;) {{ try {{ for (;;) a.push(f.bind.apply(f, many)) }} catch {{ a.length >>= 1 }} }}"
            ),
        ),
        (
            "call at the limit",
            case(&format!("{many} for (;;) {{ try {{ a.push(f.apply(f, many)) }} catch {{ }} }}")),
        ),
        ("text at the limit", case("let s = 'x'; for (;;) { try { s += s } catch { } }")),
        (
            "promises at the limit",
            case("for (;;) { try { Promise.resolve().then(() => {}) } catch { } }"),
        ),
        (
            "patterns at the limit",
            case("for (;;) { try { new RegExp('(a|b)+'.repeat(100)) } catch { } }"),
        ),
        (
            "functions at the limit",
            case("for (;;) { try { (() => { class A { #a = 1 } return new A() })() } catch { } }"),
        ),
        ("answer at the limit", case("return a.length")),
        ("error at the limit", case("throw new Error('x')")),
        ("promise at the limit", case("return new Promise((r) => r(a.length))")),
    ];
    let street = Street::new().await;
    // What is caught in time may leave a heap that just suffices.
    let codes = [BOUNDED, &["!no_result", "!never_settled", "!output_too_large"]].concat();
    for (name, body) in cases {
        let plan = function(&body);
        let worker = street.sandbox.clone();
        let reference = outcome(&worker, "other", &plan, "{}").await;
        let codes = match reference.parse::<u64>() {
            Ok(_) => [&*codes, &[&*reference]].concat(),
            Err(_) => codes.clone(),
        };
        street.meet(name, &plan, "{}", &codes).await;
    }
}

#[tokio::test]
async fn a_stack_that_is_full_ends_the_call() {
    let cases = [
        ("recursion", "const f = () => 1 + f(); return f()"),
        ("mutual", "const f = () => g() + 1, g = () => f() + 1; return f()"),
        ("caught recursion", "const f = () => { try { f() } catch { f() } }; f()"),
        ("finally recursion", "const f = () => { try { f() } finally { f() } }; f()"),
        ("getter", "const o = { get a() { return this.a } }; return o.a"),
        ("toString", "const o = { toString() { return '' + o } }; return '' + o"),
        ("toJSON recursion", "const o = { toJSON() { return { o } } }; return o"),
        ("deep value", "let a = []; for (let i = 0; i < 1e6; i++) a = [a]; return a"),
        ("deep text", "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return String(a)"),
        ("deep flat", "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a.flat(Infinity)"),
        ("bind chain", "let f = () => 1; for (let i = 0; i < 1e6; i++) f = f.bind(); return f()"),
        (
            "prototype chain",
            "let o = {}; for (let i = 0; i < 1e6; i++) o = Object.create(o); return o.x ?? 1n",
        ),
        ("call chain", "const c = Function.prototype.call; return c.call.call.call(c, c, c, c)"),
        ("sort", "const f = () => [2, 1].sort(f); f()"),
        ("replace", "const f = () => 'a'.replace(/a/, f); f()"),
        ("parse", "return JSON.parse('['.repeat(1e6))"),
        ("pattern", "return new RegExp('('.repeat(1e6))"),
        ("pattern groups", "return new RegExp('('.repeat(1e5) + ')'.repeat(1e5))"),
        (
            "matching groups",
            "return new RegExp('(?:'.repeat(2e4) + 'a' + ')*'.repeat(2e4)).test('a'.repeat(99)) && 1n",
        ),
        ("generators", "function* g() { yield* g() } g().next()"),
        ("async", "const f = async () => { await f() }; return f()"),
        ("classes", "class A { constructor() { new A() } } new A()"),
        ("destructuring", "const f = ({ a = f({}) }) => a; f({})"),
        ("tagged", "const f = () => f``; f()"),
    ];
    let codes = [BOUNDED, &["!output_too_deep"]].concat();
    Street::new().await.meet_all(&codes, &cases).await;
}
