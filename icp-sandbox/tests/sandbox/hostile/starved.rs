//! Ordinary scripts with too little memory: crashes are allowed, beside a host that never does.

use icp_sandbox::{Limits, Sandbox};
use serde_json::json;

use crate::fixture::{builder, function, outcome, sandbox};

/// Scripts as people write them; each works with enough memory.
const SCRIPTS: &[&str] = &[
    "return payload.lines.map((line) => ({ ...line, total: line.n * 2 }))",
    "const m = new Map(payload.lines.map((l) => [l.sku, l])); return [...m.values()].sort((a, b) => b.n - a.n)",
    "return (async () => { const all = await Promise.all(payload.lines.map(async (l) => l.n)); return all })()",
    "const add = function (a, b) { return this.n + a + b }; return payload.lines.map((l) => add.bind(l, 1)(2))",
    "return JSON.parse(JSON.stringify(payload)).lines.map((l) => l.sku.replace(/[a-z]/g, (c) => c.toUpperCase()))",
    "class Line { constructor(l) { Object.assign(this, l) } get total() { return this.n } } return payload.lines.map((l) => new Line(l).total)",
    "const groups = Object.groupBy(payload.lines, (l) => l.n % 3); return Object.entries(groups)",
    "let text = ''; for (const l of payload.lines) text += `${l.sku}: ${l.n}\\n`; return text",
    "function* pairs() { for (const l of payload.lines) yield [l.sku, l.n] } return Object.fromEntries(pairs())",
    "return payload.lines.filter((l) => /^s1/.test(l.sku)).reduce((sum, l) => sum + l.n, 0)",
    "try { null.x } catch (e) { return { failed: e.message, lines: payload.lines.length } }",
    "const { lines: [first, ...others] } = payload; return { first, others: others.length }",
    "return new Date(0).toISOString() + context.base64.encode(JSON.stringify(payload.lines))",
    "const seen = new Set(); return payload.lines.filter((l) => !seen.has(l.n % 5) && seen.add(l.n % 5))",
    "const sum = async (i) => i < payload.lines.length ? payload.lines[i].n + await sum(i + 1) : 0; return sum(0)",
    "console.log('lines', payload.lines); return String(payload.lines.reduce((a, l) => a * BigInt(l.n + 1), 1n))",
];

fn input() -> String {
    let lines: Vec<_> = (0..20).map(|n| json!({ "sku": format!("s{n}"), "n": n })).collect();
    json!({ "lines": lines }).to_string()
}

fn starved(heap_bytes: u32) -> Sandbox {
    let mut limits = Limits::default();
    limits.heap_bytes = heap_bytes;
    builder().limits(limits).build().unwrap()
}

/// An engine without memory may lose a reaction, and says so to nobody.
const ENDS: &[&str] = &["!memory", "!crashed", "!runtime", "!never_settled", "!stack"];

#[tokio::test]
async fn ordinary_scripts_end_whatever_the_memory() {
    let (fed, input) = (sandbox(), input());
    let mut whole = Vec::new();
    for body in SCRIPTS {
        let found = outcome(&fed, "acme", &function(body), &input).await;
        assert!(!found.starts_with('!'), "{body}: {found}");
        whole.push(found);
    }
    let (mut ended, mut done) = (0, 0);
    for step in 0..16 {
        // Steps that are no multiple of anything an allocator would round to.
        let bytes = 40_000 + step * 7_919;
        let sandbox = starved(bytes);
        for (body, whole) in SCRIPTS.iter().zip(&whole) {
            let found = outcome(&sandbox, "acme", &function(body), &input).await;
            match ENDS.contains(&&*found) {
                true => ended += 1,
                false => {
                    assert_eq!(found, *whole, "{bytes} bytes: {body}");
                    done += 1;
                }
            }
        }
        assert_eq!(outcome(&fed, "other", &function("return 7"), "{}").await, "7");
    }
    assert!(ended > 16 && done > 16, "{ended} ended, {done} done: the sweep missed the edge");
}
