//! Values that a JSON Schema asks for, and such as it does not.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

/// Texts that mean something to some field; a URL of it leads nowhere.
const TEXTS: [&str; 40] = [
    "acme",
    "orders",
    "names",
    "order.paid",
    "order.*",
    "*",
    "http://127.0.0.1:1/hooks",
    "ftp://127.0.0.1/",
    "2026-01-01T00:00:00Z",
    "2199-12-31T23:59:59.999Z",
    "0000-00-00T00:00:00Z",
    "evt_00000000000000000000000000",
    "dlv_00000000000000000000000000",
    "key_00000000000000000000000000",
    "rpl_00000000000000000000000000",
    "ann@example.com",
    "viewer",
    "integrations:write",
    "*:*",
    "standard-webhooks",
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "••••••••",
    "data.a.b",
    "application/json",
    "text/plain",
    "{{payload.n}}",
    "",
    " ",
    "-1",
    "\u{0}",
    "\u{7f}\r\nx: y",
    "é💥\u{202e}",
    "../../etc/passwd",
    "' OR 1=1 --",
    "%00",
    "$ne",
    "__proto__",
    "null",
    "NaN",
    "9223372036854775808",
];

/// Numbers at the edges of what is counted with.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "2",
    "-1",
    "100",
    "1000",
    "65536",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1.5",
    "1e300",
    "-0.0",
];

/// The deepest that values are nested where the schema does not ask for more.
const DEPTH: usize = 7;

/// Draws values, by a document's schemas.
pub(super) struct Draw<'a> {
    pub(super) document: &'a Value,
    pub(super) random: &'a mut StdRng,
    /// How likely a part of a value is something else than was asked for.
    pub(super) wrong: f64,
}

impl Draw<'_> {
    pub(super) fn text(&mut self) -> String {
        if self.random.random_bool(0.05) {
            let length = *[64, 65, 129, 300, 5_000].choose(self.random).unwrap_or(&64);
            return "x".repeat(length);
        }
        TEXTS.choose(self.random).copied().unwrap_or_default().to_owned()
    }

    fn number(&mut self) -> Value {
        let text = NUMBERS.choose(self.random).copied().unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default()
    }

    /// A value that no schema asked for.
    fn anything(&mut self, depth: usize) -> Value {
        match self.random.random_range(0..8) {
            0 => Value::Null,
            1 => json!(self.random.random_bool(0.5)),
            2 => self.number(),
            3 if depth < DEPTH => {
                (0..self.random.random_range(0..3)).map(|_| self.anything(depth + 1)).collect()
            }
            4 if depth < DEPTH => {
                let count = self.random.random_range(0..3);
                let fields = (0..count).map(|_| (self.text(), self.anything(depth + 1)));
                Value::Object(fields.collect())
            }
            _ => json!(self.text()),
        }
    }

    /// A value by `schema`, mostly.
    pub(super) fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if self.random.random_bool(self.wrong) || depth > DEPTH * 2 {
            return self.anything(depth);
        }
        if let Some(to) = schema["$ref"].as_str() {
            let document = self.document;
            let found = document.pointer(to.trim_start_matches('#'));
            return found.map_or(Value::Null, |schema| self.value(schema, depth + 1));
        }
        if let Some(known) = schema.get("const") {
            return known.clone();
        }
        if let Some(one) = schema["enum"].as_array().and_then(|known| known.choose(self.random)) {
            return one.clone();
        }
        let choice = ["oneOf", "anyOf"].iter().find_map(|name| schema[*name].as_array());
        let mut whole = match choice.and_then(|known| known.choose(self.random)) {
            Some(one) => self.value(one, depth + 1),
            None => Value::Null,
        };
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let part = self.value(part, depth + 1);
            whole = joined(whole, part);
        }
        match self.kind(schema) {
            Some(kind) => joined(whole, self.of_kind(&kind, schema, depth)),
            None if whole.is_null() && choice.is_none() => self.anything(depth),
            None => whole,
        }
    }

    fn kind(&mut self, schema: &Value) -> Option<String> {
        match &schema["type"] {
            Value::String(kind) => Some(kind.clone()),
            Value::Array(kinds) => kinds.choose(self.random)?.as_str().map(str::to_owned),
            _ => schema.get("properties").map(|_| "object".to_owned()),
        }
    }

    fn of_kind(&mut self, kind: &str, schema: &Value, depth: usize) -> Value {
        match kind {
            "object" => self.object(schema, depth),
            "array" => {
                let least = schema["minItems"].as_u64().unwrap_or(0).min(10);
                let most = if depth > DEPTH { least } else { least + 2 };
                let count = self.random.random_range(least..=most);
                (0..count).map(|_| self.value(&schema["items"], depth + 1)).collect()
            }
            "integer" | "number" => {
                let least = schema["minimum"].as_i64().unwrap_or(0);
                let most = schema["maximum"].as_i64().unwrap_or(least.saturating_add(1_000));
                json!(self.random.random_range(least..=most.max(least)))
            }
            "boolean" => json!(self.random.random_bool(0.5)),
            "null" => Value::Null,
            _ => json!(self.text()),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut made = Map::new();
        let required = schema["required"].as_array();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let needed = required.is_some_and(|required| required.iter().any(|one| one == name));
            let wanted = if needed { 0.97 } else { 0.35 };
            if self.random.random_bool(wanted) && (needed || depth <= DEPTH) {
                made.insert(name.clone(), self.value(property, depth + 1));
            }
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..self.random.random_range(0..3) {
                let name = self.text();
                made.insert(name, self.value(&schema["additionalProperties"], depth + 1));
            }
        }
        if self.random.random_bool(self.wrong / 2.0) {
            made.insert(self.text(), self.anything(depth));
        }
        Value::Object(made)
    }
}

/// Both objects as one; else the second, where there is one.
fn joined(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            one.extend(other);
            Value::Object(one)
        }
        (one, Value::Null) => one,
        (_, other) => other,
    }
}
