//! Filters: any condition on any document.

use icp_core::integration::filter::{CompiledFilter, Filter, Verdict};
use icp_fuzz::Draw;
use serde_json::{Map, Value, json};

const OPERATORS: &[&str] = &[
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$exists",
    "$starts_with",
    "$ends_with",
    "$contains",
    "$not",
];
const EXPRESSIONS: &[&str] = &[
    "data.a",
    "id == 'a'",
    "data.lines[?a > `1`]",
    "!data",
    "length(data)",
    "contains(id, 'a')",
    "data.lines[*].a | [0]",
    "type == `null` || data.b",
    "sort(data.lines)",
    "data[",
    "",
];

#[test]
fn filters() {
    bolero::check!().with_iterations(6_000).with_max_len(512).for_each(target);
}

fn target(bytes: &[u8]) {
    let mut draw = Draw::of(bytes);
    let spec = condition(&mut draw, 4);
    let document = json!({ "id": draw.text(), "type": "order.paid", "data": draw.value(4) });
    let Some(filter) = compiled(&spec) else { return };
    let verdict = filter.matches(&document);
    assert_eq!(verdict, filter.matches(&document));
    let is_match = verdict == Verdict::Match;
    if !filter.reads_data() {
        let mut other = document.clone();
        other["data"] = "of another event".into();
        assert_eq!(filter.matches(&other) == Verdict::Match, is_match, "{spec} of {document}");
    }
    // An expression stands alone: among conditions the name is a path.
    if spec.get("jmespath").is_some() {
        return;
    }
    // A wrapped filter may be one level, or a few nodes, too many.
    for (wrapped, expected) in [
        (json!({ "$not": spec }), !is_match),
        (json!({ "$and": [spec, {}] }), is_match),
        (json!({ "$or": [spec, spec] }), is_match),
    ] {
        if let Some(filter) = compiled(&wrapped) {
            let found = filter.matches(&document) == Verdict::Match;
            assert_eq!(found, expected, "{wrapped} of {document}");
        }
    }
}

fn compiled(spec: &Value) -> Option<CompiledFilter> {
    let filter: Filter = serde_json::from_value(spec.clone()).ok()?;
    let again: Filter = serde_json::from_value(serde_json::to_value(&filter).unwrap()).unwrap();
    assert_eq!(again, filter);
    filter.compile("/filter").ok()
}

fn condition(draw: &mut Draw<'_>, levels: usize) -> Value {
    if levels == 4 && draw.rarely(6) {
        return json!({ "jmespath": draw.one(EXPRESSIONS) });
    }
    let mut members = Map::new();
    for _ in 0..draw.below(3) {
        match draw.below(6) {
            0 if levels > 0 => {
                let group = draw.one(&["$and", "$or"]).to_owned();
                let of = (0..=draw.below(3)).map(|_| condition(draw, levels - 1)).collect();
                members.insert(group, of);
            }
            1 if levels > 0 => _ = members.insert("$not".into(), condition(draw, levels - 1)),
            _ => _ = members.insert(draw.path(), test(draw, levels)),
        }
    }
    members.into()
}

fn test(draw: &mut Draw<'_>, levels: usize) -> Value {
    if draw.rarely(3) {
        return draw.value(1);
    }
    let mut operators = Map::new();
    for _ in 0..=draw.below(2) {
        let operator = draw.one(OPERATORS);
        let operand = match operator {
            "$in" | "$nin" => (0..draw.below(4)).map(|_| draw.value(1)).collect(),
            "$exists" => draw.rarely(2).into(),
            "$not" if levels > 0 => test(draw, levels - 1),
            _ => draw.value(1),
        };
        operators.insert(operator.to_owned(), operand);
    }
    operators.into()
}
