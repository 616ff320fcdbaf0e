//! Declarative mappings from one JSON document to another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TransformError;
use crate::document::Path;
use crate::error::Violation;

/// A mapping as people write it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MappingSpec {
    /// What the result begins as; default `copy`.
    #[serde(default)]
    pub base: Base,
    /// Paths to take out of the result at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// What the result of a mapping begins as.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The payload itself.
    #[default]
    Copy,
    /// An object without members.
    Empty,
}

/// A compiled mapping.
#[derive(Debug)]
pub struct Mapping {
    base: Base,
    remove: Vec<Path>,
}

/// What a mapping made of a payload.
pub(crate) enum Mapped<'a> {
    /// The result.
    Value(Value),
    /// Nothing, and why.
    Dropped(&'a str),
}

impl MappingSpec {
    /// Compiles the mapping. `at` is the pointer to this spec in its document.
    ///
    /// # Errors
    ///
    /// Every broken rule.
    pub fn compile(&self, at: &str) -> Result<Mapping, Vec<Violation>> {
        let mut found = Vec::new();
        let mut remove = Vec::new();
        for (index, text) in self.remove.iter().enumerate() {
            match Path::parse(text) {
                Ok(path) => remove.push(path),
                Err(error) => found.push(Violation::new(
                    format!("{at}/remove/{index}"),
                    "path_malformed",
                    error.to_string(),
                )),
            }
        }
        if found.is_empty() { Ok(Mapping { base: self.base, remove }) } else { Err(found) }
    }
}

impl Mapping {
    pub(crate) fn run(
        &self,
        payload: Value,
        _: &mut Vec<String>,
    ) -> Result<Mapped<'_>, TransformError> {
        let mut result = match self.base {
            Base::Copy => payload,
            Base::Empty => Value::Object(serde_json::Map::new()),
        };
        for path in &self.remove {
            path.remove(&mut result);
        }
        Ok(Mapped::Value(result))
    }
}
