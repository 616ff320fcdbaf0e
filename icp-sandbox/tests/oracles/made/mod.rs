//! Cases that are made up, the same ones in every run.
//!
//! The grammars leave out what the implementations are known to differ in; the written cases
//! have an example of each such thing, and the table of differences its reason.

mod jmespath;
mod jsonata;
mod schema;

use serde_json::{Map, Value, json};

pub(crate) use jmespath::jmespath;
pub(crate) use jsonata::jsonata;
pub(crate) use schema::schema;

use crate::chance::Chance;

const TEXTS: [&str; 6] = ["", "a", "b", "ab", "x y", "é"];

/// A value of at most so many levels. Names come in order, as some engines keep it and some sort.
fn value(chance: &mut Chance, levels: usize) -> Value {
    match chance.below(if levels == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => chance.is(50).into(),
        2 => chance.one(&TEXTS).into(),
        3 => (chance.below(12) as i64 - 3).into(),
        4 => json!(chance.below(40) as f64 / 4.0),
        5 => (0..chance.below(4)).map(|_| value(chance, levels - 1)).collect(),
        6 => numbers(chance),
        _ => object(chance, levels - 1),
    }
}

fn object(chance: &mut Chance, levels: usize) -> Value {
    let mut members = Map::new();
    for name in ["a", "b", "c"] {
        if chance.is(70) {
            members.insert(name.to_owned(), value(chance, levels));
        }
    }
    Value::Object(members)
}

fn numbers(chance: &mut Chance) -> Value {
    (0..chance.below(5)).map(|_| Value::from(chance.below(9))).collect()
}

/// Objects that are alike, as the rows of a table.
fn rows(chance: &mut Chance) -> Value {
    let row = |chance: &mut Chance| {
        json!({
            "k": chance.one(&TEXTS),
            "n": chance.below(9),
            "on": chance.is(50),
            "sub": { "n": chance.below(4) },
        })
    };
    (0..chance.below(5)).map(|_| row(chance)).collect()
}

/// A document with members of every kind.
fn document(chance: &mut Chance) -> Value {
    json!({
        "a": value(chance, 2),
        "b": object(chance, 2),
        "n": chance.below(9),
        "ns": numbers(chance),
        "rows": rows(chance),
        "s": chance.one(&TEXTS),
    })
}
