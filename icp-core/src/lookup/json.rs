//! Entries as JSON.

use serde_json::value::RawValue;

use super::LookupEntry;
use super::rows::{Lines, Problems, Row, too_many};
use crate::error::BoxError;
use crate::resource::without_value;

pub(super) fn read(data: &[u8], most: usize, problems: &mut Problems) -> Vec<Row> {
    let items: Vec<&RawValue> = match serde_json::from_slice(data) {
        Ok(items) => items,
        Err(error) => {
            let line = u64::try_from(error.line()).unwrap_or_default().max(1);
            let message = format!("is not a json array (at column {})", error.column());
            problems.add(line, "", "malformed", message);
            return Vec::new();
        }
    };
    let mut lines = Lines::of(data);
    let mut rows = Vec::new();
    for (count, item) in items.into_iter().enumerate() {
        let start = item.get().as_ptr().addr().saturating_sub(data.as_ptr().addr());
        let line = lines.at(start);
        if count == most {
            too_many(line, most, problems);
            break;
        }
        let mut text = serde_json::Deserializer::from_str(item.get());
        match serde_path_to_error::deserialize(&mut text) {
            Ok(entry) => rows.push(Row { line, entry }),
            Err(error) => {
                let path = error.path().to_string();
                let message = without_value(&error.into_inner().to_string());
                // The line and column of the item's own text tell nothing.
                let message = message.split(" at line ").next().unwrap_or_default();
                let column = if path == "." { named(message) } else { &path };
                problems.add(line, column, "malformed", message);
            }
        }
    }
    rows
}

/// The field that a message is about, as in "missing field `value`".
fn named(message: &str) -> &str {
    if message.contains(" field `") { message.split('`').nth(1).unwrap_or_default() } else { "" }
}

/// One entry on each line, so that a line names an entry.
pub(super) fn write<'a>(
    entries: impl Iterator<Item = &'a LookupEntry>,
) -> Result<Vec<u8>, BoxError> {
    let mut text = b"[".to_vec();
    for (index, entry) in entries.enumerate() {
        text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut text, entry)?;
    }
    text.extend_from_slice(b"\n]\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_text(text: &str) -> (Vec<Value>, Vec<(u64, String, String)>) {
        let mut problems = Problems::default();
        let rows = read(text.as_bytes(), 4, &mut problems);
        let rows = rows.iter().map(|row| json!([row.line, row.entry])).collect();
        (rows, problems.list.into_iter().map(|p| (p.line, p.column, p.message)).collect())
    }

    #[test]
    fn rows_are_named_by_the_line_they_begin_on() {
        let (rows, problems) = read_text(
            "[{\"key\": \"a\", \"value\": \n 1},\n{\"key\": 7, \"value\": 1}, {\"key\": \"b\"},\n\n\
             {\"key\": \"c\", \"value\": null, \"aktiv\": true}]",
        );
        assert_eq!(rows, [json!([1, {"key": "a", "value": 1}])]);
        let places: Vec<_> = problems.iter().map(|(line, column, _)| (*line, &**column)).collect();
        assert_eq!(places, [(3, "key"), (3, "value"), (5, "aktiv")]);
        assert_eq!(problems[0].2, "is malformed; use a string");
    }

    #[test]
    fn what_is_no_array_is_refused_as_a_whole() {
        for (text, line) in [("{}", 1), ("", 1), ("[\n\n{]", 3), ("[1] 2", 1)] {
            let (rows, problems) = read_text(text);
            assert_eq!((rows.len(), problems.len(), problems[0].0), (0, 1, line), "{text}");
        }
        let many = format!("[{}]", [r#"{"key":"a","value":1}"#; 5].join(",\n"));
        let (rows, problems) = read_text(&many);
        assert_eq!((rows.len(), problems[0].0), (4, 5));
    }
}
