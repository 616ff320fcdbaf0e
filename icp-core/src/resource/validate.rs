//! Reading a spec from JSON: every violation with its pointer, not only the first.

use jsonschema::error::ValidationErrorKind as Rule;
use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Code, Error, Result, Violation};

/// The broken rules of one document, collected.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    base: &'static str,
    list: Vec<Violation>,
}

impl Violations {
    /// An empty list; `base` is put before each pointer.
    #[must_use]
    pub fn at(base: &'static str) -> Self {
        Self { base, list: Vec::new() }
    }

    /// Adds a violation at `pointer`, relative to the base.
    pub fn add(
        &mut self,
        pointer: impl AsRef<str>,
        code: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.extend("", [Violation::new(pointer.as_ref(), code, message)]);
    }

    /// Adds what a part of the spec found; `at` is the pointer to that part where the part's own
    /// pointers are relative to it, and empty where they are not. A field is listed once per
    /// rule.
    pub fn extend(&mut self, at: &str, found: impl IntoIterator<Item = Violation>) {
        for mut violation in found {
            violation.pointer = format!("{}{at}{}", self.base, violation.pointer);
            if !self.list.iter().any(|v| v.pointer == violation.pointer && v.code == violation.code)
            {
                self.list.push(violation);
            }
        }
    }

    /// What was found.
    #[must_use]
    pub fn as_slice(&self) -> &[Violation] {
        &self.list
    }

    /// The error that lists everything found.
    #[must_use]
    pub fn into_error(self) -> Error {
        Error::violations(Code::ResourceInvalid, self.list)
    }

    /// Nothing, or the error that lists everything found.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] where anything was found.
    pub fn into_result(self) -> Result<()> {
        if self.list.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }
}

/// `segment` as one step of an RFC 6901 pointer.
#[must_use]
pub fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// The schema of a type, ready to check documents.
pub(super) struct Structure {
    schema: Value,
    validator: Validator,
}

impl Structure {
    pub(super) fn of<S: JsonSchema>() -> Result<Self> {
        let schema = schemars::schema_for!(S).to_value();
        let validator = jsonschema::options().offline().build(&schema).map_err(|error| {
            Error::new(Code::ConfigInvalid, format!("the schema of a kind is not usable: {error}"))
        })?;
        Ok(Self { schema, validator })
    }

    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// Reads `document`, and adds what is wrong with it. Unknown fields do not keep the rest
    /// from being read, so that the type's own rules are checked as well.
    pub(super) fn read<S: DeserializeOwned>(
        &self,
        document: &Value,
        violations: &mut Violations,
    ) -> Option<S> {
        let mut found = Vec::new();
        for error in self.validator.iter_errors(document) {
            self.explain(&error, &mut found);
        }
        let mut known = document.clone();
        for violation in found.iter().filter(|violation| violation.code == UNKNOWN) {
            remove(&mut known, &violation.pointer);
        }
        let clean = found.len() == found.iter().filter(|v| v.code == UNKNOWN).count();
        violations.extend("", found);
        match serde_path_to_error::deserialize(&known) {
            Ok(spec) => Some(spec),
            Err(error) => {
                if clean {
                    let pointer = pointer(error.path());
                    violations.add(pointer, "malformed", error.into_inner().to_string());
                }
                None
            }
        }
    }

    fn explain(&self, error: &ValidationError<'_>, found: &mut Vec<Violation>) {
        let at = error.instance_path().as_str();
        match error.kind() {
            Rule::AdditionalProperties { unexpected }
            | Rule::UnevaluatedProperties { unexpected } => {
                let known = self.known_fields(error);
                found.extend(unexpected.iter().map(|name| unknown_field(at, name, &known)));
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
                .filter(|error| {
                    matches!(error.kind(), Rule::Required { property: p } if p == property)
                })
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
        self.keyword(parent)
            .and_then(|schema| schema.get("properties")?.as_object())
            .map(|properties| properties.keys().map(String::as_str).collect())
            .unwrap_or_default()
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

const UNKNOWN: &str = "unknown_field";

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
        Rule::Enum { options } if below.is_empty() => options
            .as_array()?
            .iter()
            .map(text)
            .collect::<Vec<_>>()
            .join(", "),
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

fn remove(document: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(fields)) = document.pointer_mut(parent) {
        fields.remove(&name);
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |at, segment| match segment {
        Segment::Seq { index } => format!("{at}/{index}"),
        Segment::Map { key } => format!("{at}/{}", escape(key)),
        Segment::Enum { .. } | Segment::Unknown => at,
    })
}

#[cfg(test)]
mod tests;
