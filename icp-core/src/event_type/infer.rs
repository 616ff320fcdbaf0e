//! A schema made of payloads.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

const MAX_DEPTH: usize = 24;
const MAX_PROPERTIES: usize = 1_000;
const LONGEST_FORM: usize = 254;

/// A schema that every one of `payloads` fits: the types that were seen, with properties that were
/// always there required and forms of text that all had in common. More payloads make it looser,
/// never tighter; what lies deeper than 24 levels, or beyond 1,000 properties, is left open.
///
/// It says nothing of values, so that none of a payload gets into it; names of properties do.
#[must_use]
pub fn infer<'a>(payloads: impl IntoIterator<Item = &'a Value>) -> Value {
    let mut inference = Inference::default();
    payloads.into_iter().for_each(|payload| inference.add(payload));
    inference.schema()
}

/// What was seen of payloads so far, for a schema as [`infer`] makes it. It keeps none of them.
#[derive(Debug)]
pub struct Inference {
    seen: Seen,
    reading: Reading,
}

impl Default for Inference {
    fn default() -> Self {
        let reading = Reading { forms: forms(), left: MAX_PROPERTIES };
        Self { seen: Seen::default(), reading }
    }
}

impl Inference {
    /// Looks at one more payload.
    pub fn add(&mut self, payload: &Value) {
        self.seen.add(payload, MAX_DEPTH, &mut self.reading);
    }

    /// A schema that every payload so far fits.
    #[must_use]
    pub fn schema(&self) -> Value {
        self.seen.schema()
    }
}

/// The forms of text that are told from one another.
fn forms() -> Vec<(&'static str, Validator)> {
    let form = |name| {
        let schema = json!({ "format": name });
        let options = jsonschema::options().offline().should_validate_formats(true);
        Some((name, options.build(&schema).ok()?))
    };
    ["date-time", "date", "uuid", "email"].into_iter().filter_map(form).collect()
}

#[derive(Debug)]
struct Reading {
    forms: Vec<(&'static str, Validator)>,
    /// How many properties may be kept yet.
    left: usize,
}

impl Reading {
    fn has_form(&self, text: &Value, form: &str) -> bool {
        self.forms.iter().any(|(name, validator)| *name == form && validator.is_valid(text))
    }
}

/// What was seen at one place.
#[derive(Debug, Default)]
struct Seen {
    kinds: BTreeSet<&'static str>,
    objects: usize,
    properties: BTreeMap<String, (usize, Seen)>,
    items: Option<Box<Seen>>,
    texts: usize,
    /// The forms that all texts had so far.
    forms: Vec<&'static str>,
}

impl Seen {
    fn add(&mut self, value: &Value, depth: usize, reading: &mut Reading) {
        self.kinds.insert(kind(value));
        match value {
            Value::String(text) => self.text(text, value, reading),
            Value::Object(members) => {
                self.objects += 1;
                for (name, member) in members {
                    self.property(name, member, depth, reading);
                }
            }
            Value::Array(items) if depth > 0 => {
                let seen = self.items.get_or_insert_default();
                items.iter().for_each(|item| seen.add(item, depth - 1, reading));
            }
            _ => {}
        }
    }

    fn property(&mut self, name: &str, member: &Value, depth: usize, reading: &mut Reading) {
        let Some(below) = depth.checked_sub(1) else { return };
        if !self.properties.contains_key(name) {
            let Some(fewer) = reading.left.checked_sub(1) else { return };
            reading.left = fewer;
        }
        let (count, seen) = self.properties.entry(name.to_owned()).or_default();
        *count += 1;
        seen.add(member, below, reading);
    }

    fn text(&mut self, text: &str, value: &Value, reading: &Reading) {
        // Longer text has none of the forms, and is not worth reading.
        let fits =
            |form: &&'static str| text.len() <= LONGEST_FORM && reading.has_form(value, form);
        if self.texts == 0 {
            self.forms = reading.forms.iter().map(|(name, _)| *name).filter(fits).collect();
        } else {
            self.forms.retain(fits);
        }
        self.texts += 1;
    }

    fn schema(&self) -> Value {
        let mut schema = Map::new();
        let mut kinds: Vec<_> = self.kinds.iter().copied().collect();
        if kinds.contains(&"number") {
            kinds.retain(|kind| *kind != "integer");
        }
        match kinds.as_slice() {
            [] => {}
            [one] => drop(schema.insert("type".into(), json!(one))),
            several => drop(schema.insert("type".into(), json!(several))),
        }
        if !self.properties.is_empty() {
            let properties =
                self.properties.iter().map(|(name, (_, seen))| (name.clone(), seen.schema()));
            schema.insert("properties".into(), properties.collect::<Map<_, _>>().into());
            let always = self.properties.iter().filter(|(_, (count, _))| *count == self.objects);
            let required: Vec<_> = always.map(|(name, _)| name).collect();
            if !required.is_empty() {
                schema.insert("required".into(), json!(required));
            }
        }
        if let Some(items) = self.items.as_ref().filter(|items| !items.kinds.is_empty()) {
            schema.insert("items".into(), items.schema());
        }
        if let Some(form) = self.forms.first() {
            schema.insert("format".into(), json!(form));
        }
        schema.into()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event_type::EventSchema;

    #[test]
    fn what_all_have_in_common_is_required() {
        let payloads = [
            json!({"order": 1, "at": "2026-11-21T10:00:00Z", "lines": [{"sku": "a"}], "tags": []}),
            json!({"order": 1.5, "at": "2026-11-22T10:00:00Z", "lines": [{"sku": null, "n": 2}]}),
        ];
        assert_eq!(
            infer(&payloads),
            json!({
                "type": "object",
                "properties": {
                    "at": {"type": "string", "format": "date-time"},
                    "lines": {"type": "array", "items": {
                        "type": "object",
                        "properties": {
                            "n": {"type": "integer"}, "sku": {"type": ["null", "string"]},
                        },
                        "required": ["sku"],
                    }},
                    "order": {"type": "number"},
                    "tags": {"type": "array"},
                },
                "required": ["at", "lines", "order"],
            })
        );
        assert_eq!(infer([]), json!({}));
        assert_eq!(infer([&json!("x"), &json!("2026-11-21")]), json!({"type": "string"}));
    }

    fn payload() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            "[a-c]{0,2}".prop_map(Value::from),
            Just(json!("2026-11-21")),
            Just(json!("ada@example.com")),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]|\\$ref|/~", inner, 0..4)
                    .prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_payload_fits_what_was_made_of_it(payloads in prop::collection::vec(payload(), 1..5)) {
            let schema = EventSchema::new(&infer(&payloads)).unwrap();
            for payload in &payloads {
                prop_assert_eq!(schema.mismatches(payload, 0), vec![]);
            }
        }
    }
}
