//! Expressions that mean harm.

use icp_sandbox::Limits;
use serde_json::{Map, Value, json};

use super::Street;
use crate::fixture::plan;

/// How expressions end.
const ENDS: &[&str] = &[
    "!compile",
    "!runtime",
    "!crashed",
    "!memory",
    "!stack",
    "!timeout",
    "!timeout_hard",
    "!output_too_large",
    "!output_too_deep",
];

async fn meet(street: &Street, language: &str, name: &str, source: &str, codes: &[&str]) {
    let mut step = Map::new();
    step.insert(language.to_owned(), json!({ "source": source }));
    let codes = [ENDS, codes].concat();
    street.meet(name, &plan(Value::from(vec![step])), "\"xxxxxxxx\"", &codes).await;
}

fn nested(open: &str, close: &str, times: usize) -> String {
    format!("{}@{}", open.repeat(times), close.repeat(times))
}

#[tokio::test]
async fn jmespath_ends() {
    let street = Street::new().await;
    let piped = |step: &str, times: usize| format!("@ {}", format!("| {step} ").repeat(times));
    for (name, source) in [
        ("parens", "(".repeat(8_000)),
        ("closed parens", nested("(", ")", 4_000)),
        ("lists", "[".repeat(8_000)),
        ("closed lists", nested("[", "]", 4_000)),
        ("hashes", "{a:".repeat(2_500)),
        ("not", "!".repeat(8_000)),
        ("filters", "[?".repeat(4_000)),
        ("flattened", "[]".repeat(4_000)),
        ("projected", format!("@{}", "[*]".repeat(2_500))),
        ("dots", format!("a{}", ".a".repeat(4_000))),
        ("pipes", format!("@{}", "|@".repeat(4_000))),
        ("or", format!("`false`{}", "||`false`".repeat(800))),
        ("not_null", nested("not_null(", ")", 800)),
        ("to_array", nested("to_array(", ")", 800)),
        ("let", format!("{}@", "let $a = @ in ".repeat(550))),
        ("literal", format!("`{}`", "[".repeat(7_000))),
        ("doubled", piped("[@,@]", 26)),
        ("doubled members", piped("{a:@,b:@}", 26)),
        ("joined", piped("join('',[@,@])", 28)),
        ("joined and doubled", piped("[@,@] | [join('', @), join('', @)] | join('', @)", 20)),
        ("merged", piped("to_string([@,@])", 26)),
        ("contained", format!("{} | contains(@, 'y')", piped("join('',[@,@])", 20))),
        ("sorted", format!("{} | sort(@)", piped("[@[],@[]][]", 24))),
    ] {
        // Long, and harmless where it parses; doubled texts may just fit.
        let codes: &[&str] = match name {
            "doubled" | "doubled members" | "joined" | "merged" => &[],
            _ => &["null", "\"xxxxxxxx\"", "[]", "[\"xxxxxxxx\"]", "true", "false"],
        };
        meet(&street, "jmespath", name, &source, codes).await;
    }
}

#[tokio::test]
async fn the_longest_jmespath_ends() {
    let mut limits = Limits::default();
    limits.jmespath_bytes = Limits::MAX.jmespath_bytes;
    let street = Street::with(limits).await;
    for (name, source) in [
        ("not_null", nested("not_null(", ")", 1_600)),
        ("parens", nested("(", ")", 8_000)),
        ("hashes", format!("{}@{}", "{a:".repeat(4_000), "}".repeat(4_000))),
        ("let", format!("{}@", "let $a = @ in ".repeat(1_150))),
    ] {
        meet(&street, "jmespath", name, &source, &["\"xxxxxxxx\"", "null"]).await;
    }
}

#[tokio::test]
async fn jsonata_ends() {
    let street = Street::new().await;
    let grown = |step: &str, times: u32| {
        format!("($f := function($v, $n) {{ $n = 0 ? $v : $f({step}, $n - 1) }}; $f('x', {times}))")
    };
    let string_of = format!("$string({})", grown("[$v, $v]", 40));
    let replaced = grown("$replace($v, 'x', 'xxxxxxxxxx')", 12);
    let sorted = "$sort([1..3000], function($a, $b) { $sum([1..1000]) > 0 })";
    for (name, source) in [
        ("pad", "$pad('x', 2000000000)"),
        ("pad to the left", "$pad('x', -2000000000)"),
        ("replace", &*replaced),
        ("shared", &*string_of),
        ("shared result", &grown("{'a': $v, 'b': $v}", 40)),
        ("doubled", &grown("$v & $v", 40)),
        ("appended", &grown("$append($v, $v)", 40)),
        ("joined", &grown("$join([$v, $v, $v])", 30)),
        ("merged", &grown("$merge([{$string($n): $v}, $v])", 400)),
        ("encoded", &grown("$base64encode($v & $v)", 40)),
        ("escaped", &grown("$encodeUrlComponent($v & $v & '%')", 40)),
        ("recursion", "($f := function() { 1 + $f() }; $f())"),
        ("mutual", "($f := function() { 1 + $g() }; $g := function() { 1 + $f() }; $f())"),
        ("tail loop", "($f := function() { $f() }; $f())"),
        ("range", "[1..10000000]"),
        ("huge range", "[0..9007199254740991]"),
        ("ranges of ranges", "[1..1000].([1..1000])"),
        ("split", "$count($split($pad('x', 5000000), ''))"),
        ("split by a pattern", "$count($split($pad('x', 5000000, 'x'), /x/))"),
        ("sort", sorted),
        ("reduce", "$reduce([1..90000], function($a, $b) { $append($a, $b) })"),
        ("map", "$map([1..90000], function($a) { $map([1..90000], function($b) { $a }) })"),
        ("each", "$each($merge([1..5000].{$string($): $}), function($v) { $string([1..5000]) })"),
        ("zip", "$zip([1..90000], [1..90000], [1..90000])"),
        ("spread", "$spread([1..90000].{'a': $, 'b': $})"),
        ("power", "$power(10, 400)"),
        ("number picture", "$formatNumber(1, $pad('0', 5000000, '0'))"),
        ("integer picture", "$formatInteger(1, $pad('0', 5000000, '0'))"),
        ("date picture", "$fromMillis(1, $pad('[Y]', 5000000, '[Y]'))"),
        ("date read", "$toMillis($pad('1', 100000, '1'), '[Y]')"),
        ("regex", "$match($pad('a', 100000, 'a'), /(a*)*b/)"),
        ("regex counts", "$match('a', /((a{1000}){1000}){1000}/)"),
        ("eval", "$eval('1')"),
        ("asserted", "$assert(false, $pad('x', 5000000))"),
        ("error", "$error($pad('x', 5000000))"),
        ("parens", &"(".repeat(10_000)),
        ("arrays", &"[".repeat(10_000)),
        ("objects", &"{'a':".repeat(3_000)),
        ("functions", &"function(){".repeat(1_400)),
        ("choices", &"1?1:".repeat(4_000)),
        ("signs", &"-".repeat(16_000)),
        ("steps", &format!("a{}", ".a".repeat(8_000))),
        ("chained", &format!("1{}", "~>$string".repeat(1_500))),
        ("added", &format!("1{}", "+1".repeat(8_000))),
    ] {
        // What takes linear time may be done, and then finds nothing or just that.
        let codes: &[&str] = match name {
            "regex" | "split" | "split by a pattern" | "steps" | "regex counts" | "sort"
            | "each" | "spread" | "zip" => &["!no_result", "5000000"],
            "date read" => &["-62198755200000"],
            "added" => &["8001"],
            "chained" => &["\"1\""],
            "signs" => &["1"],
            _ => &[],
        };
        meet(&street, "jsonata", name, source, codes).await;
    }
}
