//! What a table answers, asked outside of a transformation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Found, LookupError, LookupView, Missing, Table};
use crate::document::Path;
use crate::engine::core::Core;
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};

/// The most values that are looked up at once.
pub const MAX_RESOLVE: usize = 1_000;

/// What is looked up in a table, as a rule of a mapping would.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// What is looked up, 1 to 1,000 values: text, or numbers and truth values by their JSON text.
    #[schemars(length(min = 1, max = 1000))]
    pub values: Vec<Value>,
    /// Finds entries by their values in place of their keys: one of the paths that the table lists
    /// in its own `reverse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse: Option<String>,
    /// The unit for whose events it is looked up. Default: the organization itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ResourceId>,
}

/// What one value stands for.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Resolved {
    /// What was looked up.
    pub asked: Value,
    /// The entry that was found.
    pub found: Option<FoundEntry>,
    /// What a rule writes that leaves all else to the table; `null` too where it fails.
    pub written: Value,
    /// Whether such a rule fails.
    pub fails: bool,
}

/// An entry that was found.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FoundEntry {
    /// Its key.
    pub key: String,
    /// What the key stands for.
    pub value: Value,
}

/// Looks values up in a table as this node knows it.
///
/// # Errors
///
/// [`Code::OrganizationUnknown`], [`Code::ResourceNotFound`], [`Code::ResolveInvalid`],
/// [`Code::UnitUnknown`], and those of the store.
pub(crate) async fn resolve(
    core: &Core,
    org: &OrgId,
    id: &ResourceId,
    asked: Resolve,
) -> Result<Vec<Resolved>> {
    let view = core.org(org).await?;
    let tables = view.lookups.view(asked.unit.as_ref());
    let table = tables.table(id).map_err(|error| match error {
        LookupError::Unknown => {
            Error::new(Code::ResourceNotFound, format!("there is no lookup `{id}`"))
        }
        LookupError::Unusable => Error::new(Code::ResourceInvalid, error.to_string()),
    })?;
    if !(1..=MAX_RESOLVE).contains(&asked.values.len()) {
        return Err(refuse("/values", "out_of_range", format!("give 1 to {MAX_RESOLVE} values")));
    }
    if let Some(unit) = &asked.unit
        && !view.matching.has_unit(unit)
    {
        let message = format!("the organization has no unit `{unit}`");
        let violation = Violation::new("/unit", Code::UnitUnknown.as_str(), message);
        return Err(Error::violations(Code::UnitUnknown, vec![violation]));
    }
    let reverse = asked.reverse.as_deref().map(|text| reverse(table, text)).transpose()?;
    let one = |value| resolved(tables, table, reverse.as_ref(), value);
    Ok(asked.values.into_iter().map(one).collect())
}

fn reverse(table: &Table, text: &str) -> Result<Path> {
    let malformed = |error| refuse("/reverse", "path_malformed", format!("{error}"));
    let path = Path::parse(text).map_err(malformed)?;
    if table.is_reversible(&path) {
        return Ok(path);
    }
    let message = format!("the table is not searched by `{path}`; add it to its `reverse`");
    Err(refuse("/reverse", "lookup_not_reversible", message))
}

fn resolved(
    tables: LookupView<'_>,
    table: &Table,
    reverse: Option<&Path>,
    asked: Value,
) -> Resolved {
    let found = match (reverse, &asked) {
        (_, Value::Null | Value::Array(_) | Value::Object(_)) => None,
        (Some(path), value) => tables.by_value(table, path, value),
        (None, Value::String(key)) => tables.by_key(table, key),
        (None, value) => tables.by_key(table, &value.to_string()),
    };
    let (written, fails) = match (found, &asked, table.missing()) {
        (Some(found), ..) if reverse.is_some() => (found.key.into(), false),
        (Some(found), ..) => (found.value.clone(), false),
        (None, Value::Null, _) => (Value::Null, false),
        (None, _, Missing::Keep) => (asked.clone(), false),
        (None, _, Missing::Default(value)) => (value.clone(), false),
        (None, _, Missing::Error) => (Value::Null, true),
    };
    Resolved { asked, found: found.map(FoundEntry::of), written, fails }
}

impl FoundEntry {
    fn of(found: Found<'_>) -> Self {
        Self { key: found.key.to_owned(), value: found.value.clone() }
    }
}

fn refuse(at: &str, code: &str, message: String) -> Error {
    Error::violations(Code::ResolveInvalid, vec![Violation::new(at, code, message)])
}
