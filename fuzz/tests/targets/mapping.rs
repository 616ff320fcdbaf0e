//! Mappings: any rules on any payload, in the process of the host.

use icp_core::transform::{InPlace, MAX_OUTPUT, Outcome, PlanSpec};
use icp_fuzz::Draw;
use serde_json::{Value, json};

use crate::world::{block_on, run, tables};

const CASTS: &[&str] =
    &["trim", "upper", "lower", "date", "string", "number", "integer", "boolean"];

#[test]
fn mappings() {
    bolero::check!().with_iterations(4_000).with_max_len(1_024).for_each(target);
}

fn target(bytes: &[u8]) {
    let mut draw = Draw::of(bytes);
    let steps: Vec<_> = (0..=draw.below(2)).map(|_| json!({ "map": spec(&mut draw) })).collect();
    let payload = draw.value(5).to_string().into_bytes();
    let Ok(spec) = serde_json::from_value::<PlanSpec>(json!(steps)) else { return };
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(serde_json::from_value::<PlanSpec>(written).unwrap(), spec);
    let Ok(plan) = spec.compile("/transform") else { return };
    // A plan is the same wherever it is compiled from its text.
    assert_eq!(PlanSpec::compile_text(plan.text()).unwrap().digest(), plan.digest());
    let tables = tables();
    let (first, again) = block_on(async {
        let first = run(&InPlace, &plan, payload.clone(), &tables).await;
        (first, run(&InPlace, &plan, payload, &tables).await)
    });
    assert_eq!(first, again);
    let Ok(report) = first else { return };
    assert!(report.warnings.len() <= 40, "{:?}", report.warnings);
    if let Outcome::Value(bytes) = report.outcome {
        assert!(bytes.len() <= MAX_OUTPUT);
        // Reading it back shows that it has no more levels than anybody reads.
        serde_json::from_slice::<Value>(&bytes).unwrap();
    }
}

fn spec(draw: &mut Draw<'_>) -> Value {
    let rules: Vec<_> = (0..draw.below(7)).map(|_| rule(draw, true)).collect();
    let remove: Vec<_> = (0..draw.below(3)).map(|_| format!("a.{}", draw.path())).collect();
    let mut spec = json!({ "base": draw.one(&["copy", "empty"]), "rules": rules });
    if draw.rarely(4) {
        spec["remove"] = remove.into();
    }
    if draw.rarely(6) {
        let when = json!({ draw.path(): draw.value(1) });
        spec["drop"] = json!({ "when": when, "reason": draw.text() });
    }
    spec
}

fn rule(draw: &mut Draw<'_>, outermost: bool) -> Value {
    let mut rule = json!({ "target": draw.path() });
    match draw.below(6) {
        0 => {
            rule["const"] = draw.value(2);
            return rule;
        }
        1 => rule["template"] = draw.template().into(),
        2 if outermost => {
            rule["from"] = draw.one(&["@", "lines", "data.lines"]).into();
            rule["each"] = (0..=draw.below(3)).map(|_| self::rule(draw, false)).collect();
            return rule;
        }
        _ => rule["from"] = draw.path().into(),
    }
    if draw.rarely(3) {
        rule["cast"] = draw.one(CASTS).into();
    }
    if draw.rarely(4) {
        rule["lookup"] = lookup(draw);
    }
    match draw.below(6) {
        0 => rule["default"] = draw.value(1),
        1 => rule["required"] = true.into(),
        _ => {}
    }
    rule
}

fn lookup(draw: &mut Draw<'_>) -> Value {
    let mut lookup = json!({ "table": draw.one(&["t", "t", "t", "t", "t", "t", "t", "other"]) });
    if draw.rarely(3) {
        lookup["reverse"] = draw.one(&["@", "a", "b"]).into();
    }
    if draw.rarely(3) {
        lookup["field"] = draw.path().into();
    }
    if draw.rarely(2) {
        lookup["on_missing"] = draw.one(&["error", "default", "keep"]).into();
    }
    lookup
}
