//! What a schema can cost, counted before it is ever evaluated.
//!
//! A schema that is taken has no cycle of references, so that it unfolds into a finite tree. Each
//! node of that tree is asked of one level of the payload only, and thus of each value at most
//! once in a pass; nodes below no array or map are asked once at all. Alternatives are gone
//! through again to tell what is wrong with them, so what is below them counts once more. From the
//! sums the work on a payload is bounded by the number of its values and bytes. Keywords for which
//! that does not hold are not taken.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::pattern;
use crate::document::pointer::child;
use crate::error::Violation;

/// The most nodes of the unfolded tree.
const MAX_NODES: u64 = 10_000;
const MAX_DEPTH: usize = 64;
const MAX_PATTERNS: usize = 32;
const MAX_FOUND: usize = 50;

/// What an exact remainder of two numbers of very different size takes.
const DIVISION: usize = 50;

const FORMATS: [&str; 13] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "json-pointer",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uuid",
];

/// Keywords that cost nothing but a look at the value.
const PLAIN: [&str; 22] = [
    "$comment",
    "default",
    "deprecated",
    "description",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxContains",
    "maxItems",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minProperties",
    "minimum",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
    "dependentRequired",
];

/// The work that a schema makes, in steps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Cost {
    /// For the payload as a whole.
    pub(super) once: u64,
    /// For each value of it.
    pub(super) each: u64,
    /// How often its text is gone through.
    pub(super) text: u64,
    /// Whether there are alternatives, whose faults are told all at once.
    pub(super) choices: bool,
}

/// The cost of `schema`, or every reason why it is not taken.
pub(super) fn cost(schema: &Value) -> Result<Cost, Vec<Violation>> {
    let mut walk = Walk {
        root: schema,
        cost: Cost::default(),
        nodes: 0,
        references: Vec::new(),
        patterns: HashSet::new(),
        found: Vec::new(),
    };
    walk.node(schema, "", At { depth: 0, each: false, passes: 1 });
    if walk.found.is_empty() { Ok(walk.cost) } else { Err(walk.found) }
}

/// Where in the unfolded tree.
#[derive(Clone, Copy)]
struct At {
    depth: usize,
    /// Whether it is asked of many values.
    each: bool,
    /// How often it is gone through.
    passes: u64,
}

struct Walk<'a> {
    root: &'a Value,
    cost: Cost,
    nodes: u64,
    references: Vec<&'a str>,
    patterns: HashSet<&'a str>,
    found: Vec<Violation>,
}

impl<'a> Walk<'a> {
    fn refuse(&mut self, pointer: &str, code: &str, message: impl Into<String>) {
        let known = |v: &Violation| v.pointer == pointer && v.code == code;
        if self.found.len() < MAX_FOUND && !self.found.iter().any(known) {
            self.found.push(Violation::new(pointer, code, message));
        }
    }

    fn spend(&mut self, at: At, steps: usize) {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX).saturating_mul(at.passes);
        let sum = if at.each { &mut self.cost.each } else { &mut self.cost.once };
        *sum = sum.saturating_add(steps);
    }

    fn node(&mut self, schema: &'a Value, pointer: &str, at: At) {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message =
                format!("unfolds into more than {MAX_NODES} schemas; use fewer references");
            return self.refuse("", "schema_too_large", message);
        }
        if at.depth > MAX_DEPTH {
            let message = format!("is more than {MAX_DEPTH} levels deep");
            return self.refuse(pointer, "schema_too_deep", message);
        }
        self.spend(at, 1);
        // What is neither an object nor a truth value is refused by the meta-schema.
        let Value::Object(keywords) = schema else { return };
        for (keyword, value) in keywords {
            self.spend(at, 1);
            let below = At { depth: at.depth + 1, ..at };
            self.keyword(keyword, value, &child(pointer, keyword), below);
        }
    }

    fn keyword(&mut self, keyword: &'a str, value: &'a Value, pointer: &str, at: At) {
        let each = At { each: true, ..at };
        let again = At { passes: at.passes + 1, ..at };
        match keyword {
            "$schema" if pointer == "/$schema" => {}
            "$ref" => self.reference(value, pointer, at),
            "$defs" | "definitions" => self.map(value, pointer, at),
            "properties" | "dependentSchemas" => self.map(value, pointer, at),
            "dependencies" => self.dependencies(value, pointer, at),
            "patternProperties" => {
                for pattern in value.as_object().into_iter().flat_map(Map::keys) {
                    self.pattern(pattern, &child(pointer, pattern), at);
                }
                self.map(value, pointer, each);
            }
            "items" | "additionalItems" if value.is_array() => self.list(value, pointer, at),
            "prefixItems" => self.list(value, pointer, at),
            "items" | "additionalItems" | "additionalProperties" => self.node(value, pointer, each),
            "contains" => {
                self.node(value, pointer, At { passes: again.passes, ..each });
            }
            "propertyNames" => self.node(value, pointer, each),
            "allOf" => self.list(value, pointer, at),
            "anyOf" | "oneOf" => {
                self.cost.choices = true;
                self.list(value, pointer, again);
            }
            "not" | "if" => self.node(value, pointer, again),
            "then" | "else" => self.node(value, pointer, at),
            "const" | "enum" => self.spend(at, values(value)),
            "pattern" => {
                if let Some(pattern) = value.as_str() {
                    self.pattern(pattern, pointer, at);
                }
            }
            "minLength" | "maxLength" => self.text(at),
            "multipleOf" => self.spend(at, DIVISION),
            "format" => self.format(value, pointer, at),
            _ if PLAIN.contains(&keyword) => self.spend(at, values(value)),
            _ if keyword.starts_with("x-") => {}
            _ => {
                let message = "is not evaluated here; remove it, or name your own `x-…`";
                self.refuse(pointer, "schema_keyword", message);
            }
        }
    }

    fn text(&mut self, at: At) {
        self.cost.text = self.cost.text.saturating_add(at.passes);
    }

    fn map(&mut self, value: &'a Value, pointer: &str, at: At) {
        for (name, schema) in value.as_object().into_iter().flatten() {
            self.node(schema, &child(pointer, name), at);
        }
    }

    fn list(&mut self, value: &'a Value, pointer: &str, at: At) {
        for (index, schema) in value.as_array().into_iter().flatten().enumerate() {
            self.node(schema, &child(pointer, index), at);
        }
    }

    /// Of draft 7: names or a schema for each property.
    fn dependencies(&mut self, value: &'a Value, pointer: &str, at: At) {
        for (name, dependency) in value.as_object().into_iter().flatten() {
            if dependency.is_array() {
                self.spend(at, values(dependency));
            } else {
                self.node(dependency, &child(pointer, name), at);
            }
        }
    }

    fn reference(&mut self, value: &'a Value, pointer: &str, at: At) {
        let Some(target) = value.as_str() else { return };
        let name =
            target.strip_prefix("#/$defs/").or_else(|| target.strip_prefix("#/definitions/"));
        let plain = |name: &&str| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let Some(schema) = name.filter(plain).and_then(|_| self.root.pointer(&target[1..])) else {
            let message = "leads nowhere; use `#/$defs/name` with a name of A-Z a-z 0-9 . _ -";
            return self.refuse(pointer, "schema_reference", message);
        };
        if self.references.contains(&target) {
            let message = "leads to itself; a schema that repeats itself is not evaluated here";
            return self.refuse(pointer, "schema_recursive", message);
        }
        self.references.push(target);
        self.node(schema, &target[1..], at);
        self.references.pop();
    }

    fn pattern(&mut self, pattern: &'a str, pointer: &str, at: At) {
        self.text(at);
        if !self.patterns.insert(pattern) {
            return;
        }
        if self.patterns.len() > MAX_PATTERNS {
            let message = format!("is one more than the {MAX_PATTERNS} patterns that are taken");
            return self.refuse(pointer, "schema_pattern", message);
        }
        if let Some(message) = pattern::fault(pattern) {
            self.refuse(pointer, "schema_pattern", message);
        }
    }

    fn format(&mut self, value: &'a Value, pointer: &str, at: At) {
        self.text(at);
        if let Some(name) = value.as_str()
            && !FORMATS.contains(&name)
        {
            let message = format!("is not checked here; use one of: {}", FORMATS.join(", "));
            self.refuse(pointer, "schema_format", message);
        }
    }
}

/// How many values a document has.
pub(super) fn values(document: &Value) -> usize {
    1 + match document {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> Vec<(String, String)> {
        let found = cost(schema).unwrap_err();
        found.into_iter().map(|violation| (violation.pointer, violation.code)).collect()
    }

    #[test]
    fn work_is_counted_by_where_it_is_done() {
        let of = |schema: Value| {
            let Cost { once, each, text, choices } = cost(&schema).unwrap();
            (once, each, text, choices)
        };
        assert_eq!(of(json!(true)), (1, 0, 0, false));
        assert_eq!(of(json!({"type": "object"})), (3, 0, 0, false));
        // Of the object 2 and its property 2, then the array's 3 and those of its items.
        assert_eq!(
            of(json!({"properties": {"a": {"items": {"type": "string", "maxLength": 3}}}})),
            (4, 4, 1, false)
        );
        assert_eq!(of(json!({"anyOf": [true, {"pattern": "^a"}]})), (8, 0, 2, true));
        assert_eq!(of(json!({"enum": [1, [2, 3]]})), (7, 0, 0, false));
        assert_eq!(of(json!({"multipleOf": 1e-300})), (52, 0, 0, false));
    }

    #[test]
    fn what_has_no_bound_is_refused_by_name() {
        let doubling: Map<_, _> = (0..26)
            .map(|n| {
                let below = json!({"$ref": format!("#/$defs/d{}", n + 1)});
                (format!("d{n}"), json!({"allOf": [below, below]}))
            })
            .chain([("d26".to_owned(), json!(true))])
            .collect();
        for (schema, pointer, code) in [
            (json!({"$ref": "#"}), "/$ref", "schema_reference"),
            (json!({"$ref": "https://example.com/s.json"}), "/$ref", "schema_reference"),
            (json!({"$ref": "file:///etc/passwd"}), "/$ref", "schema_reference"),
            (json!({"$ref": "other.json"}), "/$ref", "schema_reference"),
            (json!({"$ref": "#/$defs/none"}), "/$ref", "schema_reference"),
            (
                json!({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}),
                "/$defs/a/items/$ref",
                "schema_recursive",
            ),
            (json!({"$dynamicRef": "#x"}), "/$dynamicRef", "schema_keyword"),
            (json!({"$id": "https://example.com"}), "/$id", "schema_keyword"),
            (
                json!({"properties": {"a": {"unevaluatedProperties": false}}}),
                "/properties/a/unevaluatedProperties",
                "schema_keyword",
            ),
            (json!({"format": "regex"}), "/format", "schema_format"),
            (json!({"pattern": "(a|b)*a(a|b){24}"}), "/pattern", "schema_pattern"),
            (
                json!({"patternProperties": {"(?=a)": true}}),
                "/patternProperties/(?=a)",
                "schema_pattern",
            ),
            (json!({"$ref": "#/$defs/d0", "$defs": doubling}), "", "schema_too_large"),
        ] {
            let found = refused(&schema);
            assert!(found.contains(&(pointer.into(), code.into())), "{schema}: {found:?}");
        }
        let deep = (0..70).fold(json!(true), |schema, _| json!({"not": schema}));
        assert!(refused(&deep).iter().any(|(_, code)| code == "schema_too_deep"));
    }

    #[test]
    fn a_reference_twice_is_no_cycle() {
        let schema = json!({
            "properties": {"from": {"$ref": "#/$defs/a"}, "to": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"type": "string"}},
        });
        assert!(cost(&schema).is_ok());
    }

    fn anything() -> impl Strategy<Value = Value> {
        let keyword = prop::sample::select(vec![
            "$ref",
            "$defs",
            "properties",
            "items",
            "allOf",
            "anyOf",
            "not",
            "enum",
            "required",
            "pattern",
            "format",
            "type",
            "dependencies",
            "patternProperties",
            "prefixItems",
        ]);
        let leaf = prop_oneof![
            Just(json!(true)),
            Just(json!("#/$defs/a")),
            Just(json!("string")),
            Just(json!(7)),
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((keyword.clone(), inner.clone()), 0..4).prop_map(|members| {
                    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                }),
                inner.prop_map(|schema| json!({"a": schema})),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_document_is_judged(schema in anything()) {
            if let Err(found) = cost(&schema) {
                prop_assert!(!found.is_empty() && found.len() <= MAX_FOUND);
            }
        }
    }
}
