use serde_json::{Map, Value, json};

use crate::document::pointer::nearest;
use crate::resource::Document;

/// The most segments of the path of a field.
const MAX_DEPTH: usize = 16;

const NAMES: [&str; 8] =
    ["id", "name", "created_at", "updated_at", "version", "revision", "labels.", "spec."];

/// Fields of a document that can be shown by themselves.
const SHOWN: [&str; 11] = [
    "kind",
    "id",
    "org",
    "name",
    "labels",
    "spec",
    "status",
    "revision",
    "version",
    "created_at",
    "updated_at",
];

/// A field that documents are filtered by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Field {
    Id,
    Name,
    CreatedAt,
    UpdatedAt,
    Version,
    Revision,
    Label(String),
    Spec(Vec<String>),
}

/// What values a field can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    Any,
    Boolean,
    Number,
    Text,
    Time,
}

impl Field {
    /// The field that `text` names, in documents whose spec has this schema. The error is a rule
    /// and what to say.
    pub(super) fn parse(
        text: &str,
        schema: &Value,
    ) -> Result<(Self, Shape), (&'static str, String)> {
        Ok(match text {
            "id" => (Self::Id, Shape::Text),
            "name" => (Self::Name, Shape::Text),
            "created_at" => (Self::CreatedAt, Shape::Time),
            "updated_at" => (Self::UpdatedAt, Shape::Time),
            "version" => (Self::Version, Shape::Number),
            "revision" => (Self::Revision, Shape::Number),
            _ => match text.split_once('.') {
                Some(("labels", key)) if !key.is_empty() => (Self::Label(key.into()), Shape::Text),
                Some(("spec", path)) => {
                    let path: Vec<_> = path.split('.').map(str::to_owned).collect();
                    let shape = walk(text, &path, schema)?;
                    (Self::Spec(path), shape)
                }
                _ => return Err(unknown(text, &NAMES)),
            },
        })
    }

    /// The values of the field in `document`; those of each item, where a list is on the way.
    pub(super) fn values(&self, document: &Document) -> Vec<Value> {
        let one = |value: Value| vec![value];
        match self {
            Self::Id => one(json!(document.id)),
            Self::Name => document.name.iter().map(|name| json!(name)).collect(),
            Self::CreatedAt => one(json!(document.created_at)),
            Self::UpdatedAt => one(json!(document.updated_at)),
            Self::Version => one(json!(document.version)),
            Self::Revision => one(json!(document.revision)),
            Self::Label(key) => document.labels.get(key).iter().map(|text| json!(text)).collect(),
            Self::Spec(path) => {
                let mut found = Vec::new();
                collect(&document.spec, path, &mut found);
                found
            }
        }
    }
}

fn collect(value: &Value, path: &[String], found: &mut Vec<Value>) {
    match (value, path) {
        (Value::Array(items), _) => items.iter().for_each(|item| collect(item, path, found)),
        (Value::Null, []) => {}
        (value, []) => found.push(value.clone()),
        (Value::Object(fields), [name, rest @ ..]) => {
            if let Some(value) = fields.get(name) {
                collect(value, rest, found);
            }
        }
        _ => {}
    }
}

/// Goes down the schema by `path`, and says what values are there.
fn walk(text: &str, path: &[String], schema: &Value) -> Result<Shape, (&'static str, String)> {
    if path.len() > MAX_DEPTH {
        return Err(("too_deep", format!("`{text}` has more than {MAX_DEPTH} parts")));
    }
    let mut here = parts(schema, schema);
    for name in path {
        let next: Vec<_> = here.iter().flat_map(|part| below(part, name, schema)).collect();
        if next.is_empty() {
            let known: Vec<_> = here.iter().flat_map(|part| names(part)).collect();
            let (rule, message) = unknown(name, &known);
            return Err((rule, format!("`{text}`: {message}")));
        }
        if next.iter().any(|part| part["writeOnly"] == true) {
            let message = format!("`{text}` is a secret, which nothing is filtered by");
            return Err(("secret", message));
        }
        here = next;
    }
    Ok(shape(&here))
}

/// The schemas that `schema` is made of, references and items of lists resolved.
fn parts<'a>(schema: &'a Value, root: &'a Value) -> Vec<&'a Value> {
    let mut found: Vec<&'a Value> = Vec::new();
    let mut open = vec![schema];
    while let Some(part) = open.pop() {
        if found.iter().any(|known| std::ptr::eq(*known, part)) {
            continue;
        }
        found.push(part);
        let target = part.get("$ref").and_then(Value::as_str);
        open.extend(target.and_then(|target| root.pointer(target.strip_prefix('#')?)));
        for name in ["allOf", "anyOf", "oneOf"] {
            open.extend(part.get(name).and_then(Value::as_array).into_iter().flatten());
        }
        open.extend(part.get("items"));
    }
    found
}

fn below<'a>(part: &'a Value, name: &str, root: &'a Value) -> Vec<&'a Value> {
    if is_open(part) {
        return vec![part];
    }
    let own = part.get("properties").and_then(|fields| fields.get(name));
    let other = || part.get("additionalProperties").filter(|other| **other != Value::Bool(false));
    own.or_else(other).map(|schema| parts(schema, root)).unwrap_or_default()
}

/// Whether a schema says nothing, so that anything may be there.
fn is_open(part: &Value) -> bool {
    const SAYS: [&str; 8] =
        ["$ref", "allOf", "anyOf", "const", "enum", "oneOf", "properties", "type"];
    match part {
        Value::Bool(open) => *open,
        Value::Object(fields) => SAYS.iter().all(|name| !fields.contains_key(*name)),
        _ => false,
    }
}

fn names(part: &Value) -> impl Iterator<Item = &str> {
    part.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(|n| &**n)
}

fn shape(parts: &[&Value]) -> Shape {
    let mut shapes = parts.iter().flat_map(|part| {
        let types = match part.get("type") {
            Some(Value::Array(types)) => types.iter().collect(),
            Some(one) => vec![one],
            None if is_open(part) => return vec![Shape::Any],
            None => Vec::new(),
        };
        let of = |name: &Value| match name.as_str() {
            Some("boolean") => Some(Shape::Boolean),
            Some("integer" | "number") => Some(Shape::Number),
            Some("string") => Some(Shape::Text),
            _ => None,
        };
        types.into_iter().filter_map(of).collect()
    });
    let Some(first) = shapes.next() else { return Shape::Any };
    if shapes.all(|other| other == first) { first } else { Shape::Any }
}

fn unknown(name: &str, known: &[&str]) -> (&'static str, String) {
    let message = match nearest(name, known) {
        near if near.is_empty() => {
            format!("`{name}` is not a known field; use one of: {}", known.join(", "))
        }
        near => format!("`{name}` is not a known field{near}"),
    };
    ("unknown_field", message)
}

/// The fields of a document that are asked for, and its id; parts of a spec by their path, as in
/// `spec.target.url`.
///
/// # Errors
///
/// What to say of the first name that no document has a field of.
pub fn select(document: &Value, fields: &[&str]) -> Result<Value, String> {
    let mut shown = json!({ "id": document["id"] });
    for field in fields {
        let path: Vec<_> = field.split('.').collect();
        let top = path.first().copied().unwrap_or_default();
        if !SHOWN.contains(&top) || path.len() > MAX_DEPTH {
            return Err(unknown(top, &SHOWN).1);
        }
        if let Some(value) = document.get(top) {
            let kept = shown.as_object_mut().map(|shown| shown.entry(top).or_insert(Value::Null));
            kept.into_iter().for_each(|kept| copy(value, path.get(1..).unwrap_or_default(), kept));
        }
    }
    Ok(shown)
}

/// Copies what `path` leads to; from lists, of each item.
fn copy(from: &Value, path: &[&str], to: &mut Value) {
    match (from, path) {
        (_, []) => *to = from.clone(),
        (Value::Array(items), _) => {
            if !to.is_array() {
                *to = Value::Array(vec![Value::Null; items.len()]);
            }
            let kept = to.as_array_mut().into_iter().flatten();
            items.iter().zip(kept).for_each(|(item, kept)| copy(item, path, kept));
        }
        (Value::Object(fields), [name, rest @ ..]) => {
            if !to.is_object() {
                *to = json!({});
            }
            if let (Some(value), Some(kept)) = (fields.get(*name), to.as_object_mut()) {
                copy(value, rest, kept.entry(*name).or_insert(Value::Null));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "enabled": { "type": "boolean" },
                "tags": { "type": "array", "items": { "type": "string" } },
                "auth": { "oneOf": [
                    { "properties": { "token": { "$ref": "#/$defs/Secret" } } },
                    { "properties": { "user": { "type": ["string", "null"] } } },
                ] },
                "vars": { "type": "object", "additionalProperties": true },
                "tree": { "$ref": "#/$defs/Tree" },
            },
            "$defs": {
                "Secret": { "type": "string", "writeOnly": true },
                "Tree": { "properties": {
                    "size": { "type": "integer" },
                    "below": { "type": "array", "items": { "$ref": "#/$defs/Tree" } },
                } },
            },
        })
    }

    #[test]
    fn fields_are_known_by_the_schema_and_secrets_are_not_among_them() {
        let shape = |text: &str| Field::parse(text, &schema()).map(|(_, shape)| shape);
        for (text, expected) in [
            ("name", Shape::Text),
            ("updated_at", Shape::Time),
            ("labels.a.b", Shape::Text),
            ("spec.enabled", Shape::Boolean),
            ("spec.tags", Shape::Text),
            ("spec.auth.user", Shape::Text),
            ("spec.vars.any.thing", Shape::Any),
            ("spec.tree.below.below.size", Shape::Number),
        ] {
            assert_eq!(shape(text).unwrap(), expected, "{text}");
        }
        for (text, rule, says) in [
            ("nmae", "unknown_field", "did you mean `name`?"),
            ("labels.", "unknown_field", "labels."),
            ("spec.enabeld", "unknown_field", "did you mean `enabled`?"),
            ("spec.enabled.x", "unknown_field", "x"),
            ("spec.auth.token", "secret", "secret"),
            ("spec", "unknown_field", "spec."),
        ] {
            let (found, message) = shape(text).unwrap_err();
            assert!(found == rule && message.contains(says), "{text}: {message}");
        }
        let deep = format!("spec.{}", vec!["below"; 17].join("."));
        assert_eq!(shape(&deep).unwrap_err().0, "too_deep");
    }

    #[test]
    fn fields_are_shown_by_themselves() {
        let document = json!({
            "id": "a", "name": "A", "labels": { "k": "v" },
            "spec": { "target": { "url": "u", "kind": "http" }, "list": [{ "x": 1, "y": 2 }] },
        });
        for (fields, shown) in [
            (vec!["name"], json!({ "id": "a", "name": "A" })),
            (vec!["spec.target.url"], json!({ "id": "a", "spec": { "target": { "url": "u" } } })),
            (vec!["spec.list.x"], json!({ "id": "a", "spec": { "list": [{ "x": 1 }] } })),
            (vec!["labels.k", "status"], json!({ "id": "a", "labels": { "k": "v" } })),
            (vec!["spec.none"], json!({ "id": "a", "spec": {} })),
        ] {
            assert_eq!(select(&document, &fields).unwrap(), shown, "{fields:?}");
        }
        assert!(select(&document, &["nam"]).unwrap_err().contains("did you mean `name`?"));
    }
}
