//! JMESPath expressions.

use super::document;
use crate::chance::Chance;
use crate::compare::Case;

/// So many cases whose text has none of the parts.
pub(crate) fn jmespath(seed: u64, count: usize, without: &[&str]) -> Vec<Case> {
    let mut chance = Chance::of(seed);
    let mut cases = Vec::new();
    while cases.len() < count {
        let program = expression(&mut chance, 3);
        if without.iter().any(|part| program.contains(part)) {
            continue;
        }
        cases.push(Case { program: program.into(), input: document(&mut chance) });
    }
    cases
}

fn expression(chance: &mut Chance, levels: usize) -> String {
    if levels == 0 {
        return leaf(chance);
    }
    let mut part = || expression(chance, levels - 1);
    let (one, two) = (part(), part());
    match chance.below(16) {
        0 => leaf(chance),
        1 => format!("{one}.{}", name(chance)),
        2 => format!("({one})[{}]", chance.below(5) as i64 - 2),
        3 => format!("({one})[*].{}", name(chance)),
        4 => format!("({one})[].{}", name(chance)),
        5 => format!("({one})[?{}]", condition(chance)),
        6 => format!("({one})[{}]", slice(chance)),
        7 => format!("{{p: {one}, q: {two}}}"),
        8 => format!("[{one}, {two}]"),
        9 => format!("{one} | {two}"),
        10 => format!("({one} || {two})"),
        11 => format!("({one} && {two})"),
        12 => format!("!({one})"),
        13 => format!("({one} {} {two})", chance.one(&["==", "!="])),
        _ => call(chance, &one, &two),
    }
}

fn leaf(chance: &mut Chance) -> String {
    match chance.below(10) {
        0 => "@".to_owned(),
        1 => format!("`{}`", chance.below(5)),
        2 => format!("'{}'", chance.one(&["a", "x y", ""])),
        3 => chance.one(&["`[1,2]`", "`{\"a\":1}`", "`null`", "`true`"]).to_owned(),
        4 => "rows[*].n".to_owned(),
        5 => format!("b.{}", name(chance)),
        _ => name(chance).to_owned(),
    }
}

fn name(chance: &mut Chance) -> &'static str {
    chance.one(&["a", "b", "c", "n", "ns", "rows", "s", "k", "sub", "\"on\"", "missing"])
}

fn condition(chance: &mut Chance) -> String {
    let order = chance.one(&["<", "<=", ">", ">="]);
    let number = chance.below(9);
    match chance.below(6) {
        0 => format!("n {order} `{number}`"),
        1 => format!("n == `{number}` || \"on\""),
        2 => format!("sub.n {order} `2` && k != 'a'"),
        3 => "!\"on\"".to_owned(),
        4 => format!("@ {order} `{number}`"),
        _ => name(chance).to_owned(),
    }
}

fn slice(chance: &mut Chance) -> String {
    let mut bound = || match chance.is(40) {
        true => String::new(),
        false => (chance.below(7) as i64 - 3).to_string(),
    };
    let (from, to) = (bound(), bound());
    format!("{from}:{to}:{}", chance.one(&["", "1", "2", "-1"]))
}

fn call(chance: &mut Chance, one: &str, two: &str) -> String {
    match chance.below(16) {
        0 => format!("length({one})"),
        1 => format!("type({one})"),
        2 => format!("not_null({one}, {two})"),
        3 => format!("to_array({one})"),
        4 => format!("to_number({one})"),
        5 => "sort(ns)".to_owned(),
        6 => format!("sort_by(rows, &{})", chance.one(&["n", "k", "sub.n"])),
        7 => format!("{}(ns)", chance.one(&["sum", "max", "min", "reverse", "avg"])),
        8 => format!("{}(rows, &n)", chance.one(&["max_by", "min_by"])),
        9 => format!("contains(ns, `{}`)", chance.below(9)),
        10 => format!("map(&{}, rows)", chance.one(&["n", "k", "missing", "sub.n"])),
        11 => format!("{}(n)", chance.one(&["abs", "ceil", "floor"])),
        12 => format!("{}(b)", chance.one(&["keys", "values"])),
        13 => format!("merge(b, {{z: {one}}})"),
        14 => format!("join('-', {})", chance.one(&["rows[].k", "ns", "[s, s]"])),
        _ => format!(
            "{}(s, '{}')",
            chance.one(&["starts_with", "ends_with"]),
            chance.one(&["a", ""])
        ),
    }
}
