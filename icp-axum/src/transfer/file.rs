//! Resources as the rows of a file.

use std::collections::BTreeMap;

use axum::body::Bytes;
use icp_core::id::ResourceId;
use icp_core::resource::{Document, MAX_STEPS};
use icp_core::{Code, Error, Violation};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::extract::CSV;
use crate::problem::{Problem, Result};

const JSON: &str = "application/json";
/// The media type of RFC 9512.
pub(crate) const YAML: &str = "application/yaml";
const LIST: &str = "resources";
const COLUMNS: [&str; 5] = ["kind", "id", "name", "labels", "spec"];

/// The resources of a file.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Rows {
    /// The resources, up to 1,000 where they are to be imported.
    resources: Vec<Row>,
}

/// A resource as a row of a file. In CSV the labels and the spec are JSON.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Row {
    /// The name of its kind.
    kind: String,
    /// Its id; generated where a new resource has none.
    #[schemars(default)]
    id: Option<ResourceId>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Free labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    labels: BTreeMap<String, String>,
    /// The spec, its secrets masked.
    spec: Value,
}

impl Row {
    pub(super) fn of(document: Document) -> Self {
        let Document { kind, id, name, labels, spec, .. } = document;
        Self { kind, id: Some(id), name, labels, spec }
    }
}

/// What a file is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Json,
    Yaml,
    Csv,
}

/// A row of a file that was read: the name of its kind, and the document.
pub(super) type Given = Result<(String, Value), Error>;

impl Format {
    /// Every media type, the preferred one first.
    pub(super) const MEDIA: [&'static str; 3] = [JSON, YAML, CSV];

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Json, Self::Yaml, Self::Csv].into_iter().find(|format| format.name() == name)
    }

    pub(super) fn of(media: &str) -> Option<Self> {
        [Self::Json, Self::Yaml, Self::Csv].into_iter().find(|format| format.media() == media)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Csv => "csv",
        }
    }

    pub(super) fn media(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Yaml => YAML,
            Self::Csv => CSV,
        }
    }

    /// The text of `rows`, which `before` others come before.
    pub(super) fn write(self, rows: &[Row], before: usize) -> Result<Vec<u8>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut text = if before == 0 { self.begin() } else { Vec::new() };
        match self {
            Self::Json => {
                for (index, row) in rows.iter().enumerate() {
                    text.extend(if before + index == 0 { "\n" } else { ",\n" }.bytes());
                    serde_json::to_writer(&mut text, row).map_err(unwritten)?;
                }
            }
            Self::Yaml => text.extend(serde_saphyr::to_string(&rows).map_err(unwritten)?.bytes()),
            Self::Csv => text.extend(table(rows)?),
        }
        Ok(text)
    }

    /// What stands before the first row.
    fn begin(self) -> Vec<u8> {
        match self {
            Self::Json => format!("{{\"{LIST}\":["),
            Self::Yaml => format!("{LIST}:\n"),
            Self::Csv => format!("{}\n", COLUMNS.join(",")),
        }
        .into_bytes()
    }

    /// What stands behind the last of `count` rows.
    pub(super) fn end(self, count: usize) -> Vec<u8> {
        let end = match self {
            Self::Json => "\n]}\n",
            Self::Yaml if count == 0 => return format!("{LIST}: []\n").into_bytes(),
            Self::Yaml | Self::Csv => "",
        };
        let mut text = if count == 0 { self.begin() } else { Vec::new() };
        text.extend(end.bytes());
        text
    }

    /// The rows of a file, each by itself.
    pub(super) fn read(self, file: &Bytes) -> Result<Vec<Given>> {
        let rows = match self {
            Self::Json => listed(serde_json::from_slice(file).map_err(|e| malformed(self, &e))?)?,
            Self::Yaml => {
                let text = std::str::from_utf8(file).map_err(|e| malformed(self, &e))?;
                listed(serde_saphyr::from_str(text).map_err(|e| malformed(self, &e))?)?
            }
            Self::Csv => cells(file)?,
        };
        if (1..=MAX_STEPS).contains(&rows.len()) {
            return Ok(rows);
        }
        let message = format!("use 1 to {MAX_STEPS} resources at once");
        let violation = Violation::new(format!("/{LIST}"), "out_of_range", message);
        Err(Problem::violations(Code::ResourceInvalid, vec![violation]))
    }
}

fn table(rows: &[Row]) -> Result<Vec<u8>, Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for row in rows {
        let labels = match row.labels.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&row.labels).map_err(unwritten)?,
        };
        let id = row.id.as_ref().map(ResourceId::as_str).unwrap_or_default();
        let name = row.name.as_deref().unwrap_or_default();
        let spec = row.spec.to_string();
        table.write_record([&row.kind, id, name, &labels, &spec]).map_err(unwritten)?;
    }
    table.into_inner().map_err(|error| unwritten(error.into_error()))
}

fn unwritten(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Internal, "a resource cannot be written to a file").caused_by(error)
}

fn malformed(format: Format, error: &dyn std::fmt::Display) -> Problem {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    Problem::new(Code::BodyMalformed, format!("the body is not {}: {text}", format.name()))
}

fn listed(file: Value) -> Result<Vec<Given>> {
    let refuse = |pointer: &str, rule: &str, message: &str| {
        let violation = Violation::new(pointer, rule, message);
        Problem::violations(Code::ResourceInvalid, vec![violation])
    };
    let Value::Object(mut file) = file else {
        return Err(refuse("", "type", "use an object with the list `resources`"));
    };
    let Some(Value::Array(rows)) = file.remove(LIST) else {
        return Err(refuse("/resources", "required", "list the resources here"));
    };
    if let Some(name) = file.keys().next() {
        let pointer = format!("/{}", icp_core::resource::escape(name));
        return Err(refuse(&pointer, "unknown_field", "is not a known field; remove it"));
    }
    Ok(rows.into_iter().map(parted).collect())
}

/// Takes the kind of a row from its document.
fn parted(row: Value) -> Given {
    let Value::Object(mut row) = row else {
        return Err(wrong("", "type", "use an object with kind and spec"));
    };
    match row.remove("kind") {
        Some(Value::String(kind)) => Ok((kind, Value::Object(row))),
        Some(_) => Err(wrong("/kind", "type", "name the kind of the resource")),
        None => Err(wrong("/kind", "required", "name the kind of the resource")),
    }
}

fn cells(file: &Bytes) -> Result<Vec<Given>> {
    let file = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = table.headers().map_err(|e| malformed(Format::Csv, &e))?.clone();
    let known = header.iter().all(|name| COLUMNS.contains(&name));
    let needed = ["kind", "spec"].iter().all(|name| header.iter().any(|known| known == *name));
    if !known || !needed {
        let hint = format!("name the columns in the first line: {}", COLUMNS.join(","));
        return Err(Problem::new(Code::BodyMalformed, hint));
    }
    Ok(table.records().map(|record| row_of(&header, record)).collect())
}

fn row_of(header: &csv::StringRecord, record: csv::Result<csv::StringRecord>) -> Given {
    let record = record.map_err(|_| wrong("", "malformed", "the row cannot be read as csv"))?;
    if record.len() != header.len() {
        let message = format!("has {} fields; the header has {}", record.len(), header.len());
        return Err(wrong("", "row_length", &message));
    }
    let mut row = Map::new();
    for (name, cell) in header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty()) {
        let value = match name {
            "labels" | "spec" => serde_json::from_str(cell)
                .map_err(|_| wrong(&format!("/{name}"), "malformed", "use json"))?,
            _ => Value::from(cell),
        };
        row.insert(name.to_owned(), value);
    }
    parted(Value::Object(row))
}

fn wrong(pointer: &str, rule: &str, message: &str) -> Error {
    Error::violations(Code::ResourceInvalid, vec![Violation::new(pointer, rule, message)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(id: &str, name: &str, spec: Value) -> Row {
        let labels = BTreeMap::from([("a".into(), "=1+1".into())]);
        let id = Some(ResourceId::new(id).unwrap());
        Row { kind: "note".into(), id, name: Some(name.into()), labels, spec }
    }

    #[test]
    fn every_format_gives_back_what_it_was_given() {
        let texts = [
            "yes",
            "0123",
            "1e3",
            "null",
            "~",
            "a: b",
            "# no comment",
            " led",
            "tr ",
            "- x",
            "line\nbreak\n",
            "\ttab",
            "\"quoted\"",
            "'",
            "a,b",
            "ü\u{1f600}",
            "{}",
            "[x]",
            "*a",
            "&a",
            "!t",
            "%d",
            "@x",
            "`",
            "|",
            ">",
            "?",
            ":",
            "\u{7f}\u{85}\u{2028}",
            "\r\n",
        ];
        let spec = json!({
            "texts": texts, "0": { "yes": null, "n": -1.5e300, "": [] }, "big": u64::MAX,
            "t": true, "deep": [[{ "a": [1, { "b": {} }] }]],
        });
        let rows: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| row(&format!("r{index}"), text, spec.clone()))
            .collect();
        for format in [Format::Json, Format::Yaml, Format::Csv] {
            let mut file = format.write(&rows[..1], 0).unwrap();
            file.extend(format.write(&rows[1..], 1).unwrap());
            file.extend(format.end(rows.len()));
            let read = format.read(&file.into()).unwrap();
            for (row, read) in rows.iter().zip(read) {
                let (kind, document) = read.unwrap();
                let mut whole = serde_json::to_value(row).unwrap();
                whole.as_object_mut().unwrap().remove("kind");
                assert_eq!((kind.as_str(), document), ("note", whole), "{format:?}");
            }
        }
    }

    #[test]
    fn a_file_without_rows_is_a_file() {
        for (format, text) in [
            (Format::Json, "{\"resources\":[\n]}\n"),
            (Format::Yaml, "resources: []\n"),
            (Format::Csv, "kind,id,name,labels,spec\n"),
        ] {
            assert_eq!(format.end(0), text.as_bytes());
            let refused = format.read(&Bytes::from(text)).unwrap_err();
            assert_eq!(refused.status(), 400);
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for (format, text) in [
            (Format::Json, "{"),
            (Format::Json, "[]"),
            (Format::Json, "{\"resources\":{}}"),
            (Format::Json, "{\"resources\":[],\"x\":1}"),
            (Format::Yaml, "a: [b"),
            (Format::Yaml, "\u{0}"),
            (Format::Yaml, "a: &a [x,x]\nb: &b [*a,*a]\nresources: *b"),
            (Format::Csv, ""),
            (Format::Csv, "kind,id\na,b\n"),
            (Format::Csv, "kind,spec,size\n"),
        ] {
            assert_eq!(format.read(&Bytes::from(text)).unwrap_err().status(), 400, "{text}");
        }
    }

    #[test]
    fn aliases_do_not_grow_without_bound() {
        let mut text = String::from("resources:\n- &l0 {kind: x, spec: {}}\n");
        for level in 1..40 {
            let below = format!("*l{}", level - 1);
            text += &format!("- &l{level} [{}]\n", [&*below; 9].join(","));
        }
        assert_eq!(Format::Yaml.read(&Bytes::from(text)).unwrap_err().status(), 400);
    }
}
