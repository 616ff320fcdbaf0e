//! Which schemas are compiled at all: those that a short validation is likely of.

use std::collections::HashMap;

use serde_json::Value;

/// The most levels of a schema.
const MAX_DEPTH: usize = 64;

/// The most subschemas, where each reference counts as what it refers to. A recursive reference
/// counts once: what it costs depends on the payload.
const MAX_WEIGHT: u64 = 10_000;

/// Where a schema is not admitted, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) pointer: String,
    pub(super) message: String,
}

/// Judges a schema before it is compiled.
pub(super) fn admit(schema: &Value) -> Result<(), Refusal> {
    bounded(schema, 1)?;
    let mut anchors = HashMap::new();
    collect_anchors(schema, &mut anchors);
    let mut scale = Scale { schema, anchors, known: HashMap::new(), under_way: Vec::new() };
    let weight = scale.weigh(schema, "")?;
    if weight > MAX_WEIGHT {
        let message = format!(
            "the schema stands for more than {MAX_WEIGHT} subschemas with its references \
             resolved; refer to fewer"
        );
        return Err(Refusal { pointer: String::new(), message });
    }
    Ok(())
}

fn bounded(value: &Value, depth: usize) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        let message = format!("the schema has more than {MAX_DEPTH} levels; use references");
        return Err(Refusal { pointer: String::new(), message });
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| bounded(item, depth + 1)),
        Value::Object(members) => members.values().try_for_each(|item| bounded(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn collect_anchors<'a>(value: &'a Value, anchors: &mut HashMap<&'a str, &'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_anchors(item, anchors)),
        Value::Object(members) => {
            for name in ["$anchor", "$dynamicAnchor"] {
                if let Some(Value::String(anchor)) = members.get(name) {
                    anchors.insert(anchor, value);
                }
            }
            members.values().for_each(|item| collect_anchors(item, anchors));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

struct Scale<'a> {
    schema: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    known: HashMap<&'a str, u64>,
    under_way: Vec<&'a str>,
}

impl<'a> Scale<'a> {
    fn weigh(&mut self, value: &'a Value, at: &str) -> Result<u64, Refusal> {
        match value {
            Value::Array(items) => {
                items.iter().enumerate().try_fold(0, |sum: u64, (index, item)| {
                    Ok(sum.saturating_add(self.weigh(item, &format!("{at}/{index}"))?))
                })
            }
            Value::Object(members) => members.iter().try_fold(1, |sum: u64, (name, item)| {
                let at = format!("{at}/{}", icp_core::resource::escape(name));
                let weight = match item {
                    Value::String(target) if is_reference(name) => self.refer(target, &at)?,
                    item => self.weigh(item, &at)?,
                };
                Ok(sum.saturating_add(weight))
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(0),
        }
    }

    fn refer(&mut self, target: &'a str, at: &str) -> Result<u64, Refusal> {
        if self.under_way.contains(&target) {
            return Ok(1);
        }
        if let Some(weight) = self.known.get(target) {
            return Ok(*weight);
        }
        let found = match target.strip_prefix('#') {
            Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                self.schema.pointer(&decoded(pointer))
            }
            Some(anchor) => self.anchors.get(anchor).copied(),
            None => None,
        };
        let Some(found) = found else {
            let message = "refer to a place in this schema, as in `#/$defs/line`".to_owned();
            return Err(Refusal { pointer: at.to_owned(), message });
        };
        self.under_way.push(target);
        let weight = self.weigh(found, target);
        self.under_way.pop();
        self.known.insert(target, *weight.as_ref().unwrap_or(&0));
        weight
    }
}

fn is_reference(name: &str) -> bool {
    matches!(name, "$ref" | "$dynamicRef" | "$recursiveRef")
}

/// A pointer in a fragment has its unusual characters percent-encoded.
fn decoded(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let code = others.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn doubled(levels: usize) -> Value {
        let mut defs = serde_json::Map::new();
        defs.insert("d0".into(), json!({"type": "object"}));
        for level in 1..levels {
            let below = json!({"$ref": format!("#/$defs/d{}", level - 1)});
            defs.insert(format!("d{level}"), json!({"allOf": [below.clone(), below]}));
        }
        json!({"$defs": defs, "$ref": format!("#/$defs/d{}", levels - 1)})
    }

    #[test]
    fn schemas_are_admitted_by_weight() {
        for (schema, part) in [
            (json!({"type": "object"}), None),
            (json!({"$ref": "#"}), None),
            (json!({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "null"}}}), None),
            (json!({"$ref": "#x", "$defs": {"y": {"$anchor": "x"}}}), None),
            (json!({"properties": {"$ref": {"type": "string"}}}), None),
            (doubled(8), None),
            (doubled(26), Some("10000")),
            (doubled(63), Some("10000")),
            (json!({"$ref": "#/$defs/none"}), Some("place in this schema")),
            (json!({"$ref": "http://127.0.0.1:9/x"}), Some("place in this schema")),
            (json!({"$ref": "file:///etc/passwd"}), Some("place in this schema")),
            (json!({"$ref": "other.json"}), Some("place in this schema")),
            ((0..64).fold(json!({}), |inner, _| json!({"not": inner})), Some("64 levels")),
        ] {
            let found = admit(&schema).err().map(|refusal| refusal.message);
            match (part, &found) {
                (None, None) => {}
                (Some(part), Some(message)) => assert!(message.contains(part), "{message}"),
                _ => panic!("{schema}: {found:?}"),
            }
        }
        let inside = json!({"items": {"a/b": {"$ref": "x"}}});
        assert_eq!(admit(&inside).unwrap_err().pointer, "/items/a~1b/$ref");
    }
}
