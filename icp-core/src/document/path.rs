//! Paths into a JSON document: `customer.lines[0]["unit price"]`.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

const MAX_TEXT: usize = 512;
const MAX_STEPS: usize = 32;
const MAX_INDEX: usize = 9_999;

/// One step of a path.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Step {
    /// The member of an object. Every key is ordinary, `__proto__` too.
    Key(Box<str>),
    /// The element of an array, counted from 0.
    Index(usize),
}

/// A parsed path: bare keys separated by dots, `[n]` for an element, `["any key"]` for a key
/// with other characters (a JSON string), and `@` alone for the whole document.
///
/// A bare key is any run of characters other than `.`, `[`, `]`, `"`, `{`, `}` and white space.
/// A path has at most 512 bytes and 32 steps; an index is at most 9,999.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Path {
    text: Arc<str>,
    steps: Arc<[Step]>,
}

/// Why a text is not a path, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("path is malformed at character {}: {message}", .at + 1)]
pub struct PathError {
    /// Byte offset into the text.
    pub at: usize,
    /// What is wrong there.
    pub message: &'static str,
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// [`PathError`] with the offset of the first character that does not fit.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let refuse = |at, message| Err(PathError { at, message });
        if text.is_empty() {
            return refuse(0, "write at least one key, or `@` for the whole document");
        }
        if text.len() > MAX_TEXT {
            return refuse(MAX_TEXT, "use at most 512 bytes");
        }
        if text == "@" {
            return Ok(Self { text: text.into(), steps: Arc::new([]) });
        }
        let mut steps = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if steps.len() == MAX_STEPS {
                return refuse(at, "use at most 32 steps");
            }
            if text[at..].starts_with('[') {
                let (step, length) = bracket(&text[at..], at)?;
                steps.push(step);
                at += length;
                continue;
            }
            if !steps.is_empty() {
                if !text[at..].starts_with('.') {
                    return refuse(at, "expected `.` or `[`");
                }
                at += 1;
            }
            let length = bare_key(&text[at..]);
            if length == 0 {
                return refuse(at, "expected a key; write unusual keys as [\"key\"]");
            }
            steps.push(Step::Key(text[at..at + length].into()));
            at += length;
        }
        Ok(Self { text: text.into(), steps: steps.into() })
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The steps; none for the whole document.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The value at this path, if there is one.
    #[must_use]
    pub fn get<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(document, |value, step| match step {
            Step::Key(key) => value.as_object()?.get(&**key),
            Step::Index(index) => value.as_array()?.get(*index),
        })
    }

    /// Takes the value at this path out of the document; later elements of an array move up.
    pub fn remove(&self, document: &mut Value) -> Option<Value> {
        let (last, parents) = self.steps.split_last()?;
        let parent = parents.iter().try_fold(document, |value, step| match step {
            Step::Key(key) => value.as_object_mut()?.get_mut(&**key),
            Step::Index(index) => value.as_array_mut()?.get_mut(*index),
        })?;
        match last {
            Step::Key(key) => parent.as_object_mut()?.shift_remove(&**key),
            Step::Index(index) => {
                let array = parent.as_array_mut()?;
                (*index < array.len()).then(|| array.remove(*index))
            }
        }
    }

    /// Writes `value` at this path and returns how many other values had to be created.
    ///
    /// Missing parents are created, a gap in an array is filled with nulls, and a value of
    /// another kind that stands in the way is replaced.
    pub fn set(&self, document: &mut Value, value: Value) -> usize {
        let mut created = 0;
        let mut place = document;
        for step in self.steps.iter() {
            place = match step {
                Step::Key(key) => {
                    if !place.is_object() {
                        *place = Value::Object(serde_json::Map::new());
                        created += 1;
                    }
                    let Value::Object(map) = place else { return created };
                    map.entry(&**key).or_insert(Value::Null)
                }
                Step::Index(index) => {
                    if !place.is_array() {
                        *place = Value::Array(Vec::new());
                        created += 1;
                    }
                    let Value::Array(array) = place else { return created };
                    if array.len() <= *index {
                        created += index - array.len();
                        array.resize(index + 1, Value::Null);
                    }
                    &mut array[*index]
                }
            };
        }
        *place = value;
        created
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn bare_key(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || ".[]\"{}".contains(c)).unwrap_or(text.len())
}

// `text` begins with `[`; answers the step and the bytes it takes.
fn bracket(text: &str, at: usize) -> Result<(Step, usize), PathError> {
    let inner = &text[1..];
    if inner.starts_with('"') {
        let mut strings = serde_json::Deserializer::from_str(inner).into_iter::<String>();
        let refuse = PathError { at, message: "expected a JSON string and `]` after `[`" };
        let Some(Ok(key)) = strings.next() else { return Err(refuse) };
        let end = 1 + strings.byte_offset();
        if !text[end..].starts_with(']') {
            return Err(refuse);
        }
        return Ok((Step::Key(key.into()), end + 1));
    }
    let digits = inner.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || !inner[digits..].starts_with(']') {
        return Err(PathError { at, message: "expected an index such as [0], or [\"key\"]" });
    }
    match inner[..digits].parse() {
        Ok(index) if index <= MAX_INDEX => Ok((Step::Index(index), digits + 2)),
        _ => Err(PathError { at, message: "use an index of at most 9999" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn get(path: &str, document: &Value) -> Option<Value> {
        Path::parse(path).unwrap().get(document).cloned()
    }

    #[test]
    fn reads_keys_indexes_and_quoted_keys() {
        let document = json!({"a": {"b": [1, {"x.y": 2}]}, "__proto__": 3, "é": 4, "": 5});
        assert_eq!(get("a.b[0]", &document), Some(json!(1)));
        assert_eq!(get(r#"a.b[1]["x.y"]"#, &document), Some(json!(2)));
        assert_eq!(get("__proto__", &document), Some(json!(3)));
        assert_eq!(get("é", &document), Some(json!(4)));
        assert_eq!(get(r#"[""]"#, &document), Some(json!(5)));
        assert_eq!(get("@", &document), Some(document.clone()));
        assert_eq!(get("a.b.c", &document), None);
        assert_eq!(get("a[0]", &document), None);
    }

    #[test]
    fn refuses_with_the_place() {
        for (text, at) in [
            ("", 0),
            (".a", 0),
            ("a.", 2),
            ("a..b", 2),
            ("a[", 1),
            ("a[x]", 1),
            ("a[10000]", 1),
            ("a[0]b", 4),
            ("a b", 1),
            (r#"a["x]"#, 1),
            (r#"a["x" ]"#, 1),
            ("a[-1]", 1),
        ] {
            assert_eq!(Path::parse(text).unwrap_err().at, at, "{text}");
        }
        assert!(Path::parse(&"a.".repeat(40)).is_err());
        assert!(Path::parse(&"a".repeat(513)).is_err());
    }

    #[test]
    fn writes_create_parents_and_replace_what_is_in_the_way() {
        let mut document = json!({"a": 1});
        assert_eq!(Path::parse("a.b[2]").unwrap().set(&mut document, json!("x")), 4);
        assert_eq!(document, json!({"a": {"b": [null, null, "x"]}}));
        assert_eq!(Path::parse("a.b[0]").unwrap().set(&mut document, json!(0)), 0);
        assert_eq!(document, json!({"a": {"b": [0, null, "x"]}}));
    }

    #[test]
    fn removal_keeps_the_order_of_the_rest() {
        let mut document = json!({"a": 1, "b": [1, 2, 3], "c": 2});
        assert_eq!(Path::parse("a").unwrap().remove(&mut document), Some(json!(1)));
        assert_eq!(Path::parse("b[1]").unwrap().remove(&mut document), Some(json!(2)));
        assert_eq!(Path::parse("x.y").unwrap().remove(&mut document), None);
        assert_eq!(document.to_string(), r#"{"b":[1,3],"c":2}"#);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            if let Ok(path) = Path::parse(&text) {
                let mut document = Value::Null;
                path.set(&mut document, json!(7));
                prop_assert_eq!(path.get(&document), Some(&json!(7)));
            }
        }

        #[test]
        fn path_shaped_text_never_panics(text in r#"[a-b.\[\]"0-9\\u@é]{0,24}"#) {
            if let Ok(path) = Path::parse(&text) {
                path.remove(&mut json!({"a": [1]}));
            }
        }
    }
}
