//! Reading a spec from JSON: every violation with its pointer, not only the first.

mod close;
mod explain;

use std::collections::HashSet;

use jsonschema::Validator;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Code, Error, Result, Violation};

/// The broken rules of one document, collected.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    base: &'static str,
    list: Vec<Violation>,
    /// The pointer and rule of each.
    known: HashSet<(String, String)>,
}

impl Violations {
    /// An empty list; `base` is put before each pointer.
    #[must_use]
    pub fn at(base: &'static str) -> Self {
        Self { base, ..Self::default() }
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
            if self.known.insert((violation.pointer.clone(), violation.code.clone())) {
                self.list.push(violation);
            }
        }
    }

    /// Adds what `others` found at fields that nothing was found at yet. For rules that say
    /// again, by another name, what was found already.
    pub(crate) fn complete(&mut self, others: impl IntoIterator<Item = Violation>) {
        let known: HashSet<_> = self.list.iter().map(|v| v.pointer.clone()).collect();
        for violation in others.into_iter().filter(|v| !known.contains(&v.pointer)) {
            self.known.insert((violation.pointer.clone(), violation.code.clone()));
            self.list.push(violation);
        }
    }

    /// What was found.
    #[must_use]
    pub fn as_slice(&self) -> &[Violation] {
        &self.list
    }

    pub(crate) fn into_list(self) -> Vec<Violation> {
        self.list
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
pub(crate) struct Structure {
    schema: Value,
    validator: Validator,
}

impl Structure {
    pub(super) fn of<S: JsonSchema>() -> Result<Self> {
        Self::new(schemars::schema_for!(S).to_value())
    }

    /// Checks documents by `schema`, and refuses fields that it does not name.
    pub(crate) fn new(mut schema: Value) -> Result<Self> {
        close::close(&mut schema);
        let validator = jsonschema::options().offline().build(&schema).map_err(|error| {
            Error::new(Code::ConfigInvalid, format!("the schema of a kind is not usable: {error}"))
        })?;
        Ok(Self { schema, validator })
    }

    /// The schema of someone else, as it is.
    pub(crate) fn around(schema: Value, validator: Validator) -> Self {
        Self { schema, validator }
    }

    pub(crate) fn validator(&self) -> &Validator {
        &self.validator
    }

    pub(crate) fn schema(&self) -> &Value {
        &self.schema
    }

    /// What is wrong with `document`, and the document without its unknown fields, so that these
    /// do not keep the rest from being read.
    pub(crate) fn check(&self, document: &Value) -> (Vec<Violation>, Value) {
        let mut found = Vec::new();
        for error in self.validator.iter_errors(document) {
            self.explain(&error, &mut found);
        }
        let mut known = document.clone();
        for violation in found.iter().filter(|violation| violation.code == UNKNOWN) {
            remove(&mut known, &violation.pointer);
        }
        (found, known)
    }

    /// Reads `document`, and adds what is wrong with it. What breaks the schema may be readable
    /// all the same; then the type's own rules can be checked as well.
    pub(super) fn read<S: DeserializeOwned>(
        &self,
        document: &Value,
        violations: &mut Violations,
    ) -> Option<S> {
        let (found, known) = self.check(document);
        let readable = found.iter().all(|violation| violation.code == UNKNOWN);
        violations.extend("", found);
        match serde_path_to_error::deserialize(&known) {
            Ok(spec) => Some(spec),
            Err(error) => {
                if readable {
                    let pointer = pointer(error.path());
                    let message = without_value(&error.into_inner().to_string());
                    violations.add(pointer, "malformed", message);
                }
                None
            }
        }
    }
}

const UNKNOWN: &str = "unknown_field";

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

/// Serde's message without the value that it did not expect: that may be a secret.
pub(crate) fn without_value(message: &str) -> String {
    let shows = message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if shows => format!("is malformed; use {expected}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
