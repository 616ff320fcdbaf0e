//! What the validator of a schema found, in words for the writer of the document.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Rule;
use serde_json::Value;

use super::close::PARTS;
use super::{Structure, UNKNOWN, escape};
use crate::error::Violation;

impl Structure {
    /// Puts one error of the validator into violations.
    pub(crate) fn explain(&self, error: &ValidationError<'_>, found: &mut Vec<Violation>) {
        let at = error.instance_path().as_str();
        match error.kind() {
            Rule::AdditionalProperties { unexpected }
            | Rule::UnevaluatedProperties { unexpected } => {
                let known = self.known_fields(error);
                // The fields of a part that is refused count as unevaluated, too.
                let unknown = unexpected.iter().filter(|name| !known.contains(&name.as_str()));
                found.extend(unknown.map(|name| unknown_field(at, name, &known)));
            }
            Rule::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let pointer = format!("{at}/{}", escape(name));
                found.push(Violation::new(pointer, "required", "is missing"));
            }
            Rule::OneOfNotValid { context } | Rule::AnyOf { context } => {
                self.explain_choice(at, context, found);
            }
            Rule::PropertyNames { error } => self.explain(error, found),
            rule => {
                let limit = self.keyword(error.schema_path().as_str());
                let (code, message) = wording(rule, limit);
                found.push(Violation::new(at, code, message));
            }
        }
    }

    /// Explains a choice by the branch its tag selects; only where no tag fits, by the tags.
    fn explain_choice(
        &self,
        at: &str,
        branches: &[Vec<ValidationError<'static>>],
        found: &mut Vec<Violation>,
    ) {
        let selected = branches
            .iter()
            .filter(|errors| !errors.iter().any(|error| tag_of(at, error).is_some()))
            .filter(|errors| !errors.iter().any(|error| wrong_type(at, error)))
            .min_by_key(|errors| errors.len());
        if let Some(errors) = selected {
            let missing_tag = self.missing_tag(at, branches, errors);
            if missing_tag.is_none() {
                errors.iter().for_each(|error| self.explain(error, found));
                return;
            }
            found.extend(missing_tag);
            return;
        }
        let mut tags: Vec<(String, String)> =
            branches.iter().flatten().filter_map(|error| tag_of(at, error)).collect();
        tags.dedup();
        if let Some((pointer, _)) = tags.first().cloned() {
            let values: Vec<_> = tags.into_iter().map(|(_, value)| value).collect();
            let message = format!("use one of: {}", values.join(", "));
            found.push(Violation::new(pointer, "enum", message));
        } else if let Some(errors) = branches.iter().min_by_key(|errors| errors.len()) {
            errors.iter().for_each(|error| self.explain(error, found));
        }
    }

    /// Every branch lacks the same field, and that field tells the branches apart.
    fn missing_tag(
        &self,
        at: &str,
        branches: &[Vec<ValidationError<'static>>],
        errors: &[ValidationError<'static>],
    ) -> Option<Violation> {
        if branches.len() < 2 {
            return None;
        }
        let lacks = |errors: &[ValidationError<'static>], name: &Value| {
            errors.iter().any(|error| {
                error.instance_path().as_str() == at
                    && matches!(error.kind(), Rule::Required { property } if property == name)
            })
        };
        errors.iter().find_map(|error| {
            let Rule::Required { property } = error.kind() else { return None };
            let name = property.as_str()?;
            if !branches.iter().all(|errors| lacks(errors, property)) {
                return None;
            }
            let values: Vec<_> = branches
                .iter()
                .flatten()
                .filter(
                    |error| matches!(error.kind(), Rule::Required { property: p } if p == property),
                )
                .filter_map(|error| {
                    let branch = error.schema_path().as_str().rsplit_once("/required")?.0;
                    let path = format!("{branch}/properties/{}/const", escape(name));
                    self.keyword(&path)?.as_str().map(str::to_owned)
                })
                .collect();
            let message = match values.as_slice() {
                [] => "is missing".to_owned(),
                values => format!("is missing; use one of: {}", values.join(", ")),
            };
            Some(Violation::new(format!("{at}/{}", escape(name)), "required", message))
        })
    }

    fn known_fields(&self, error: &ValidationError<'_>) -> Vec<&str> {
        let path = error.schema_path().as_str();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let mut known = Vec::new();
        if let Some(schema) = self.keyword(parent) {
            collect_fields(schema, &mut known);
        }
        known
    }

    /// The part of the schema that a path of the validator leads to, references followed.
    fn keyword(&self, path: &str) -> Option<&Value> {
        let mut at = &self.schema;
        for segment in path.split('/').skip(1) {
            if segment == "$ref" {
                at = self.schema.pointer(at.get("$ref")?.as_str()?.strip_prefix('#')?)?;
            } else {
                at = at.pointer(&format!("/{segment}"))?;
            }
        }
        Some(at)
    }
}

/// The fields of an object schema and of the parts it is composed of.
fn collect_fields<'s>(schema: &'s Value, known: &mut Vec<&'s str>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        known.extend(properties.keys().map(String::as_str));
    }
    for part in PARTS.iter().filter_map(|part| schema.get(part)?.as_array()).flatten() {
        collect_fields(part, known);
    }
}

fn unknown_field(at: &str, name: &str, known: &[&str]) -> Violation {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let message = match nearest {
        Some((_, name)) => format!("is not a known field; did you mean `{name}`?"),
        None if known.is_empty() => "is not a known field; remove it".to_owned(),
        None => format!("is not a known field; use one of: {}", known.join(", ")),
    };
    Violation::new(format!("{at}/{}", escape(name)), UNKNOWN, message)
}

/// The pointer of the tag and the value this branch wants, where the error is about a tag.
fn tag_of(at: &str, error: &ValidationError<'_>) -> Option<(String, String)> {
    let pointer = error.instance_path().as_str();
    let below = pointer.strip_prefix(at)?;
    if below.matches('/').count() > 1 {
        return None;
    }
    let value = match error.kind() {
        Rule::Constant { expected_value } => text(expected_value),
        Rule::Enum { options } if below.is_empty() => {
            options.as_array()?.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        _ => return None,
    };
    Some((pointer.to_owned(), value))
}

fn wrong_type(at: &str, error: &ValidationError<'_>) -> bool {
    error.instance_path().as_str() == at && matches!(error.kind(), Rule::Type { .. })
}

/// What to say of a broken rule. Never shows the value: it may be a secret.
fn wording(rule: &Rule, limit: Option<&Value>) -> (String, String) {
    let shown = limit.map(text).unwrap_or_default();
    let message = match rule {
        Rule::Type { .. } => format!("has the wrong type; use {shown}"),
        Rule::Enum { .. } => format!("use one of: {shown}"),
        Rule::Constant { expected_value } => format!("use {}", text(expected_value)),
        Rule::Minimum { .. } => format!("use at least {shown}"),
        Rule::Maximum { .. } => format!("use at most {shown}"),
        Rule::ExclusiveMinimum { .. } => format!("use more than {shown}"),
        Rule::ExclusiveMaximum { .. } => format!("use less than {shown}"),
        Rule::MinLength { .. } => format!("use at least {shown} characters"),
        Rule::MaxLength { .. } => format!("use at most {shown} characters"),
        Rule::MinItems { .. } => format!("list at least {shown}"),
        Rule::MaxItems { .. } => format!("list at most {shown}"),
        Rule::MinProperties { .. } => format!("name at least {shown}"),
        Rule::MaxProperties { .. } => format!("name at most {shown}"),
        Rule::Pattern { .. } => format!("is not of the form {shown}"),
        Rule::UniqueItems => "lists an item twice".to_owned(),
        other => format!("breaks the rule `{}` of the schema", other.keyword()),
    };
    (snake(rule.keyword()), message)
}

fn snake(keyword: &str) -> String {
    keyword.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
        text
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
