//! A schema, admitted and ready to judge payloads.

use jsonschema::{Draft, PatternOptions};
use serde_json::Value;

use super::admit::{self, Cost, values};
use super::sample::sample;
use crate::error::Violation;
use crate::resource::Structure;

/// The most differences that are listed of one payload.
pub const MAX_MISMATCHES: usize = 50;

/// The largest schema, in bytes of its JSON.
const MAX_SCHEMA: usize = 64 << 10;

/// The most steps that a payload may take; a payload that could take more is not looked at.
const MAX_STEPS: u64 = 10_000_000;

/// The most steps with which all differences are looked for, as each may be kept in memory.
const MAX_STEPS_LISTED: u64 = 200_000;

/// How many bytes of text are gone through in the time of a step.
const TEXT_BYTES: u64 = 8;

const REGEX_BYTES: usize = 1 << 20;
const REGEX_CACHE_BYTES: usize = 8 << 20;

/// A JSON Schema that was admitted: what it costs on a payload is known ahead.
pub struct EventSchema {
    structure: Structure,
    cost: Cost,
}

impl std::fmt::Debug for EventSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSchema").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl EventSchema {
    /// Admits a schema of draft 2020-12, or of draft 7 where its `$schema` says so.
    ///
    /// # Errors
    ///
    /// Every reason why it is not taken, with pointers into it.
    pub fn new(schema: &Value) -> Result<Self, Vec<Violation>> {
        let refuse = |pointer: &str, code: &str, message: String| {
            Err(vec![Violation::new(pointer, code, message)])
        };
        let bytes = schema.to_string().len();
        if bytes > MAX_SCHEMA {
            let message = format!("the schema has {bytes} bytes; use at most {MAX_SCHEMA}");
            return refuse("", "schema_too_large", message);
        }
        let Some(draft) = draft(schema) else {
            let message = "use `https://json-schema.org/draft/2020-12/schema` or \
                           `http://json-schema.org/draft-07/schema#`";
            return refuse("/$schema", "schema_dialect", message.to_owned());
        };
        let cost = admit::cost(schema)?;
        let patterns =
            PatternOptions::regex().size_limit(REGEX_BYTES).dfa_size_limit(REGEX_CACHE_BYTES);
        let built = jsonschema::options()
            .offline()
            .with_draft(draft)
            .should_validate_formats(true)
            .with_pattern_options(patterns)
            .build(schema);
        match built {
            Ok(validator) => {
                Ok(Self { structure: Structure::around(schema.clone(), validator), cost })
            }
            Err(error) => {
                let pointer = error.instance_path().as_str().to_owned();
                let keyword = error.kind().keyword();
                let message =
                    format!("is not a schema: it breaks the rule `{keyword}` of its draft");
                refuse(&pointer, "schema_malformed", message)
            }
        }
    }

    /// How `payload` differs from the schema: nothing where it fits, at most [`MAX_MISMATCHES`]
    /// where it does not. `bytes` is the length of its JSON. No value of it is told.
    #[must_use]
    pub fn mismatches(&self, payload: &Value, bytes: usize) -> Vec<Violation> {
        let whole = |code: &str, message: &str| vec![Violation::new("", code, message)];
        let steps = self.steps(payload, bytes);
        if steps > MAX_STEPS {
            let message = "is too large to be checked by this schema; send less at once";
            return whole("schema_too_costly", message);
        }
        let validator = self.structure.validator();
        if validator.is_valid(payload) {
            return Vec::new();
        }
        let mut found = Vec::new();
        if steps <= MAX_STEPS_LISTED {
            for error in validator.iter_errors(payload).take(MAX_MISMATCHES) {
                self.structure.explain(&error, &mut found);
            }
        } else if !self.cost.choices
            && let Err(error) = validator.validate(payload)
        {
            self.structure.explain(&error, &mut found);
        }
        found.truncate(MAX_MISMATCHES);
        if found.is_empty() {
            return whole("schema", "does not fit the schema of its type");
        }
        found
    }

    /// A payload that fits, made of the schema's own examples, defaults and limits; `None` where
    /// none is found that way, as for most patterns.
    #[must_use]
    pub fn sample(&self) -> Option<Value> {
        let made = sample(self.structure.schema());
        let bytes = made.to_string().len();
        self.mismatches(&made, bytes).is_empty().then_some(made)
    }

    /// The most steps that `payload` can take.
    fn steps(&self, payload: &Value, bytes: usize) -> u64 {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let Cost { once, each, text, .. } = self.cost;
        let values = each.saturating_mul(count(values(payload)));
        let text = text.saturating_mul(count(bytes) / TEXT_BYTES);
        once.saturating_add(values).saturating_add(text)
    }
}

fn draft(schema: &Value) -> Option<Draft> {
    let Some(dialect) = schema.get("$schema") else { return Some(Draft::Draft202012) };
    match dialect.as_str()?.trim_end_matches('#') {
        "https://json-schema.org/draft/2020-12/schema" => Some(Draft::Draft202012),
        "http://json-schema.org/draft-07/schema" => Some(Draft::Draft7),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mismatches(schema: &Value, payload: &Value) -> Vec<(String, String)> {
        let bytes = payload.to_string().len();
        let found = EventSchema::new(schema).unwrap().mismatches(payload, bytes);
        assert!(found.iter().all(|violation| !violation.message.contains("secret")), "{found:?}");
        found.into_iter().map(|violation| (violation.pointer, violation.code)).collect()
    }

    #[test]
    fn differences_are_told_by_their_pointers_and_without_values() {
        let schema = json!({
            "type": "object",
            "required": ["order"],
            "additionalProperties": false,
            "properties": {
                "order": {"type": "integer", "minimum": 1},
                "mail": {"type": "string", "format": "email"},
                "lines": {"items": {"type": "object", "properties": {"sku": {"pattern": "^[A-Z]+$"}}}},
            },
        });
        for (payload, expected) in [
            (json!({"order": 7}), vec![]),
            (json!({"order": 0}), vec![("/order", "minimum")]),
            (json!({}), vec![("/order", "required")]),
            (json!({"order": 1, "mail": "secret"}), vec![("/mail", "format")]),
            (json!({"order": 1, "extra": "secret"}), vec![("/extra", "unknown_field")]),
            (
                json!({"order": "secret", "lines": [{"sku": "A"}, {"sku": "secret"}, 7]}),
                vec![("/order", "type"), ("/lines/1/sku", "pattern"), ("/lines/2", "type")],
            ),
            (json!("secret"), vec![("", "type")]),
        ] {
            let mut found = mismatches(&schema, &payload);
            found.sort();
            let mut expected: Vec<_> =
                expected.iter().map(|(at, code)| ((*at).to_owned(), (*code).to_owned())).collect();
            expected.sort();
            assert_eq!(found, expected, "{payload}");
        }
    }

    #[test]
    fn both_drafts_are_read_and_no_other() {
        let tuple = |dialect: &str| json!({"$schema": dialect, "items": [{"type": "string"}]});
        let seven = "http://json-schema.org/draft-07/schema#";
        assert_eq!(mismatches(&tuple(seven), &json!([1])), [("/0".into(), "type".into())]);
        for (schema, pointer, code) in [
            (tuple("https://json-schema.org/draft/2020-12/schema"), "/items", "schema_malformed"),
            (tuple("http://json-schema.org/draft-04/schema#"), "/$schema", "schema_dialect"),
            (json!({"type": "text"}), "/type", "schema_malformed"),
            (json!({"minimum": "1"}), "/minimum", "schema_malformed"),
            (json!([]), "", "schema_malformed"),
            (json!({"title": "x".repeat(MAX_SCHEMA)}), "", "schema_too_large"),
        ] {
            let found = EventSchema::new(&schema).unwrap_err();
            assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), (pointer, code));
        }
    }

    #[test]
    fn what_could_take_long_is_not_looked_at() {
        let many: Vec<_> = (0..100).map(|n| json!({"not": {"const": n}})).collect();
        let schema = json!({"items": {"allOf": many}});
        let found = mismatches(&schema, &json!(vec![-1; 1_000]));
        assert!(found.is_empty());
        let found = mismatches(&schema, &json!(vec![-1; 100_000]));
        assert_eq!(found, [(String::new(), "schema_too_costly".into())]);
    }

    /// Work that doubled with each level would not end here.
    #[test]
    fn nested_alternatives_cost_no_more_than_their_depth() {
        for wrap in [
            |inner: Value| json!({"anyOf": [false, inner]}),
            |inner: Value| json!({"oneOf": [inner, false]}),
            |inner: Value| json!({"not": {"not": inner}}),
            |inner: Value| json!({"if": inner, "then": inner.clone(), "else": false}),
            |inner: Value| json!({"allOf": [inner]}),
        ] {
            let levels = if wrap(json!(0)).get("if").is_some() { 8 } else { 30 };
            let nested = (0..levels).fold(json!({"type": "integer"}), |inner, _| wrap(inner));
            assert!(mismatches(&nested, &json!(1)).is_empty(), "{nested}");
            assert!(!mismatches(&nested, &json!("secret")).is_empty());
        }
        let nested =
            |kind: &str| (0..30).fold(json!({"type": kind}), |inner, _| json!({"contains": inner}));
        let payload = (0..30).fold(json!(1), |inner, _| json!([[], inner]));
        assert!(mismatches(&nested("integer"), &payload).is_empty());
        assert!(!mismatches(&nested("string"), &payload).is_empty());
    }

    #[test]
    fn few_differences_of_many_are_listed_and_one_of_a_large_payload() {
        let schema = json!({"items": {"type": "string"}});
        assert_eq!(mismatches(&schema, &json!(vec![1; 1_000])).len(), MAX_MISMATCHES);
        assert_eq!(mismatches(&schema, &json!(vec![1; 100_000])), [("/0".into(), "type".into())]);
        let choice = json!({"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}});
        let found = mismatches(&choice, &json!(vec![1; 100_000]));
        assert_eq!(found, [(String::new(), "schema".into())]);
    }
}
