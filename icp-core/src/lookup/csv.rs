//! Entries as CSV.

use csv::{ByteRecord, ReaderBuilder, Writer};
use serde_json::Value;

use super::LookupEntry;
use super::rows::{Lines, Problems, Row, too_many};
use crate::document::pointer::nearest;
use crate::error::BoxError;
use crate::id::ResourceId;

const COLUMNS: [&str; 6] = ["key", "value", "json", "unit", "category", "active"];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub(super) fn read(data: &[u8], most: usize, problems: &mut Problems) -> Vec<Row> {
    let mut file = File::of(data);
    let mut rows = Vec::new();
    let Some(line) = file.next(problems) else {
        problems.add(1, "", "header_missing", "the first line names the columns, as in key,value");
        return rows;
    };
    let Some(columns) = header(line, &file.record, problems) else { return rows };
    let mut count = 0;
    while let Some(line) = file.next(problems) {
        let record = &file.record;
        count += 1;
        if count > most {
            too_many(line, most, problems);
            break;
        }
        if record.len() != columns.len() {
            let message = format!("has {} fields; the header has {}", record.len(), columns.len());
            problems.add(line, "", "row_length", message);
            continue;
        }
        let mut cells = Cells { line, columns: &columns, record, problems, fine: true };
        if let Some(entry) = cells.entry() {
            rows.push(Row { line, entry });
        }
    }
    rows
}

struct File<'a> {
    reader: csv::Reader<&'a [u8]>,
    record: ByteRecord,
    lines: Lines<'a>,
}

impl<'a> File<'a> {
    fn of(data: &'a [u8]) -> Self {
        let data = data.strip_prefix(BYTE_ORDER_MARK).unwrap_or(data);
        let reader = ReaderBuilder::new().flexible(true).has_headers(false).from_reader(data);
        Self { reader, record: ByteRecord::new(), lines: Lines::of(data) }
    }

    /// Reads the next record; answers the line it begins on.
    fn next(&mut self, problems: &mut Problems) -> Option<u64> {
        // The reader stands behind the last record, not yet behind the end of its line.
        let start = usize::try_from(self.reader.position().byte()).unwrap_or(usize::MAX);
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Some(self.lines.from(start)),
            Ok(false) => None,
            Err(_) => {
                problems.add(self.lines.from(start), "", "malformed", "cannot be read as csv");
                None
            }
        }
    }
}

/// The columns in their order, where all are known and the needed ones are there.
fn header(line: u64, record: &ByteRecord, problems: &mut Problems) -> Option<Vec<&'static str>> {
    let mut columns = Vec::new();
    let mut fine = true;
    let mut refuse = |column: &str, code: &str, message: String| {
        problems.add(line, column, code, message);
        fine = false;
    };
    for cell in record {
        let name: String = String::from_utf8_lossy(cell).trim().chars().take(64).collect();
        match COLUMNS.into_iter().find(|column| *column == name) {
            Some(column) if columns.contains(&column) => {
                refuse(column, "duplicate", "is there twice".to_owned());
            }
            Some(column) => columns.push(column),
            None => {
                let known = COLUMNS.join(", ");
                let message = format!("is no column{}; use {known}", nearest(&name, &COLUMNS));
                refuse(&name, "unknown_column", message);
            }
        }
    }
    if !columns.contains(&"key") {
        refuse("key", "required", "is missing".to_owned());
    }
    if !columns.contains(&"value") && !columns.contains(&"json") {
        refuse("value", "required", "give a column `value` or `json`".to_owned());
    }
    fine.then_some(columns)
}

/// One row that has as many cells as there are columns.
struct Cells<'a> {
    line: u64,
    columns: &'a [&'static str],
    record: &'a ByteRecord,
    problems: &'a mut Problems,
    fine: bool,
}

impl Cells<'_> {
    fn entry(&mut self) -> Option<LookupEntry> {
        let key = self.text("key");
        let value = self.value();
        let unit = self.text("unit").filter(|text| !text.is_empty());
        let unit = unit.and_then(|text| match ResourceId::new(text) {
            Ok(unit) => Some(unit),
            Err(error) => {
                self.refuse("unit", "id_invalid", error.message());
                None
            }
        });
        let category = self.text("category").filter(|text| !text.is_empty());
        let active = self.text("active").unwrap_or_default().to_ascii_lowercase();
        let active = match active.as_str() {
            "" | "true" | "1" => true,
            "false" | "0" => false,
            _ => {
                self.refuse("active", "malformed", "use true or false");
                true
            }
        };
        if !self.fine {
            return None;
        }
        Some(LookupEntry { key: key?, value: value?, unit, category, active })
    }

    fn value(&mut self) -> Option<Value> {
        let text = self.text("value");
        let json = self.text("json").filter(|json| !json.is_empty());
        let Some(json) = json else {
            if text.is_none() {
                self.refuse("json", "required", "is empty; write a value as json");
            }
            return text.map(Value::String);
        };
        if text.is_some_and(|text| !text.is_empty()) {
            self.refuse("json", "ambiguous", "give `value` or `json`, and leave the other empty");
            return None;
        }
        match serde_json::from_str(&json) {
            Ok(value) => Some(value),
            Err(error) => {
                let at = error.column();
                self.refuse("json", "malformed", &format!("is not json (at its byte {at})"));
                None
            }
        }
    }

    /// The cell of a column; `None` where the file has no such column, or the cell is no text.
    fn text(&mut self, column: &'static str) -> Option<String> {
        let place = self.columns.iter().position(|known| *known == column)?;
        let text = String::from_utf8(self.record.get(place)?.to_vec()).ok();
        if text.is_none() {
            self.refuse(column, "not_utf8", "is not utf-8; save the file as utf-8");
        }
        text
    }

    fn refuse(&mut self, column: &str, code: &str, message: &str) {
        self.problems.add(self.line, column, code, message);
        self.fine = false;
    }
}

pub(super) fn write<'a>(
    entries: impl Iterator<Item = &'a LookupEntry>,
) -> Result<Vec<u8>, BoxError> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for entry in entries {
        let json = match &entry.value {
            Value::String(_) => String::new(),
            other => other.to_string(),
        };
        let unit = entry.unit.as_ref().map_or("", ResourceId::as_str);
        let category = entry.category.as_deref().unwrap_or_default();
        let active = if entry.active { "true" } else { "false" };
        let text = entry.value.as_str().unwrap_or_default();
        writer.write_record([entry.key.as_str(), text, &json, unit, category, active])?;
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_text(text: impl AsRef<[u8]>) -> (Vec<Value>, Vec<(u64, String, String)>) {
        let mut problems = Problems::default();
        let rows = read(text.as_ref(), 100, &mut problems);
        let rows = rows.iter().map(|row| json!([row.line, row.entry])).collect();
        (rows, problems.list.into_iter().map(|p| (p.line, p.column, p.code)).collect())
    }

    #[test]
    fn rows_are_read_whatever_the_order_of_columns() {
        let (rows, problems) = read_text(
            "\u{feff}unit,key, value ,json,active\r\n\
             ,DE,Germany,,\r\n\
             \r\n\
             eu,FR,,\"{\"\"dial\"\": 33}\",0\r\n\
             ,\"two\nlines\",,,TRUE\r\n",
        );
        assert_eq!(problems, []);
        assert_eq!(
            rows,
            [
                json!([2, {"key": "DE", "value": "Germany"}]),
                json!([4, {"key": "FR", "value": {"dial": 33}, "unit": "eu", "active": false}]),
                json!([5, {"key": "two\nlines", "value": ""}]),
            ]
        );
    }

    #[test]
    fn each_bad_row_is_named_by_line_and_column() {
        let (rows, problems) = read_text(
            b"key,value,json,unit,active\n\
              a,1,2,,\n\
              b,,{,,\n\
              c,x,,not a unit,maybe\n\
              d,x\n\
              \xff,x,,,\n\
              f,fine,,,\n",
        );
        let problems: Vec<_> =
            problems.iter().map(|(line, column, code)| (*line, &**column, &**code)).collect();
        assert_eq!(
            problems,
            [
                (2, "json", "ambiguous"),
                (3, "json", "malformed"),
                (4, "unit", "id_invalid"),
                (4, "active", "malformed"),
                (5, "", "row_length"),
                (6, "key", "not_utf8"),
            ]
        );
        assert_eq!(rows, [json!([7, {"key": "f", "value": "fine"}])]);
    }

    #[test]
    fn a_bad_header_is_all_that_is_told() {
        for (text, expected) in [
            ("", vec![(1, "", "header_missing")]),
            ("key\na\n", vec![(1, "value", "required")]),
            ("value\na\n", vec![(1, "key", "required")]),
            ("key,valeu\na,b\n", vec![(1, "valeu", "unknown_column"), (1, "value", "required")]),
            ("key,key,value\na,b,c\n", vec![(1, "key", "duplicate")]),
        ] {
            let (rows, problems) = read_text(text);
            let problems: Vec<_> =
                problems.iter().map(|(line, column, code)| (*line, &**column, &**code)).collect();
            assert_eq!((rows.len(), problems), (0, expected), "{text}");
        }
        assert_eq!(read_text("key,json\na,\n").1, [(2, "json".into(), "required".into())]);
    }

    #[test]
    fn reading_ends_at_the_most_rows() {
        let mut problems = Problems::default();
        assert_eq!(read(b"key,value\na,1\nb,2\nc,3\n", 2, &mut problems).len(), 2);
        assert_eq!((problems.list[0].line, problems.list[0].code.as_str()), (4, "too_many"));
    }
}
