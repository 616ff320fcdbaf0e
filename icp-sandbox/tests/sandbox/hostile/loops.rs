//! Programs that go on for ever, in every place where a program runs.

use super::{HELD, STOPPED, Street};
use crate::fixture::script;

#[tokio::test]
async fn loops_are_stopped() {
    let cases = [
        ("loop", "for (;;) {}"),
        ("do", "do {} while (true)"),
        ("labels", "a: for (;;) { b: for (;;) { continue a } }"),
        ("finally", "for (;;) { try { for (;;) {} } finally { continue } }"),
        (
            "nested finally",
            "for (;;) try { try { for (;;) {} } finally { for (;;) {} } } finally { continue }",
        ),
        (
            "finally of a generator",
            "function* g() { try { yield } finally { for (;;) {} } } const i = g(); i.next(); i.return()",
        ),
        ("caught", "for (;;) { try { throw 1 } catch { } }"),
        (
            "caught throws",
            "const f = () => { try { throw 1 } catch { for (;;) { try { throw 2 } catch { } } } }; f()",
        ),
        ("generator", "function* g() { for (;;) yield 1 } for (const x of g()) {}"),
        (
            "delegating generators",
            "function* g() { for (;;) yield* [1, 2] } for (const x of g()) {}",
        ),
        ("getter", "const o = { get a() { for (;;) {} } }; o.a"),
        ("setter", "const o = { set a(x) { for (;;) {} } }; o.a = 1"),
        (
            "iterator",
            "const i = { [Symbol.iterator]: () => ({ next: () => ({ done: false }) }) }; for (const x of i) {}",
        ),
        ("toString", "`${ { toString() { for (;;) {} } } }`"),
        ("valueOf", "return +{ valueOf() { for (;;) {} } }"),
        ("toPrimitive", "return 1 + { [Symbol.toPrimitive]() { for (;;) {} } }"),
        ("instanceof", "return 1 instanceof { [Symbol.hasInstance]() { for (;;) {} } }"),
        ("result getter", "return { get a() { for (;;) {} } }"),
        ("toJSON", "return { toJSON() { for (;;) {} } }"),
        ("then getter", "return { get then() { for (;;) {} } }"),
        (
            "species",
            "const a = [1]; a.constructor = { get [Symbol.species]() { for (;;) {} } }; return a.map((x) => x)",
        ),
        ("comparison", "return [1, 2, 3].sort(() => { for (;;) {} })"),
        ("replacing", "return 'a'.replace(/a/, () => { for (;;) {} })"),
        ("reviving", "return JSON.parse('[1]', () => { for (;;) {} })"),
        ("static block", "class A { static { for (;;) {} } } return 1"),
        ("argument", "((a = (() => { for (;;) {} })()) => a)()"),
        ("drop", "return context.drop({ toString() { for (;;) {} } })"),
        ("console", "console.log({ toJSON() { for (;;) {} } }); return 1"),
        ("console flood", "for (;;) console.log('x')"),
        ("base64", "for (;;) context.base64.encode('x'.repeat(1000))"),
    ];
    Street::new().await.meet_all(STOPPED, &cases).await;
}

#[tokio::test]
async fn what_grows_while_it_is_walked_is_stopped() {
    let endless = "function* endless() { for (let i = 0; ; i++) yield [i, i] }";
    let of = |rest: &str| format!("{endless} {rest}");
    let codes = &["!timeout", "!timeout_hard", "!memory", "!never_settled"];
    let spread = of("return [...endless()].length");
    let from = of("return Array.from(endless()).length");
    let entries = of("return Object.fromEntries(endless())");
    let map = of("return new Map(endless()).size");
    let all = of("return Promise.all(endless())");
    let call = of("return Math.max(...endless())");
    let flat = of("return endless().flatMap((x) => x).toArray().length");
    let street = Street::new().await;
    street.meet_all(codes, &[
        ("set grows", "const s = new Set([0]); for (const x of s) { s.delete(x); s.add(x + 1) }"),
        ("map grows", "const m = new Map([[0, 0]]); for (const [k] of m) { m.delete(k); m.set(k + 1, 0) }"),
        ("set forEach", "const s = new Set([0]); s.forEach((x) => { s.delete(x); s.add(x + 1) })"),
        ("array grows", "const a = [1]; for (const x of a) a.push(x)"),
        ("spread", &spread),
        ("from", &from),
        ("entries", &entries),
        ("map of pairs", &map),
        ("all", &all),
        ("arguments", &call),
        ("iterator helpers", &flat),
    ])
    .await;
}

#[tokio::test]
async fn patterns_are_stopped_while_they_match() {
    let cases = [
        ("nested quantifiers", "return /^(a+)+$/.test('a'.repeat(40) + '!')"),
        ("overlapping choices", "return /^(a|aa)+$/.test('a'.repeat(80) + '!')"),
        ("backreference", r"return /^(a*)*\1$/.test('a'.repeat(40) + '!')"),
        ("lazy", "return /^(.*?,){25}x$/.test(','.repeat(60))"),
        ("words", r"return /^(\w+\s?)*$/.test('a'.repeat(50) + '!')"),
        ("unicode", r"return /^(?:\p{L}+)+$/u.test('é'.repeat(50) + '!')"),
        ("ignoring case", "return /^(?:[a-z]+)+$/i.test('aB'.repeat(30) + '!')"),
        ("lookahead", "return /^(?=(a+)+$)b/.test('a'.repeat(40) + '!')"),
        ("lookbehind", "return /(?<=^(a+)+)!/.test('b' + 'a'.repeat(40) + '!')"),
        ("quadratic", "return 'a'.repeat(3e5).replace(/a*b/g, '').length"),
        ("split", "return 'a'.repeat(3e5).split(/a*b/).length"),
        ("all matches", "return [...'a'.repeat(3e5).matchAll(/a*b/g)].length"),
        ("search", "return 'a'.repeat(3e5).search(/a*b/)"),
    ];
    Street::new().await.meet_all(STOPPED, &cases).await;
}

#[tokio::test]
async fn floods_of_reactions_are_stopped() {
    let codes = &["!never_settled", "!timeout", "!timeout_hard", "!memory"];
    let cases = [
        ("microtasks", "const f = () => Promise.resolve().then(f); return f()"),
        (
            "fan out",
            "const f = () => { for (let i = 0; i < 100; i++) Promise.resolve().then(f) }; f(); return new Promise(() => {})",
        ),
        ("never", "return new Promise(() => {})"),
        ("await of nothing", "await new Promise(() => {})"),
        ("await loop", "return (async () => { for (;;) await null; })()"),
        ("thenable", "const t = { then(r) { r(t) } }; return t"),
        ("looping thenable", "return { then() { for (;;) {} } }"),
        (
            "asynchronous generator",
            "async function* g() { for (;;) yield 1 } for await (const x of g()) {}",
        ),
        ("rejections", "const f = () => Promise.reject(1).catch(f); return f()"),
        ("race", "const f = () => Promise.race([1, 2, 3]).then(f); return f()"),
        ("a loop in a reaction", "return Promise.resolve().then(() => { for (;;) {} })"),
        ("finally", "const f = () => Promise.resolve().finally(() => f()); return f()"),
        ("chain", "let p = Promise.resolve(); for (;;) p = p.then(() => 1)"),
    ];
    let street = Street::new().await;
    for (name, body) in cases {
        // A function that is asynchronous itself.
        let source = format!("async function transform(payload, context) {{\n{body}\n}}");
        let met = street.meet(name, &script(&source), "{}", codes).await;
        assert!(met.taken.held <= HELD, "{name}: {:?}", met.taken);
    }
}
