//! Closing a schema: fields that it does not name are refused, whatever the type says.

use serde_json::{Map, Value};

/// The keywords that compose an object of parts.
pub(super) const PARTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The keywords whose value is one schema.
const SINGLE: [&str; 2] = ["items", "additionalProperties"];

/// The keywords whose value is a map of schemas.
const MAPS: [&str; 3] = ["properties", "patternProperties", "$defs"];

/// Closes every object of `schema` that lists its fields and does not say otherwise.
pub(super) fn close(schema: &mut Value) {
    let defs = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    walk(schema, &defs, false);
}

/// `part`: the object is closed by the schema that it is a part of.
fn walk(schema: &mut Value, defs: &Map<String, Value>, part: bool) {
    let Value::Object(map) = schema else { return };
    let listed = map.contains_key("properties");
    if listed && let Some(parts) = inlined(map, defs) {
        map.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(Value::Array(all)) = map.get_mut("allOf") {
            all.push(parts);
        }
    }
    let says =
        ["additionalProperties", "unevaluatedProperties"].iter().any(|k| map.contains_key(*k));
    if listed && !part && !says {
        let composed = PARTS.iter().any(|keyword| map.contains_key(*keyword));
        let keyword = if composed { "unevaluatedProperties" } else { "additionalProperties" };
        map.insert(keyword.to_owned(), Value::Bool(false));
    }
    for keyword in PARTS {
        if let Some(Value::Array(parts)) = map.get_mut(keyword) {
            parts.iter_mut().for_each(|schema| walk(schema, defs, part || listed));
        }
    }
    for keyword in SINGLE {
        if let Some(schema) = map.get_mut(keyword) {
            walk(schema, defs, false);
        }
    }
    for keyword in MAPS {
        if let Some(Value::Object(schemas)) = map.get_mut(keyword) {
            schemas.values_mut().for_each(|schema| walk(schema, defs, false));
        }
    }
    if let Some(Value::Array(items)) = map.get_mut("prefixItems") {
        items.iter_mut().for_each(|schema| walk(schema, defs, false));
    }
}

/// What a reference beside listed fields leads to. It is closed where it stands alone, and would
/// refuse the fields beside it, so such an object gets a copy of its own.
fn inlined(map: &mut Map<String, Value>, defs: &Map<String, Value>) -> Option<Value> {
    let name = map.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?.to_owned();
    let schema = defs.get(&name)?.clone();
    map.remove("$ref");
    Some(schema)
}
