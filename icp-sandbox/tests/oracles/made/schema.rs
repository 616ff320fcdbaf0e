//! Schemas of draft 2020-12, and payloads for them.

use serde_json::{Map, Value, json};

use super::value;
use crate::chance::Chance;
use crate::compare::Case;

/// So many cases: three payloads for each schema.
pub(crate) fn schema(seed: u64, count: usize) -> Vec<Case> {
    let mut chance = Chance::of(seed);
    let mut cases = Vec::new();
    while cases.len() < count {
        let program = whole(&mut chance);
        for _ in 0..3 {
            let input = value(&mut chance, 3);
            cases.push(Case { program: program.clone(), input });
        }
    }
    cases
}

fn whole(chance: &mut Chance) -> Value {
    let mut schema = Map::new();
    for _ in 0..=chance.below(3) {
        keyword(chance, 3, &mut schema);
    }
    schema.insert("$defs".to_owned(), json!({ "d": part(chance, 0), "e": part(chance, 1) }));
    Value::Object(schema)
}

fn part(chance: &mut Chance, levels: usize) -> Value {
    if chance.is(6) {
        return chance.is(60).into();
    }
    let mut schema = Map::new();
    for _ in 0..=chance.below(2) {
        keyword(chance, levels, &mut schema);
    }
    Value::Object(schema)
}

fn keyword(chance: &mut Chance, levels: usize, schema: &mut Map<String, Value>) {
    let (name, value) = match chance.below(if levels == 0 { 12 } else { 28 }) {
        0..=2 => ("type", json!(kind(chance))),
        3 => ("type", json!(["null", kind(chance)])),
        4 => ("enum", choice(chance)),
        5 => ("const", value(chance, 1)),
        6 => bound(chance, &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
        7 => ("multipleOf", json!(chance.below(3) + 1)),
        8 => bound(chance, &["minLength", "maxLength", "minItems", "maxItems"]),
        9 => bound(chance, &["minProperties", "maxProperties"]),
        10 => ("pattern", chance.one(&["^a", "b$", "^[a-z ]*$", "."]).into()),
        11 => ("required", json!([chance.one(&["a", "b", "c"])])),
        12 => ("uniqueItems", json!(true)),
        13 => ("dependentRequired", json!({ "a": ["b"] })),
        14 => ("$ref", format!("#/$defs/{}", chance.one(&["d", "d"])).into()),
        15..=27 => applicator(chance, levels - 1),
        _ => return,
    };
    schema.insert(name.to_owned(), value);
}

/// Some neighbours in a list of values.
fn choice(chance: &mut Chance) -> Value {
    let all = [json!(0), json!("a"), json!(null), json!([]), json!(1), json!(""), json!(false)];
    let from = chance.below(all.len());
    all.into_iter().skip(from).take(1 + chance.below(3)).collect()
}

fn kind(chance: &mut Chance) -> &'static str {
    chance.one(&[
        "object", "array", "string", "number", "integer", "boolean", "null", "object", "array",
    ])
}

fn bound(chance: &mut Chance, names: &[&'static str]) -> (&'static str, Value) {
    (chance.one(names), chance.below(4).into())
}

fn applicator(chance: &mut Chance, levels: usize) -> (&'static str, Value) {
    let mut one = || part(chance, levels);
    let (first, second, third) = (one(), one(), one());
    match chance.below(17) {
        0..=2 => ("properties", json!({ "a": first, "b": second, "c": third })),
        3 => ("additionalProperties", first),
        4 => ("patternProperties", json!({ "^[ab]$": first })),
        5 => ("propertyNames", json!({ "maxLength": chance.below(3) })),
        6 => ("items", first),
        7 => ("prefixItems", json!([first, second])),
        8 => ("contains", first),
        9 => ("allOf", json!([first, second])),
        10 => ("anyOf", json!([first, second])),
        11 => ("oneOf", json!([first, second, third])),
        12 => ("not", first),
        13 => ("dependentSchemas", json!({ "a": first })),
        14 => ("unevaluatedProperties", first),
        15 => ("unevaluatedItems", first),
        _ => ("allOf", json!([{ "if": first, "then": second, "else": third }])),
    }
}
