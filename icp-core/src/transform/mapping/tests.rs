use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::Violation;
use crate::lookup::Lookups;
use crate::transform::{MAX_OUTPUT, TransformError};

fn compile(spec: &Value) -> Result<Mapping, Vec<Violation>> {
    serde_json::from_value::<MappingSpec>(spec.clone()).unwrap().compile("/m")
}

fn run(spec: &Value, payload: Value) -> Result<(Value, Vec<String>), TransformError> {
    let mut warnings = Vec::new();
    let value =
        compile(spec).unwrap().run(payload, Lookups::default().view(None), &mut warnings)?;
    Ok((value, warnings))
}

fn rule(rule: impl Into<Value>) -> Value {
    json!({"base": "empty", "rules": [rule.into()]})
}

fn order() -> Value {
    json!({
        "id": 17,
        "customer": {"name": " Ada ", "email": null},
        "lines": [{"sku": "a", "n": "2"}, {"n": "x"}, 3],
        "at": 1_795_232_700,
        "__proto__": {"admin": true},
        "big": 9_007_199_254_740_993_i64,
        "exact": 1.0,
    })
}

#[test]
fn each_kind_of_rule() {
    for (spec, expected) in [
        (json!({"target": "a", "from": "id"}), json!({"a": 17})),
        (json!({"target": "a.b[1].c", "from": "id"}), json!({"a": {"b": [null, {"c": 17}]}})),
        (json!({"target": "@", "from": "customer"}), json!({"name": " Ada ", "email": null})),
        (json!({"target": "a", "from": "missing"}), json!({})),
        (json!({"target": "a", "from": "missing", "default": null}), json!({"a": null})),
        (json!({"target": "a", "from": "missing", "default": {"b": 1}}), json!({"a": {"b": 1}})),
        (json!({"target": "a", "from": "id", "default": 1, "cast": "string"}), json!({"a": "17"})),
        (
            json!({"target": "a", "from": "missing", "default": 1, "cast": "string"}),
            json!({"a": 1}),
        ),
        (json!({"target": "a", "from": "customer.email", "required": true}), json!({"a": null})),
        (json!({"target": "a", "from": "customer.name", "cast": "trim"}), json!({"a": "Ada"})),
        (
            json!({"target": "a", "from": "at", "cast": "date"}),
            json!({"a": "2026-11-21T03:45:00.000Z"}),
        ),
        (json!({"target": "a", "const": null}), json!({"a": null})),
        (json!({"target": "a", "const": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]})),
        (
            json!({"target": "a", "const": 1_795_232_700, "cast": "date"}),
            json!({"a": "2026-11-21T03:45:00.000Z"}),
        ),
        (json!({"target": "a", "template": "#{{id}} {{nobody}}"}), json!({"a": "#17 "})),
        (json!({"target": "a", "template": "#{{nobody}}", "default": "-"}), json!({"a": "-"})),
        (json!({"target": "a", "template": "{{id}}0", "cast": "integer"}), json!({"a": 170})),
        (
            json!({"target": "__proto__.x", "from": "__proto__.admin"}),
            json!({"__proto__": {"x": true}}),
        ),
        (json!({"target": "constructor", "from": "constructor"}), json!({})),
        (json!({"target": "a", "from": "lines[1]"}), json!({"a": {"n": "x"}})),
        (json!({"target": "a", "from": "lines[9]"}), json!({})),
        (
            json!({"target": "a", "from": "lines", "each": [
                {"target": "sku", "from": "sku", "cast": "upper", "default": "?"},
                {"target": "self", "from": "@"},
            ]}),
            json!({"a": [
                {"sku": "A", "self": {"sku": "a", "n": "2"}},
                {"sku": "?", "self": {"n": "x"}},
                {"sku": "?", "self": 3},
            ]}),
        ),
        (
            json!({"target": "a", "from": "lines", "each": [{"target": "@", "from": "n"}]}),
            json!({"a": ["2", "x", {}]}),
        ),
        (json!({"target": "a", "from": "none", "each": [{"target": "b", "const": 1}]}), json!({})),
    ] {
        assert_eq!(run(&rule(spec.clone()), order()), Ok((expected, vec![])), "{spec}");
    }
}

#[test]
fn copy_keeps_what_no_rule_touches() {
    let spec = json!({
        "rules": [
            {"target": "customer.name", "from": "id"},
            {"target": "id.inner", "from": "customer.name"},
            {"target": "lines[0]", "const": 0},
        ],
        "remove": ["lines[1]", "lines[1]", "customer.email", "not.there", "__proto__"],
    });
    let (result, warnings) = run(&spec, order()).unwrap();
    let expected = concat!(
        r#"{"id":{"inner":" Ada "},"customer":{"name":17},"lines":[0],"at":1795232700,"#,
        r#""big":9007199254740993,"exact":1.0}"#
    );
    assert_eq!(result.to_string(), expected);
    assert!(warnings.is_empty());
}

#[test]
fn values_without_the_wanted_form_are_missing_and_told_once() {
    let spec = json!({"base": "empty", "rules": [
        {"target": "n", "from": "lines", "each": [{"target": "q", "from": "n", "cast": "integer"}]},
        {"target": "id", "from": "id", "each": [{"target": "q", "const": 1}]},
        {"target": "d", "from": "customer.name", "cast": "date", "default": "never"},
    ]});
    let payload = json!({
        "id": 17, "customer": {"name": "Ada"}, "lines": [{"n": "x"}, {"n": "y"}, {"n": "3"}],
    });
    let (result, warnings) = run(&spec, payload).unwrap();
    assert_eq!(result, json!({"n": [{}, {}, {"q": 3}], "d": "never"}));
    assert_eq!(
        warnings,
        [
            "the value for `q` has no form as integer and counts as missing (/m/rules/0/each/0)",
            "the value for `id` is not an array and counts as missing (/m/rules/1)",
            "the value for `d` has no form as date and counts as missing (/m/rules/2)",
        ]
    );
}

#[test]
fn required_values_fail_at_their_rule() {
    for (spec, pointer) in [
        (json!({"target": "a", "from": "none", "required": true}), "/m/rules/0"),
        (
            json!({"target": "a", "from": "customer", "cast": "number", "required": true}),
            "/m/rules/0",
        ),
        (json!({"target": "a", "template": "{{id}}{{none}}", "required": true}), "/m/rules/0"),
        (
            json!({"target": "a", "from": "id", "each": [{"target": "b", "const": 1}], "required": true}),
            "/m/rules/0",
        ),
        (
            json!({"target": "a", "from": "lines", "each": [
                {"target": "b", "const": 1},
                {"target": "c", "from": "sku", "required": true},
            ]}),
            "/m/rules/0/each/1",
        ),
    ] {
        let error = run(&rule(spec.clone()), order()).unwrap_err();
        assert_eq!((error.code, error.retryable), ("required_missing", false), "{spec}");
        assert_eq!(error.pointer.as_deref(), Some(pointer), "{spec}");
    }
}

#[test]
fn every_broken_rule_is_found() {
    let each = json!([{"target": "b", "from": "c", "each": [{"target": "d", "const": 1}]}]);
    let spec = json!({
        "rules": [
            {"target": "", "from": "a..b"},
            {"target": "a"},
            {"target": "a", "from": "b", "const": null},
            {"target": "a", "template": "{{"},
            {"target": "a", "from": "b", "each": each},
            {"target": "a", "const": 1, "each": []},
            {"target": "a", "from": "b", "cast": "trim", "each": [{"target": "[", "const": 1}]},
            {"target": "a", "const": 1, "default": 2, "required": true},
            {"target": "[9999][2]", "from": "b"},
        ],
        "remove": ["a", "@", "a["],
    });
    let found = compile(&spec).unwrap_err();
    let found: Vec<_> = found.iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect();
    assert_eq!(
        found,
        [
            ("/m/rules/0/target", "path_malformed"),
            ("/m/rules/0/from", "path_malformed"),
            ("/m/rules/1", "mapping_source"),
            ("/m/rules/2", "mapping_source"),
            ("/m/rules/3/template", "template_malformed"),
            ("/m/rules/4/each/0/each", "mapping_conflict"),
            ("/m/rules/5/each", "mapping_conflict"),
            ("/m/rules/5/each", "mapping_conflict"),
            ("/m/rules/6/cast", "mapping_conflict"),
            ("/m/rules/6/each/0/target", "path_malformed"),
            ("/m/rules/7/default", "mapping_conflict"),
            ("/m/rules/7/required", "mapping_conflict"),
            ("/m/rules/7/required", "mapping_conflict"),
            ("/m/rules/8/target", "mapping_target"),
            ("/m/remove/1", "mapping_remove"),
            ("/m/remove/2", "path_malformed"),
        ]
    );
}

#[test]
fn rules_are_counted_with_those_of_each() {
    let spec = |each: usize, flat: usize| {
        let simple = json!({"target": "a", "const": 1});
        let mut rules = vec![simple.clone(); flat];
        rules.push(json!({"target": "b", "from": "c", "each": vec![simple; each]}));
        json!({"rules": rules})
    };
    assert!(compile(&spec(200, MAX_RULES - 201)).is_ok());
    let found = compile(&spec(200, MAX_RULES - 200)).unwrap_err();
    assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), ("/m/rules", "mapping_count"));
    assert!(compile(&json!({"remove": vec!["a"; MAX_RULES]})).is_ok());
    assert!(compile(&json!({"remove": vec!["a"; MAX_RULES + 1]})).is_err());
}

#[test]
fn produced_values_are_counted() {
    let copy = rule(json!({"target": "a", "from": "a"}));
    let each = rule(json!({"target": "a", "from": "a", "each": [{"target": "n", "from": "n"}]}));
    let gap = |index: usize| rule(json!({"target": format!("a[{index}]"), "const": 1}));
    // The array, its elements; the array, its objects, what is (not) in them; the array, its
    // nulls, the value.
    for (spec, fits, count) in [
        (&copy, true, MAX_NODES - 1),
        (&copy, false, MAX_NODES),
        (&each, true, (MAX_NODES - 1) / 2),
        (&each, false, MAX_NODES / 2),
        (&gap(9_998), true, 0),
        (&gap(9_999), false, 0),
    ] {
        let outcome = run(spec, json!({"a": vec![0; count]}));
        match outcome {
            Ok(_) => assert!(fits, "{spec} on {count}"),
            Err(error) => {
                assert!(!fits, "{spec} on {count}");
                assert_eq!(error.code, "output_too_many_nodes");
                assert!(error.pointer.unwrap().starts_with("/m/rules/0"), "{spec}");
            }
        }
    }
    let large = json!({"a": vec![0; 3 * MAX_NODES]});
    assert_eq!(run(&json!({}), large.clone()), Ok((large, vec![])));
}

#[test]
fn produced_text_is_counted() {
    let half = json!({"a": "x".repeat(MAX_OUTPUT / 2)});
    let spec =
        |second: Value| json!({"base": "empty", "rules": [{"target": "a", "from": "a"}, second]});
    assert!(run(&spec(json!({"target": "b", "template": "{{a}}"})), half.clone()).is_ok());
    for second in [
        json!({"target": "b", "template": "{{a}}!"}),
        json!({"target": "b", "from": "@"}),
        json!({"target": "b", "from": "@", "cast": "string"}),
    ] {
        let error = run(&spec(second.clone()), half.clone()).unwrap_err();
        assert_eq!(error.code, "output_too_large", "{second}");
        assert_eq!(error.pointer.as_deref(), Some("/m/rules/1"), "{second}");
    }
}

#[test]
fn a_result_can_be_read_back_at_the_deepest() {
    let nested = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
    let spec = rule(json!({"target": "a.b[0]", "from": "@"}));
    let (result, _) = run(&spec, nested(MAX_DEPTH - 3)).unwrap();
    assert!(serde_json::from_str::<Value>(&result.to_string()).is_ok());
    let error = run(&spec, nested(MAX_DEPTH - 2)).unwrap_err();
    assert_eq!((error.code, error.pointer.as_deref()), ("output_too_deep", Some("/m/rules/0")));

    let each = rule(json!({"target": "a", "from": "@", "each": [{"target": "b", "from": "@"}]}));
    let (result, _) = run(&each, json!([nested(MAX_DEPTH - 3)])).unwrap();
    assert!(serde_json::from_str::<Value>(&result.to_string()).is_ok());
    assert_eq!(run(&each, json!([nested(MAX_DEPTH - 2)])).unwrap_err().code, "output_too_deep");
}

#[test]
fn a_constant_that_can_never_be_written_is_refused() {
    let found = compile(&rule(json!({"target": "a", "const": vec![0; MAX_NODES]}))).unwrap_err();
    assert_eq!(found[0].pointer, "/m/rules/0/const");
    let spec = json!({"target": "a", "from": "b", "default": vec![0; MAX_NODES]});
    assert_eq!(compile(&rule(spec)).unwrap_err()[0].pointer, "/m/rules/0/default");
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c0-9{}\\PC]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]|__proto__|", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn path_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => r"[a-c](\.[a-c]|\[[0-2]\]){0,3}",
        1 => Just("@".to_owned()),
        1 => r#"[a-b.\[\]"0-9@]{0,8}"#,
        1 => r"(\[9999\]){1,3}",
    ]
}

fn rule_spec() -> BoxedStrategy<RuleSpec> {
    let cast = prop::sample::select(vec![
        Cast::Trim,
        Cast::Upper,
        Cast::Lower,
        Cast::Date,
        Cast::String,
        Cast::Number,
        Cast::Integer,
        Cast::Boolean,
    ]);
    let source = prop_oneof![
        4 => path_text().prop_map(|from| RuleSpec { from: Some(from), ..RuleSpec::default() }),
        1 => json_value().prop_map(|value| RuleSpec { constant: Some(value), ..RuleSpec::default() }),
        2 => prop::collection::vec(path_text(), 0..3).prop_map(|paths| {
            let text: String = paths.iter().map(|path| format!("x {{{{{path}}}}}")).collect();
            RuleSpec { template: Some(text), ..RuleSpec::default() }
        }),
    ];
    let options = (prop::option::weighted(0.2, json_value()), prop::bool::weighted(0.1));
    (path_text(), source, options, prop::option::weighted(0.3, cast))
        .prop_map(|(target, source, (default, required), cast)| RuleSpec {
            target,
            default,
            required,
            cast,
            ..source
        })
        .boxed()
}

fn mapping_spec() -> impl Strategy<Value = MappingSpec> {
    let each = prop::option::weighted(0.3, prop::collection::vec(rule_spec(), 1..3));
    let rule = (rule_spec(), each).prop_map(|(rule, each)| RuleSpec { each, ..rule });
    let base = prop::sample::select(vec![Base::Copy, Base::Empty]);
    (base, prop::collection::vec(rule, 0..4), prop::collection::vec(path_text(), 0..2))
        .prop_map(|(base, rules, remove)| MappingSpec { base, rules, remove, drop: None })
}

proptest! {
    #[test]
    fn any_mapping_is_refused_or_gives_json(spec in mapping_spec(), payload in json_value()) {
        let read: MappingSpec =
            serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        prop_assert_eq!(&read, &spec);
        let mut warnings = Vec::new();
        match spec.compile("") {
            Err(found) => prop_assert!(!found.is_empty()),
            Ok(mapping) => match mapping.run(payload, Lookups::default().view(None), &mut warnings) {
                Ok(value) => {
                    let text = value.to_string();
                    prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
                }
                Err(error) => prop_assert!(error.pointer.is_some()),
            },
        }
    }

    #[test]
    fn copy_without_rules_is_identity(payload in json_value()) {
        let text = payload.to_string();
        let (result, warnings) = run(&json!({}), payload).unwrap();
        prop_assert_eq!(result.to_string(), text);
        prop_assert!(warnings.is_empty());
    }
}

#[test]
fn a_bad_drop_is_refused_with_pointers() {
    let spec = json!({"drop": {"when": {"a": {"$bogus": 1}}, "reason": ""}});
    let pointers: Vec<_> = compile(&spec).unwrap_err().into_iter().map(|v| v.pointer).collect();
    assert_eq!(pointers, ["/m/drop/reason", "/m/drop/when/a/$bogus"]);
}
