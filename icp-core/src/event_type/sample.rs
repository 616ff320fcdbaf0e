//! A payload made of a schema.

use serde_json::{Map, Value, json};

/// The most values of a sample.
const MAX_VALUES: usize = 10_000;
const MAX_ITEMS: u64 = 100;
const MAX_TEXT: u64 = 1_000;

/// The payload that an admitted schema suggests: its constants, defaults and examples, else the
/// smallest values its limits allow. It need not fit where rules depend on one another.
pub(super) fn sample(schema: &Value) -> Value {
    Maker { root: schema, left: MAX_VALUES }.value(schema)
}

struct Maker<'a> {
    root: &'a Value,
    left: usize,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value) -> Value {
        let Some(left) = self.left.checked_sub(1) else { return Value::Null };
        self.left = left;
        let first = |keyword: &str| schema.get(keyword)?.as_array()?.first().cloned();
        let given = schema.get("const").cloned().or_else(|| schema.get("default").cloned());
        if let Some(value) = given.or_else(|| first("examples")).or_else(|| first("enum")) {
            return value;
        }
        let mut made = self.own(schema);
        let target = schema.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|target| self.root.pointer(target.strip_prefix('#')?));
        let all = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        let one = ["oneOf", "anyOf"].iter().find_map(|word| schema.get(word)?.as_array()?.first());
        for part in target.into_iter().chain(all).chain(one) {
            made = merged(made, self.value(part));
        }
        made.unwrap_or(Value::Null)
    }

    /// What the schema says without its parts, where it says anything.
    fn own(&mut self, schema: &Value) -> Option<Value> {
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            Some(kind) => kind.as_str(),
            None => implied(schema),
        };
        match kind? {
            "object" => Some(self.object(schema)),
            "array" => Some(self.array(schema)),
            "string" => Some(text(schema).into()),
            "integer" => Some(integer(schema)),
            "number" => Some(number(schema)),
            "boolean" => Some(true.into()),
            _ => None,
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut object = Map::new();
        for (name, part) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            if *part != Value::Bool(false) {
                object.insert(name.clone(), self.value(part));
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = name.as_str().filter(|name| !object.contains_key(*name)) else {
                continue;
            };
            let rest = schema.get("additionalProperties").unwrap_or(&Value::Null);
            object.insert(name.to_owned(), self.value(rest));
        }
        object.into()
    }

    fn array(&mut self, schema: &Value) -> Value {
        let tuple = ["prefixItems", "items"].iter().find_map(|word| schema.get(word)?.as_array());
        let mut items: Vec<_> = tuple.into_iter().flatten().map(|item| self.value(item)).collect();
        let most = limit(schema, "maxItems").unwrap_or(MAX_ITEMS);
        let wanted = limit(schema, "minItems").unwrap_or(1).min(most).min(MAX_ITEMS);
        let rest = schema.get("items").filter(|items| items.is_object());
        let rest = rest.or_else(|| schema.get("contains"));
        while (items.len() as u64) < wanted
            && let Some(item) = rest
        {
            items.push(self.value(item));
        }
        items.into()
    }
}

/// The type that the other keywords are for.
fn implied(schema: &Value) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| schema.get(word).is_some());
    if has(&["properties", "required", "additionalProperties", "patternProperties"]) {
        Some("object")
    } else if has(&["items", "prefixItems", "minItems", "contains"]) {
        Some("array")
    } else if has(&["pattern", "format", "minLength", "maxLength"]) {
        Some("string")
    } else if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        Some("number")
    } else {
        None
    }
}

fn limit(schema: &Value, keyword: &str) -> Option<u64> {
    schema.get(keyword)?.as_u64()
}

fn text(schema: &Value) -> String {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    let known = match format {
        "date" => "2026-01-31",
        "date-time" => "2026-01-31T12:00:00Z",
        "duration" => "P1D",
        "email" => "ada@example.com",
        "hostname" => "example.com",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "json-pointer" => "/a",
        "relative-json-pointer" => "0",
        "time" => "12:00:00Z",
        "uri" | "uri-reference" => "https://example.com/a",
        "uuid" => "01890a5d-ac96-774b-bcce-b302099a8057",
        _ => "text",
    };
    let least = limit(schema, "minLength").unwrap_or_default().min(MAX_TEXT);
    let most = limit(schema, "maxLength").unwrap_or(MAX_TEXT);
    let padding = usize::try_from(least).unwrap_or_default().saturating_sub(known.len());
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    format!("{known}{}", "x".repeat(padding)).chars().take(most).collect()
}

fn integer(schema: &Value) -> Value {
    let whole = |word: &str| schema.get(word).and_then(Value::as_i64);
    let least = whole("minimum").or_else(|| whole("exclusiveMinimum").map(|n| n.saturating_add(1)));
    let most = whole("maximum").or_else(|| whole("exclusiveMaximum").map(|n| n.saturating_sub(1)));
    let value = least.unwrap_or_else(|| most.unwrap_or(1).min(1));
    let step = whole("multipleOf").unwrap_or(1).max(1);
    let up = value.checked_add((step - value.rem_euclid(step)) % step);
    json!(up.unwrap_or(value))
}

fn number(schema: &Value) -> Value {
    let all_whole = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
        .iter()
        .all(|word| schema.get(word).is_none_or(Value::is_i64));
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum"));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum"));
    match (least, most) {
        _ if bound("multipleOf").is_some() && !all_whole => schema["multipleOf"].clone(),
        (Some(least), Some(most)) => json!(f64::midpoint(least, most)),
        _ if all_whole => integer(schema),
        (Some(least), None) => json!(least + 1.0),
        (None, Some(most)) => json!(most - 1.0),
        (None, None) => json!(1),
    }
}

/// Both, where both are objects; else what came first.
fn merged(made: Option<Value>, more: Value) -> Option<Value> {
    match (made, more) {
        (Some(Value::Object(mut made)), Value::Object(more)) => {
            for (name, value) in more {
                made.entry(name).or_insert(value);
            }
            Some(made.into())
        }
        (Some(made), _) => Some(made),
        (None, Value::Null) => None,
        (None, more) => Some(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_type::EventSchema;

    #[test]
    fn samples_fit_their_schemas() {
        for (schema, expected) in [
            (json!({"const": 7}), json!(7)),
            (json!({"enum": ["a", "b"]}), json!("a")),
            (json!({"type": "string", "examples": ["x"], "minLength": 1}), json!("x")),
            (json!({"type": "string", "minLength": 6}), json!("textxx")),
            (json!({"type": "string", "maxLength": 2}), json!("te")),
            (json!({"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5}), json!(5)),
            (json!({"type": "integer", "maximum": -4}), json!(-4)),
            (json!({"type": "number", "minimum": 0.5, "maximum": 1.5}), json!(1.0)),
            (json!({"minimum": 2}), json!(2)),
            (json!({"type": ["boolean", "null"]}), json!(true)),
            (json!({"type": "null"}), json!(null)),
            (json!(true), json!(null)),
            (json!({"type": "array", "minItems": 2, "items": {"type": "integer"}}), json!([1, 1])),
            (
                json!({"prefixItems": [{"const": 1}, {"type": "string"}], "items": false}),
                json!([1, "text"]),
            ),
            (
                json!({
                    "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"format": "date"}}}],
                    "$defs": {"base": {"required": ["a"], "properties": {"a": {"const": true}}}},
                }),
                json!({"a": true, "b": "2026-01-31"}),
            ),
            (json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}), json!("text")),
            (
                json!({"required": ["x"], "additionalProperties": {"type": "integer"}}),
                json!({"x": 1}),
            ),
        ] {
            let sample = EventSchema::new(&schema).unwrap().sample();
            assert_eq!(sample, Some(expected), "{schema}");
        }
    }

    #[test]
    fn what_does_not_fit_is_no_sample() {
        for schema in [json!({"type": "string", "pattern": "^[A-Z]{9}$"}), json!({"not": {}})] {
            assert_eq!(EventSchema::new(&schema).unwrap().sample(), None, "{schema}");
        }
    }
}
