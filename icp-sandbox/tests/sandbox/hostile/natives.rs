//! Functions of the engine that never look whether they are to stop.

use super::{BOUNDED, Street};
use crate::fixture::function;

#[tokio::test]
async fn lengths_that_are_claimed_are_bounded() {
    let cases = [
        ("reverse", "Array.prototype.reverse.call({ length: 2 ** 53 - 1 })"),
        ("copyWithin", "Array.prototype.copyWithin.call({ length: 2 ** 53 - 1 }, 1, 0)"),
        ("shift", "Array.prototype.shift.call({ length: 2 ** 53 - 1 })"),
        ("unshift", "Array.prototype.unshift.call({ length: 2 ** 53 - 2 }, 1)"),
        ("splice", "Array.prototype.splice.call({ length: 2 ** 53 - 2 }, 0, 1)"),
        ("slice", "Array.prototype.slice.call({ length: 2 ** 32 - 1 })"),
        ("concat", "const a = []; a.length = 2 ** 32 - 1; [].concat(a)"),
        ("spreadable", "[].concat({ length: 2 ** 53 - 1, [Symbol.isConcatSpreadable]: true })"),
        ("join", "Array.prototype.join.call({ length: 2 ** 53 - 1 })"),
        ("toLocaleString", "Array.prototype.toLocaleString.call({ length: 2 ** 53 - 1 })"),
        ("sort", "Array.prototype.sort.call({ length: 2 ** 53 - 1 })"),
        ("flat", "const a = []; a.length = 2 ** 32 - 1; a.flat()"),
        ("fill", "Array.prototype.fill.call({ length: 2 ** 53 - 1 }, 1)"),
        ("indexOf", "Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)"),
        ("lastIndexOf", "Array.prototype.lastIndexOf.call({ length: 2 ** 53 - 1 }, 1)"),
        ("includes", "Array.prototype.includes.call({ length: 2 ** 53 - 1 }, 1)"),
        ("toReversed", "Array.prototype.toReversed.call({ length: 2 ** 32 - 1 })"),
        ("toSorted", "Array.prototype.toSorted.call({ length: 2 ** 32 - 1 })"),
        ("toSpliced", "Array.prototype.toSpliced.call({ length: 2 ** 32 - 1 }, 0, 1)"),
        ("with", "Array.prototype.with.call({ length: 2 ** 32 - 1 }, 0, 1)"),
        ("from", "Array.from({ length: 2 ** 53 - 1 })"),
        ("apply", "Math.max.apply(null, { length: 2 ** 32 - 1 })"),
        ("forEach", "Array.prototype.forEach.call({ length: 2 ** 53 - 1 }, () => 1)"),
        ("reduceRight", "Array.prototype.reduceRight.call({ length: 2 ** 53 - 1 }, () => 1)"),
        ("to string", "return new Array(1e9) + ''"),
        ("raw", "return String.raw({ raw: { length: 2 ** 53 - 1 } })"),
    ];
    Street::new().await.meet_all(BOUNDED, &cases).await;
}

#[tokio::test]
async fn texts_are_searched_within_bounds() {
    let cases = [
        ("includes", "return 'a'.repeat(4e6).includes('a'.repeat(2e6) + 'b')"),
        ("indexOf", "return 'a'.repeat(4e6).indexOf('a'.repeat(2e6) + 'b')"),
        ("lastIndexOf", "for (;;) 'a'.repeat(4e6).lastIndexOf('b' + 'a'.repeat(2e6))"),
        ("split", "return 'a'.repeat(4e6).split('a'.repeat(2e6) + 'b').length"),
        (
            "replaceAll of much",
            "return 'a'.repeat(4e6).replaceAll('a'.repeat(2e6) + 'b', '').length",
        ),
        ("replaceAll by much", "return 'a'.repeat(1e6).replaceAll('a', 'b'.repeat(1000)).length"),
        ("replace by its surroundings", "return 'a'.repeat(1e4).replace(/a/g, \"$`$'\").length"),
        (
            "localeCompare",
            "const a = 'e\\u0301'.repeat(1e6); for (let i = 0; i < 1e5; i++) a.localeCompare(a + i)",
        ),
        (
            "normalize",
            "let s = '\\ufdfa'.repeat(5e5); for (let i = 0; i < 1e5; i++) s.normalize('NFKD')",
        ),
        ("encode", "let s = '%'; for (let i = 0; i < 99; i++) s = encodeURIComponent(s + s)"),
        ("upper case", "const s = '\\u0390'.repeat(2e6); for (;;) s.toUpperCase()"),
        ("repeat and trim", "for (;;) ' '.repeat(7e6).trim()"),
        (
            "class of 30,000",
            "const s = Array.from({ length: 30000 }, (_, i) => String.fromCodePoint(0x4e00 + i % 20000)).join(''); for (;;) new RegExp('[' + s + ']', 'ui')",
        ),
        (
            "classes of properties",
            r"for (;;) new RegExp('[' + '\\p{L}\\p{N}\\p{Script=Greek}'.repeat(500) + ']', 'ui')",
        ),
        (
            "nested sets",
            r"for (;;) new RegExp('['.repeat(60) + '\\p{L}--\\p{Lu}' + ']'.repeat(60), 'v')",
        ),
        (
            "nested counts",
            "for (;;) new RegExp('((((a{1,99}){1,99}){1,99}){1,99}){1,99}').test('a'.repeat(99))",
        ),
    ];
    Street::new().await.meet_all(BOUNDED, &cases).await;
}

/// One call into the engine that is long by itself: it may be done in time on a fast machine.
#[tokio::test]
async fn one_long_step_is_bounded() {
    let street = Street::new().await;
    let class = "Array.from({ length: 30000 }, (_, i) => String.fromCodePoint(0x4e00 + i % 20000)).join('')";
    let pattern = format!("return new RegExp('[' + {class} + ']', 'ui').test('x')");
    let cases = [
        ("one class of 30,000", &*pattern, "false"),
        ("parse zeros", "return JSON.parse('[' + '0,'.repeat(5e5) + '0]').length", "500001"),
        ("parse objects", "return JSON.parse('[' + '{},'.repeat(2e5) + '{}]').length", "200001"),
        (
            "parse a text",
            "return JSON.parse('\"' + '\\\\u0061'.repeat(1e6) + '\"').length",
            "1000000",
        ),
        ("parse digits", "return JSON.parse('1'.repeat(5e6)) > 1", "true"),
        ("divide", "return String((1n << 1000000n) / 7n).length > 1", "true"),
        ("digits", "return String(3n ** 660000n).length > 1", "true"),
        ("read digits", "return BigInt('7'.repeat(3e5)) > 1n", "true"),
        ("power", "return 3n ** 660000n > 1n", "true"),
        (
            "multiply",
            "let b = 3n ** 300000n; for (let i = 0; i < 99; i++) b * b; return b > 1n",
            "true",
        ),
        ("remainder", "return (3n ** 600000n) % (7n ** 200000n) > 1n", "true"),
    ];
    for (name, body, done) in cases {
        let codes = [BOUNDED, &[done]].concat();
        street.meet(name, &function(body), "{}", &codes).await;
    }
}

#[tokio::test]
async fn what_is_written_many_times_over_is_bounded() {
    let dag = |levels: u32| format!("let a = []; for (let i = 0; i < {levels}; i++) a = [a, a];");
    let shared = format!("{} return a", dag(24));
    let more = format!("{} return JSON.stringify(a).length", dag(40));
    let members = "let a = {}; for (let i = 0; i < 40; i++) a = { a, b: a }; return a";
    let cases = [
        ("shared", &*shared),
        ("shared, by itself", &more),
        ("shared members", members),
        ("sparse", "const a = []; a.length = 2 ** 32 - 1; return a"),
        (
            "sparse, by itself",
            "const a = []; a.length = 2 ** 32 - 1; return JSON.stringify(a).length",
        ),
        ("indented", "return JSON.stringify(Array(1e6).fill([]), null, 10).length"),
        ("replaced", "return JSON.stringify([1], () => [1])"),
        ("toJSON of more", "const o = { toJSON() { return [o, o] } }; return o"),
        ("console", "let a = []; for (let i = 0; i < 40; i++) a = [a, a]; console.log(a)"),
        ("thrown", "let a = []; for (let i = 0; i < 40; i++) a = [a, a]; throw a"),
        ("text", "let a = []; for (let i = 0; i < 40; i++) a = [a, a]; return String(a)"),
        ("flat", "let a = []; for (let i = 0; i < 40; i++) a = [a, a]; return a.flat(Infinity)"),
    ];
    let codes = [BOUNDED, &["!output_too_large", "!output_too_deep"]].concat();
    Street::new().await.meet_all(&codes, &cases).await;
}
