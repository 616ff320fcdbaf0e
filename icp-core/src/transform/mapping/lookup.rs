//! The stage of a rule that looks its value up.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compile::Rule;
use crate::document::Path;
use crate::id::ResourceId;
use crate::lookup::{LookupError, LookupView, Missing, Table};
use crate::transform::TransformError;

/// How a rule looks its value up in a table of the organization.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LookupRule {
    /// The id of the table.
    pub table: ResourceId,
    /// Finds the entry by its value in place of its key: the path in the values of the table,
    /// one of those the table lists in its own `reverse`. The key is then written, unless `field`
    /// is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse: Option<String>,
    /// The path in the found value that is written. Default: the whole value, `@`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is written where nothing is found, or the found value has no such field. Default:
    /// `default` where the rule has a default, otherwise what the table says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<OnMissing>,
}

/// What a rule writes where nothing is found.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// Nothing: the transformation fails.
    Error,
    /// The default of the rule.
    Default,
    /// The value that was looked up.
    Keep,
}

/// A compiled lookup.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) table: ResourceId,
    pub(crate) reverse: Option<Path>,
    pub(crate) field: Option<Path>,
    pub(crate) on_missing: Option<OnMissing>,
}

impl Lookup {
    /// What `value` stands for; `None` where the default of the rule is to be written.
    pub(super) fn find<'a>(
        &self,
        rule: &Rule,
        tables: LookupView<'a>,
        value: Cow<'a, Value>,
    ) -> Result<Option<Cow<'a, Value>>, TransformError> {
        let table = tables.table(&self.table).map_err(|error| self.no_table(rule, error))?;
        if let Some(found) = self.search(tables, table, &value) {
            return Ok(Some(found));
        }
        match (self.on_missing, table.missing()) {
            (Some(OnMissing::Default), _) => Ok(None),
            (Some(OnMissing::Keep), _) | (None, Missing::Keep) => Ok(Some(value)),
            (None, Missing::Default(value)) => Ok(Some(Cow::Borrowed(value))),
            (Some(OnMissing::Error), _) | (None, Missing::Error) => Err(self.nothing(rule)),
        }
    }

    fn search<'a>(
        &self,
        tables: LookupView<'a>,
        table: &'a Table,
        value: &Value,
    ) -> Option<Cow<'a, Value>> {
        let found = match (&self.reverse, value) {
            (Some(path), value) => tables.by_value(table, path, value)?,
            (None, Value::String(key)) => tables.by_key(table, key)?,
            (None, value) => tables.by_key(table, &value.to_string())?,
        };
        match (&self.field, &self.reverse) {
            (Some(field), _) => field.get(found.value).map(Cow::Borrowed),
            (None, Some(_)) => Some(Cow::Owned(found.key.into())),
            (None, None) => Some(Cow::Borrowed(found.value)),
        }
    }

    fn no_table(&self, rule: &Rule, error: LookupError) -> TransformError {
        let code = match error {
            LookupError::Unusable => "lookup_unusable",
            _ => "lookup_unknown",
        };
        failure(rule, code, format!("cannot look up in `{}`: {error}", self.table))
    }

    fn nothing(&self, rule: &Rule) -> TransformError {
        let message = format!(
            "the lookup table `{}` has no entry for the value of `{}`; add one, or choose \
             `on_missing`",
            self.table, rule.target
        );
        failure(rule, "lookup_missing", message)
    }
}

// Tables change while the plan does not, so trying again can help.
fn failure(rule: &Rule, code: &'static str, message: String) -> TransformError {
    TransformError::new(code, message).retryable().at_pointer(format!("{}/lookup", rule.at))
}

#[cfg(test)]
mod tests;
