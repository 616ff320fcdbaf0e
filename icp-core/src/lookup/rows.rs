//! Entries as rows of a file, whatever its format.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LookupEntry, csv, json};
use crate::error::{Code, Error, Result};

/// The most problems that are told one by one.
const MAX_PROBLEMS: usize = 1_000;

/// The formats of files of entries.
///
/// CSV by RFC 4180 in UTF-8, with a header. The columns are `key`, `value`, `json`, `unit`,
/// `category` and `active`, in any order; only `key` and one of `value` and `json` are needed.
/// `value` holds text as it is, `json` any other value as JSON; a row gives one of both. An empty
/// `active` is `true`, an empty `unit` the whole organization.
///
/// JSON is an array of entries as a table has them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// CSV.
    Csv,
    /// JSON.
    #[default]
    Json,
}

/// What is wrong with one row of a file.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RowProblem {
    /// The line where the row begins, from 1; 0 for the file as a whole.
    pub line: u64,
    /// The column or field; empty for the row as a whole.
    pub column: String,
    /// Stable name of the rule, lower case with underscores.
    pub code: String,
    /// What is wrong and what would be right; without values of the file.
    pub message: String,
}

/// The problems of a file, the first of them one by one.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) list: Vec<RowProblem>,
    pub(super) more: usize,
}

/// A row that has no fault of its own.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) entry: LookupEntry,
}

impl Problems {
    pub(super) fn add(&mut self, line: u64, column: &str, code: &str, message: impl Into<String>) {
        if self.list.len() == MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        let (column, code) = (column.to_owned(), code.to_owned());
        self.list.push(RowProblem { line, column, code, message: message.into() });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Format {
    /// Reads up to `most` rows; those with a fault are told and left out.
    pub(super) fn read(self, data: &[u8], most: usize, problems: &mut Problems) -> Vec<Row> {
        let mut rows = match self {
            Self::Csv => csv::read(data, most, problems),
            Self::Json => json::read(data, most, problems),
        };
        let mut seen = HashMap::with_capacity(rows.len());
        let is_new = |row: &Row, problems: &mut Problems| {
            let mut fine = true;
            for found in row.entry.violations() {
                let column = found.pointer.trim_start_matches('/');
                problems.add(row.line, column, &found.code, found.message);
                fine = false;
            }
            fine
        };
        rows.retain(|row| is_new(row, problems));
        for row in &rows {
            match seen.entry(row.entry.place()) {
                Entry::Occupied(first) => {
                    let message = format!("is the key of line {} too; use each once", first.get());
                    problems.add(row.line, "key", "duplicate", message);
                }
                Entry::Vacant(place) => drop(place.insert(row.line)),
            }
        }
        problems.list.sort_by_key(|problem| problem.line);
        rows
    }

    /// Writes entries so that reading them gives the same.
    pub(super) fn write<'a>(
        self,
        entries: impl Iterator<Item = &'a LookupEntry>,
    ) -> Result<Vec<u8>> {
        let written = match self {
            Self::Csv => csv::write(entries),
            Self::Json => json::write(entries),
        };
        written.map_err(|error| {
            Error::new(Code::Internal, "the entries have no written form").caused_by(error)
        })
    }
}

/// Counts the lines of a text up to places in it, each behind the one before.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    data: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn of(data: &'a [u8]) -> Self {
        Self { data, at: 0, line: 1 }
    }

    /// The line of the byte at `place`, from 1.
    pub(super) fn at(&mut self, place: usize) -> u64 {
        while self.at < place.min(self.data.len()) {
            let ends = match self.data[self.at] {
                b'\n' => true,
                b'\r' => self.data.get(self.at + 1) != Some(&b'\n'),
                _ => false,
            };
            self.line += u64::from(ends);
            self.at += 1;
        }
        self.line
    }

    /// The line of the next byte from `place` on that ends no line.
    pub(super) fn from(&mut self, place: usize) -> u64 {
        let rest = self.data.get(place..).unwrap_or_default();
        let breaks = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.at(place + breaks)
    }
}

pub(super) fn too_many(line: u64, most: usize, problems: &mut Problems) {
    let message = format!("is more than the {most} rows that are taken; split the table");
    problems.add(line, "", "too_many", message);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::id::ResourceId;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(Value::from),
            "[\",;\r\n \u{feff}=é]{0,6}".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
            any::<String>().prop_map(|text| json!({text.clone(): [text, 1.5, null]})),
        ]
    }

    fn entries() -> impl Strategy<Value = Vec<LookupEntry>> {
        let entry = (
            prop_oneof!["[\",\r\n '\u{feff}#]{1,8}", "\\PC{1,20}"],
            value(),
            prop::option::of("[a-z0-9_-]{1,8}"),
            prop::option::of("[\", \r\néa]{1,8}"),
            any::<bool>(),
        );
        prop::collection::vec(entry, 0..12).prop_map(|entries| {
            let mut seen = std::collections::HashSet::new();
            entries
                .into_iter()
                .map(|(key, value, unit, category, active)| LookupEntry {
                    key,
                    value,
                    unit: unit.map(|unit| ResourceId::new(unit).unwrap()),
                    category,
                    active,
                })
                .filter(|entry| seen.insert((entry.unit.clone(), entry.key.clone())))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(
            entries in entries(),
            format in prop::sample::select(vec![Format::Csv, Format::Json]),
        ) {
            let written = format.write(entries.iter()).unwrap();
            let mut problems = Problems::default();
            let rows = format.read(&written, 100, &mut problems);
            prop_assert_eq!(problems.list, vec![]);
            let read: Vec<_> = rows.into_iter().map(|row| row.entry).collect();
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn any_file_is_read_or_refused(
            data in prop::collection::vec(any::<u8>(), 0..64),
            header in prop::sample::select(vec!["", "key,value\n", "key,json\n", "[", "[{"]),
            format in prop::sample::select(vec![Format::Csv, Format::Json]),
        ) {
            let mut problems = Problems::default();
            format.read(&[header.as_bytes(), &data].concat(), 100, &mut problems);
        }
    }

    #[test]
    fn problems_are_counted_past_those_that_are_told() {
        let data = format!("key,value\n{}", ",x\n".repeat(MAX_PROBLEMS + 5));
        let mut problems = Problems::default();
        assert!(Format::Csv.read(data.as_bytes(), 10_000, &mut problems).is_empty());
        assert_eq!((problems.list.len(), problems.more), (MAX_PROBLEMS, 5));
    }
}
