use serde_json::{Value, json};

use super::*;
use crate::access::{Unit, UnitTree};
use crate::error::Violation;
use crate::lookup::Lookups;
use crate::transform::mapping::{MAX_LOOKUPS, MappingSpec};

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn tables() -> Lookups {
    let unit = |name: &str, parent: Option<&str>| Unit {
        id: id(name),
        name: None,
        parent: parent.map(id),
    };
    let units = UnitTree::new(&[unit("eu", None), unit("de", Some("eu"))]);
    let tables = [
        (
            "countries",
            json!({"reverse": ["dial", "@"], "entries": [
                {"key": "DE", "value": {"name": "Germany", "dial": 49}},
                {"key": "DE", "value": {"name": "Deutschland", "dial": 49}, "unit": "eu"},
                {"key": "FR", "value": {"name": "France", "dial": 33}},
                {"key": "XX", "value": null},
                {"key": "1", "value": "one"},
                {"key": "true", "value": "truth"},
            ]}),
        ),
        ("kept", json!({"on_missing": "keep"})),
        ("filled", json!({"on_missing": {"default": {"name": "?"}}})),
    ];
    let spec = |(name, spec)| (id(name), serde_json::from_value(spec).unwrap());
    Lookups::made_of(units, tables.map(spec)).unwrap()
}

fn compile(rule: &Value) -> Result<crate::transform::mapping::Mapping, Vec<Violation>> {
    let spec = json!({"base": "empty", "rules": [rule]});
    serde_json::from_value::<MappingSpec>(spec).unwrap().compile("/m")
}

fn run(
    rule: &Value,
    unit: Option<&str>,
    payload: Value,
) -> Result<(Value, Vec<String>), TransformError> {
    let (tables, unit) = (tables(), unit.map(id));
    let mut warnings = Vec::new();
    let mapping = compile(rule).unwrap();
    mapping.run(payload, tables.view(unit.as_ref()), &mut warnings).map(|value| (value, warnings))
}

fn with(lookup: &Value) -> Value {
    json!({"target": "a", "from": "k", "lookup": lookup})
}

#[test]
fn what_is_found_takes_the_place_of_the_value() {
    let germany = json!({"name": "Germany", "dial": 49});
    let own = json!({"name": "Deutschland", "dial": 49});
    for (lookup, unit, key, expected) in [
        (json!({"table": "countries"}), None, json!("DE"), germany.clone()),
        (json!({"table": "countries"}), Some("de"), json!("DE"), own),
        (json!({"table": "countries"}), Some("elsewhere"), json!("DE"), germany),
        (json!({"table": "countries", "field": "name"}), None, json!("FR"), json!("France")),
        (json!({"table": "countries"}), None, json!("XX"), json!(null)),
        (json!({"table": "countries"}), None, json!(1), json!("one")),
        (json!({"table": "countries"}), None, json!(true), json!("truth")),
        (json!({"table": "countries"}), None, json!(null), json!(null)),
        (json!({"table": "countries", "reverse": "dial"}), None, json!(33.0), json!("FR")),
        (json!({"table": "countries", "reverse": "@"}), None, json!("one"), json!("1")),
        (
            json!({"table": "countries", "reverse": "dial", "field": "name"}),
            Some("de"),
            json!(49),
            json!("Deutschland"),
        ),
        (json!({"table": "kept"}), None, json!("DE"), json!("DE")),
        (json!({"table": "filled"}), None, json!("DE"), json!({"name": "?"})),
        (
            json!({"table": "filled", "field": "none", "on_missing": "keep"}),
            None,
            json!(7),
            json!(7),
        ),
    ] {
        let result = run(&with(&lookup), unit, json!({"k": key}));
        assert_eq!(result, Ok((json!({"a": expected}), vec![])), "{lookup} {unit:?}");
    }
}

#[test]
fn the_value_is_cast_or_made_of_a_template_first() {
    let countries = json!({"table": "countries", "field": "dial"});
    let cast = json!({"target": "a", "from": "k", "cast": "upper", "lookup": countries});
    assert_eq!(run(&cast, None, json!({"k": "fr"})).unwrap().0, json!({"a": 33}));
    let template = json!({"target": "a", "template": "{{k}}{{l}}", "lookup": countries});
    assert_eq!(run(&template, None, json!({"k": "F", "l": "R"})).unwrap().0, json!({"a": 33}));
    let each = json!({"target": "a", "from": "items", "each": [
        {"target": "c", "from": "x", "lookup": countries, "default": 0},
    ]});
    let items = json!({"items": [{"x": "DE"}, {"x": "US"}, {}]});
    let expected = json!({"a": [{"c": 49}, {"c": 0}, {"c": 0}]});
    assert_eq!(run(&each, None, items).unwrap().0, expected);
}

#[test]
fn the_rule_says_what_a_missing_key_is_before_the_table_does() {
    let rule = |on_missing: Value, default: Value, table: &str| {
        let mut rule = with(&json!({"table": table}));
        if !on_missing.is_null() {
            rule["lookup"]["on_missing"] = on_missing;
        }
        if !default.is_null() {
            rule["default"] = default;
        }
        rule
    };
    for (rule, expected) in [
        (rule(json!("keep"), json!(null), "countries"), Some(json!({"a": "no"}))),
        (rule(json!("keep"), json!(9), "countries"), Some(json!({"a": "no"}))),
        (rule(json!("default"), json!(9), "countries"), Some(json!({"a": 9}))),
        (rule(json!(null), json!(9), "kept"), Some(json!({"a": 9}))),
        (rule(json!("error"), json!(9), "kept"), None),
        (rule(json!(null), json!(null), "countries"), None),
    ] {
        match (run(&rule, None, json!({"k": "no"})), expected) {
            (Ok((value, _)), Some(expected)) => assert_eq!(value, expected, "{rule}"),
            (Err(error), None) => assert_eq!(error.code, "lookup_missing", "{rule}"),
            (result, _) => panic!("{rule}: {result:?}"),
        }
    }
    let missing = run(&with(&json!({"table": "countries"})), None, json!({})).unwrap();
    assert_eq!(missing, (json!({}), vec![]));
}

#[test]
fn failures_are_stable_can_be_retried_and_quote_no_value() {
    for (lookup, code) in [
        (json!({"table": "nowhere"}), "lookup_unknown"),
        (json!({"table": "countries"}), "lookup_missing"),
        (json!({"table": "countries", "reverse": "name"}), "lookup_missing"),
    ] {
        let error = run(&with(&lookup), None, json!({"k": "secret"})).unwrap_err();
        assert_eq!((error.code, error.retryable), (code, true));
        assert_eq!(error.pointer.as_deref(), Some("/m/rules/0/lookup"));
        assert!(!error.message.contains("secret"), "{error}");
    }
}

#[test]
fn objects_and_arrays_are_no_keys() {
    for key in [json!([1]), json!({"b": 1})] {
        let (value, warnings) =
            run(&with(&json!({"table": "countries"})), None, json!({"k": key})).unwrap();
        assert_eq!(value, json!({}));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}

#[test]
fn lookups_are_bounded_exactly() {
    let rule = json!({"target": "a", "from": "items", "each": [
        {"target": "c", "from": "@", "lookup": {"table": "kept"}},
    ]});
    let items = |count: usize| json!({"items": vec!["x"; count]});
    assert!(run(&rule, None, items(MAX_LOOKUPS)).is_ok());
    let error = run(&rule, None, items(MAX_LOOKUPS + 1)).unwrap_err();
    assert_eq!((error.code, error.retryable), ("lookups_too_many", false));
}

#[test]
fn what_does_not_go_together_is_refused_when_it_is_saved() {
    let lookup = json!({"table": "t"});
    for (rule, pointer, code) in [
        (
            with(&json!({"table": "t", "on_missing": "default"})),
            "/m/rules/0/lookup/on_missing",
            "mapping_conflict",
        ),
        (
            with(&json!({"table": "t", "field": "a..b"})),
            "/m/rules/0/lookup/field",
            "path_malformed",
        ),
        (
            with(&json!({"table": "t", "reverse": ""})),
            "/m/rules/0/lookup/reverse",
            "path_malformed",
        ),
        (
            json!({"target": "a", "const": 1, "lookup": lookup}),
            "/m/rules/0/lookup",
            "mapping_conflict",
        ),
        (
            json!({"target": "a", "from": "b", "lookup": lookup, "each": [
                {"target": "c", "const": 1},
            ]}),
            "/m/rules/0/lookup",
            "mapping_conflict",
        ),
    ] {
        let found = compile(&rule).unwrap_err();
        assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), (pointer, code), "{rule}");
    }
    assert!(
        serde_json::from_value::<MappingSpec>(
            json!({"rules": [with(&json!({"table": "not a name"}))]})
        )
        .is_err()
    );
}
