//! The audit log as a file, of which a page at a time is in memory.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use icp_core::id::OrgId;
use icp_core::resource::{AuditEntry, AuditQuery};
use icp_core::store::Page;
use icp_core::{Engine, Error};

use crate::extract::{CSV, preferred};
use crate::problem::Result;

/// Lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// How many rows are in memory.
const PAGE: usize = 500;

const COLUMNS: [&str; 13] = [
    "number",
    "revision",
    "at",
    "actor",
    "acting_as",
    "request_id",
    "action",
    "kind",
    "id",
    "before",
    "after",
    "note",
    "chain",
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Lines,
    Csv,
}

/// The rows that `query` takes, in the form that the request likes most; lines of JSON where it
/// likes neither.
pub(super) async fn file(
    engine: Engine,
    org: OrgId,
    mut query: AuditQuery,
    headers: &HeaderMap,
) -> Result<Response> {
    let form = match preferred(headers, &[NDJSON, CSV]) {
        Some(CSV) => Form::Csv,
        _ => Form::Lines,
    };
    let (media, ending) = match form {
        Form::Lines => (NDJSON, "ndjson"),
        Form::Csv => ("text/csv; charset=utf-8", "csv"),
    };
    let name = format!("attachment; filename=\"audit-{org}.{ending}\"");
    query.page.limit = PAGE;
    // What fails at once is told as a problem; later there is only an end before the end.
    let first = engine.resources().audit_log(&org, &query).await?;
    let begun = Reader { engine, org, query, form, first: Some(first), begun: false, ended: false };
    let pages = stream::try_unfold(begun, Reader::step);
    let fields = [(CONTENT_TYPE, media.to_owned()), (CONTENT_DISPOSITION, name)];
    Ok((fields, Body::from_stream(pages)).into_response())
}

struct Reader {
    engine: Engine,
    org: OrgId,
    query: AuditQuery,
    form: Form,
    /// The first page, until it is written.
    first: Option<Page<AuditEntry>>,
    begun: bool,
    ended: bool,
}

impl Reader {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        let page = match self.first.take() {
            Some(page) => page,
            None if self.ended => return Ok(None),
            None => self.engine.resources().audit_log(&self.org, &self.query).await?,
        };
        self.query.page.after = page.items.last().map(|entry| entry.revision);
        self.ended = !page.more;
        let mut text = String::new();
        if self.form == Form::Csv && !std::mem::replace(&mut self.begun, true) {
            row(&mut text, COLUMNS);
        }
        for entry in &page.items {
            match self.form {
                Form::Lines => line(&mut text, entry)?,
                Form::Csv => cells(&mut text, entry),
            }
        }
        Ok(Some((text.into(), self)))
    }
}

fn line(text: &mut String, entry: &AuditEntry) -> Result<(), Error> {
    let line = serde_json::to_string(entry).map_err(|fault| {
        Error::new(icp_core::Code::Internal, "an audit row cannot be written").caused_by(fault)
    })?;
    text.push_str(&line);
    text.push('\n');
    Ok(())
}

fn cells(text: &mut String, entry: &AuditEntry) {
    let some = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let cells = [
        entry.number.to_string(),
        entry.revision.to_string(),
        entry.at.to_string(),
        entry.actor.name.clone(),
        some(&entry.actor.acting_as),
        some(&entry.actor.request_id),
        entry.action.clone(),
        entry.kind.clone(),
        entry.id.to_string(),
        some(&entry.before),
        some(&entry.after),
        some(&entry.note),
        entry.chain.clone(),
    ];
    row(text, cells);
}

/// One row by RFC 4180.
fn row<T: AsRef<str>>(text: &mut String, cells: impl IntoIterator<Item = T>) {
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_cell(text, cell.as_ref());
    }
    text.push_str("\r\n");
}

/// A cell that a spreadsheet takes for text: one that begins as a formula does is put behind an
/// apostrophe.
fn write_cell(text: &mut String, cell: &str) {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let quoted = cell.contains(['"', ',', '\r', '\n']);
    if quoted {
        text.push('"');
    }
    if formula {
        text.push('\'');
    }
    if quoted {
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text_to_spreadsheets() {
        for (cell, written) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@sum", "'@sum"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("=a,\"b\"", "\"'=a,\"\"b\"\"\""),
            ("a=1", "a=1"),
        ] {
            let mut text = String::new();
            write_cell(&mut text, cell);
            assert_eq!(text, written, "{cell:?}");
        }
    }

    #[test]
    fn a_row_ends_with_a_line_break() {
        let mut text = String::new();
        row(&mut text, ["a", "", "b"]);
        assert_eq!(text, "a,,b\r\n");
    }
}
