//! Entries of lookup tables for programs.

use std::borrow::Cow;

use icp_core::document::Path;
use icp_core::id::ResourceId;
use icp_core::lookup::{LookupError, LookupView, Missing, Table};
use serde_json::Value;

use super::Replied;
use crate::host::{Lookup, Refusal, Reply};

/// The longest answer, in bytes of JSON.
const MOST: usize = 1 << 20;

/// The longest name of a table with the path that it is searched by, in bytes.
const NAMES: usize = 4 << 10;

/// What the tables say; as the rules of a mapping have it.
pub(super) fn answer(
    tables: LookupView<'_>,
    question: &Lookup,
    key: &[u8],
) -> Result<Replied, Refusal> {
    if question.table.len() + question.reverse.as_ref().map_or(0, String::len) > NAMES {
        return Err(Refusal::new("lookup_unknown", "no table has so long a name or path"));
    }
    let named = ResourceId::new(&question.table).map_err(|_| LookupError::Unknown);
    let table = named.and_then(|name| tables.table(&name)).map_err(|error| {
        let code = match error {
            LookupError::Unusable => "lookup_unusable",
            _ => "lookup_unknown",
        };
        Refusal::new(code, format!("cannot look up in `{}`: {error}", question.table))
    })?;
    let key: Value = serde_json::from_slice(key)
        .map_err(|_| Refusal::new("lookup_missing", "what is looked up is no json value"))?;
    let value = match search(tables, table, question, &key)? {
        Some(found) => found,
        None if question.fallback => return Ok((Reply::Absent, Vec::new())),
        None => match table.missing() {
            Missing::Keep => Cow::Borrowed(&key),
            Missing::Default(value) => Cow::Borrowed(value),
            Missing::Error => return Err(nothing(question)),
        },
    };
    match serde_json::to_vec(&value) {
        Ok(text) if text.len() <= MOST => Ok((Reply::Value, text)),
        _ => {
            let message = format!("a value of `{}` is longer than {MOST} bytes", question.table);
            Err(Refusal::new("lookup_unusable", message))
        }
    }
}

fn search<'a>(
    tables: LookupView<'a>,
    table: &'a Table,
    question: &Lookup,
    key: &Value,
) -> Result<Option<Cow<'a, Value>>, Refusal> {
    let Some(reverse) = &question.reverse else {
        let found = match key {
            Value::String(key) => tables.by_key(table, key),
            other => tables.by_key(table, &other.to_string()),
        };
        return Ok(found.map(|found| Cow::Borrowed(found.value)));
    };
    match Path::parse(reverse) {
        Ok(path) if table.is_reversible(&path) => {
            let found = tables.by_value(table, &path, key);
            Ok(found.map(|found| Cow::Owned(found.key.into())))
        }
        _ => Err(Refusal::new(
            "lookup_not_reversible",
            format!("`{}` is not searched by `{reverse}`; add it to its `reverse`", question.table),
        )),
    }
}

fn nothing(question: &Lookup) -> Refusal {
    let message = format!(
        "the lookup table `{}` has no entry for this; add one, or give a fallback",
        question.table
    );
    Refusal::new("lookup_missing", message)
}
