//! JSONata expressions.

use super::document;
use crate::chance::Chance;
use crate::compare::Case;

/// So many cases.
pub(crate) fn jsonata(seed: u64, count: usize) -> Vec<Case> {
    let mut chance = Chance::of(seed);
    let case = |_| {
        let program = expression(&mut chance, 3).into();
        Case { program, input: document(&mut chance) }
    };
    (0..count).map(case).collect()
}

fn expression(chance: &mut Chance, levels: usize) -> String {
    if levels == 0 {
        return leaf(chance);
    }
    let mut part = || expression(chance, levels - 1);
    let (one, two) = (part(), part());
    match chance.below(16) {
        0 => leaf(chance),
        1 => format!("({one}).{}", name(chance)),
        2 => format!("({one})[{}]", chance.below(4) as i64 - 1),
        3 => format!("rows[{}]", condition(chance)),
        4 => format!("[{one}, {two}]"),
        5 => format!("{{\"p\": {one}, \"q\": {two}}}"),
        6 => format!("({one}) = ({two})"),
        7 => format!("({} ? {one} : {two})", condition(chance)),
        8 => format!("({}) {} ({})", number(chance), chance.one(&["+", "-", "*"]), number(chance)),
        9 => format!("$string({}) & ({})", number(chance), text(chance)),
        10 => format!("(( $v := {one}; [$v, {two}] ))"),
        11 => format!("rows^({}n).k", chance.one(&["<", ">"])),
        // See the table of differences for groups of nothing, and for `$exists($)` below.
        12 => format!("(rows ? rows{{k: {}}})", chance.one(&["$sum(n)", "$count(n)", "n"])),
        _ => call(chance, &one),
    }
}

fn leaf(chance: &mut Chance) -> String {
    match chance.below(9) {
        0 => "$".to_owned(),
        1 => number(chance),
        2 => text(chance),
        3 => chance.one(&["true", "false", "null", "[]", "[1..3]"]).to_owned(),
        4 => "rows.n".to_owned(),
        5 => format!("b.{}", name(chance)),
        _ => name(chance).to_owned(),
    }
}

fn name(chance: &mut Chance) -> &'static str {
    chance.one(&["a", "b", "c", "n", "ns", "rows", "s", "k", "sub.n", "`on`", "missing"])
}

fn number(chance: &mut Chance) -> String {
    match chance.below(5) {
        0 => "n".to_owned(),
        1 => "$sum(ns)".to_owned(),
        2 => "$count(rows)".to_owned(),
        _ => chance.below(9).to_string(),
    }
}

fn text(chance: &mut Chance) -> String {
    let literal = chance.one(&["\"a\"", "\"x y\"", "\"\"", "'é'"]);
    match chance.below(6) {
        0 => "s".to_owned(),
        1 => format!("$uppercase({literal})"),
        2 => "$substring(s, 1)".to_owned(),
        3 => "$join(rows.k, \"-\")".to_owned(),
        _ => literal.to_owned(),
    }
}

fn condition(chance: &mut Chance) -> String {
    let order = chance.one(&["<", "<=", ">", ">="]);
    let bound = chance.below(9);
    match chance.below(5) {
        0 => format!("n {order} {bound}"),
        1 => format!("n = {bound} or `on`"),
        2 => format!("sub.n {order} 2 and k != \"a\""),
        3 => "$not(`on`)".to_owned(),
        _ => format!("k in [\"a\", {bound}]"),
    }
}

fn call(chance: &mut Chance, one: &str) -> String {
    match chance.below(14) {
        0 => format!("$count({one})"),
        1 => format!("$exists({})", name(chance)),
        2 => format!("$type({one})"),
        3 => format!("$boolean({one})"),
        4 => format!("$map(ns, function($v) {{ $v {} 2 }})", chance.one(&["+", "*", "-"])),
        5 => format!("$filter(rows, function($r) {{ $r.n > {} }})", chance.below(9)),
        6 => "$reduce(ns, function($a, $b) { $a + $b }, 0)".to_owned(),
        7 => format!("$append({one}, ns)"),
        8 => format!("{}(ns)", chance.one(&["$max", "$min", "$reverse", "$sort", "$distinct"])),
        9 => "$keys(b)".to_owned(),
        10 => format!("$lookup(b, \"{}\")", chance.one(&["a", "b", "c"])),
        11 => format!("$merge([b, {{\"z\": {one}}}])"),
        12 => format!("$split(s, {})", chance.one(&["\" \"", "\"\"", "/b/"])),
        _ => format!("{}({})", chance.one(&["$abs", "$floor", "$ceil", "$sqrt"]), number(chance)),
    }
}
