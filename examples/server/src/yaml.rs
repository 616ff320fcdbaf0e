//! Documents in YAML 1.2, read and written as JSON values.

use serde_json::Value;
use serde_saphyr::{NonFiniteFloatPolicy, Options, SerializerOptions};

use crate::failure::{Failure, Result};

/// A document, and the line it begins on.
#[derive(Debug, PartialEq)]
pub(crate) struct Parsed {
    /// From 1.
    pub(crate) line: usize,
    /// What it holds.
    pub(crate) value: Value,
}

/// Every document of `text`; those that hold nothing are left out.
pub(crate) fn read_all(text: &str) -> Result<Vec<Parsed>, String> {
    let mut documents = Vec::new();
    for (before, part) in parts(text) {
        let parsed: Result<Value, _> = serde_saphyr::from_str_with_options(part, options());
        let Ok(value) = parsed else {
            // Once more with the lines before it, so that the message counts them.
            let whole = "\n".repeat(before) + part;
            let again: Result<Value, _> = serde_saphyr::from_str_with_options(&whole, options());
            let fault = again.err().map(|fault| fault.to_string());
            return Err(fault.unwrap_or_else(|| format!("line {}: not yaml", before + 1)));
        };
        let blank = part.lines().take_while(|line| is_blank(line)).count();
        if !value.is_null() {
            documents.push(Parsed { line: before + blank + 1, value });
        }
    }
    Ok(documents)
}

/// The documents of `items`, one after the other.
pub(crate) fn write_all(items: &[Value]) -> Result<String> {
    let mut text = String::new();
    for item in items {
        text.push_str("---\n");
        text.push_str(&write(item)?);
    }
    Ok(text)
}

/// One document.
pub(crate) fn write(value: &Value) -> Result<String> {
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, written())
        .map_err(|fault| Failure::Wanting(format!("yaml cannot be written: {fault}")))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Splits at the markers between documents, which no scalar may hold at the start of a line. With
/// each part goes how many lines are before it.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut parts, mut begin, mut offset, mut before) = (Vec::new(), 0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if offset > begin && is_marker(line) {
            parts.push((before, &text[begin..offset]));
            (begin, before) = (offset, number);
        }
        offset += line.len();
    }
    parts.push((before, &text[begin..]));
    parts.retain(|(_, part)| !part.lines().all(is_blank));
    parts
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
}

/// YAML 1.2: `yes` and `0123` are texts. What is at fault is not repeated, as it may be a secret.
fn options() -> Options {
    let mut options = Options::default();
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.non_finite_float_policy = NonFiniteFloatPolicy::Reject;
    options.with_snippet = false;
    options
}

fn written() -> SerializerOptions {
    let mut options = SerializerOptions::default();
    options.compact_list_indent = true;
    // Folding would touch the blanks of programs and templates.
    options.folded_wrap_chars = usize::MAX;
    options
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_told_apart_with_their_lines() {
        let text =
            "# first\na: 1\n---\n# none\n---\nb: |\n  --- no marker\n  x\n--- \n{\"c\": [1]}\n";
        let found = read_all(text).unwrap();
        let lines: Vec<_> = found.iter().map(|parsed| parsed.line).collect();
        assert_eq!(lines, [2, 6, 10]);
        assert_eq!(found[1].value, json!({"b": "--- no marker\nx\n"}));
        assert_eq!(found[2].value, json!({"c": [1]}));
        assert!(read_all("").unwrap().is_empty() && read_all("---\n...\n").unwrap().is_empty());
    }

    #[test]
    fn a_fault_names_its_line_and_repeats_nothing() {
        for (text, line) in [
            ("a: 1\n---\nb: [hush\n", "line 3"),
            ("a: 1\nb: hush: hush\n", "line 2"),
            ("a: hush\nb: 2\na: 3\n", "line 3"),
            ("a: 1\n---\n\n\na: &x 1\nb: *hush2\n", "line 6"),
        ] {
            let fault = read_all(text).unwrap_err();
            assert!(fault.contains(line), "{text}: {fault}");
            assert!(!fault.contains("hush "), "{fault}");
        }
    }

    #[test]
    fn texts_stay_texts() {
        let words = [
            "yes",
            "no",
            "on",
            "null",
            "~",
            "1e3",
            "0x10",
            "0123",
            "1_000",
            "2026-01-01",
            ".inf",
            "-",
            "",
            " x",
            "a: b",
            "#",
            "&a",
            "*a",
            "!x",
            "%",
            "@",
            "`",
            "|",
            ">",
            "'",
            "\"",
            "\t",
            "••••••••",
            "<<",
            "=",
            "1:20",
        ];
        for word in words {
            let value = json!({ "text": word, word: word });
            let text = write(&value).unwrap();
            assert_eq!(read_all(&text).unwrap()[0].value, value, "{text}");
        }
        let read = read_all("a: yes\nb: 0123\nc: true").unwrap();
        assert_eq!(read[0].value, json!({"a": "yes", "b": "0123", "c": true}));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ \t\n\r:#'\"|>a-z0-9-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ a-z~/:0-9-]{1,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(value in values()) {
            let value = json!({ "value": value });
            let text = write_all(&[value.clone(), value.clone()]).unwrap();
            let read: Vec<_> = read_all(&text).unwrap().into_iter().map(|p| p.value).collect();
            prop_assert_eq!(read, vec![value.clone(), value], "{}", text);
        }
    }
}
