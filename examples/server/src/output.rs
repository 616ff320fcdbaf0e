//! What commands print: tables for people, JSON and YAML for programs.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::yaml;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// YAML, one document for each item.
    Yaml,
}

/// Prints to the standard output. Whoever reads it may have seen enough: that is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(fault) if fault.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Wanting(format!("the answer cannot be printed: {fault}")))
        }
        _ => Ok(()),
    }
}

/// Prints what is said beside the answer.
pub(crate) fn note(text: &str) {
    let mut err = std::io::stderr().lock();
    // Nobody is left to be told.
    let _ = writeln!(err, "{text}");
}

/// `items` as programs read them.
pub(crate) fn documents(items: &[Value], format: Format) -> Result<String> {
    match format {
        Format::Yaml => yaml::write_all(items),
        Format::Json | Format::Table => json(&items),
    }
}

/// One item as programs read it.
pub(crate) fn document(item: &Value, format: Format) -> Result<String> {
    match format {
        Format::Yaml => yaml::write(item),
        Format::Json | Format::Table => json(item),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n")
        .map_err(|fault| Failure::Wanting(format!("the answer cannot be written: {fault}")))
}

/// Columns as wide as what is in them; the last one is as long as it is.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or_default();
        widest.max(head.get(column).map_or(0, |name| name.len()))
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<String> = head.iter().map(|name| name.to_uppercase()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text of others for a terminal, which might take a control character for a command.
pub(crate) fn plain(text: &str) -> String {
    let harmful =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// What stands at `pointer`, as a cell; `-` where there is nothing.
pub(crate) fn cell(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows =
            vec![vec!["a".to_owned(), "long one".to_owned()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table(&["id", "name"], &rows), "ID   NAME\na    long one\nbcd  x\n");
        assert_eq!(table(&["id"], &[]), "ID\n");
    }

    #[test]
    fn a_terminal_is_given_no_command() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
        let rows = vec![vec!["\u{1b}]0;x\u{7}".to_owned()]];
        assert!(!table(&["name"], &rows).contains('\u{1b}'));
    }

    #[test]
    fn cells_show_what_is_there() {
        let item = json!({"a": {"b": 1}, "c": null, "d": "x"});
        assert_eq!(["/a/b", "/c", "/d", "/e"].map(|at| cell(&item, at)), ["1", "-", "x", "-"]);
    }
}
