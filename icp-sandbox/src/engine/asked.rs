//! What a call of a lookup function asks, the same in every language.

use serde_json::Value;

use crate::host::Lookup;

/// The path that is searched in reverse where none is named: the value as a whole.
const WHOLE: &str = "@";

/// A lookup, what is looked up, and what stands for it where nothing is found.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) lookup: Lookup,
    pub(super) key: &'a Value,
    pub(super) fallback: Option<&'a Value>,
}

impl<'a> Asked<'a> {
    /// Reads the arguments: the table, the key or value, in reverse the path in the values, and
    /// the fallback.
    pub(super) fn of(arguments: &'a [Value], reverse: bool) -> Result<Self, &'static str> {
        let [Value::String(table), key, rest @ ..] = arguments else {
            return Err("give the name of a lookup table, then what is looked up");
        };
        let (path, rest) = match (reverse, rest) {
            (false, rest) => (None, rest),
            (true, []) => (Some(WHOLE.to_owned()), rest),
            (true, [Value::Null, rest @ ..]) => (Some(WHOLE.to_owned()), rest),
            (true, [Value::String(path), rest @ ..]) => (Some(path.clone()), rest),
            (true, _) => return Err("the third argument is a path in the values of the table"),
        };
        let fallback = match rest {
            [] => None,
            [fallback] => Some(fallback),
            _ => return Err("there is nothing to give beyond a fallback"),
        };
        let lookup = Lookup { table: table.clone(), reverse: path, fallback: fallback.is_some() };
        Ok(Self { lookup, key, fallback })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_read_by_place() {
        let read = |arguments: Value, reverse| {
            let arguments = arguments.as_array().unwrap().clone();
            Asked::of(&arguments, reverse)
                .map(|asked| (asked.lookup.reverse, asked.key.clone(), asked.fallback.cloned()))
        };
        let path = |path: &str| Some(path.to_owned());
        assert_eq!(read(json!(["t", 1]), false), Ok((None, json!(1), None)));
        assert_eq!(read(json!(["t", 1, null]), false), Ok((None, json!(1), Some(Value::Null))));
        assert_eq!(read(json!(["t", "v"]), true), Ok((path("@"), json!("v"), None)));
        assert_eq!(read(json!(["t", "v", "a.b"]), true), Ok((path("a.b"), json!("v"), None)));
        assert_eq!(
            read(json!(["t", "v", null, 0]), true),
            Ok((path("@"), json!("v"), Some(json!(0))))
        );
        for (arguments, reverse) in [
            (json!([]), false),
            (json!(["t"]), false),
            (json!([1, 2]), false),
            (json!(["t", 1, 2, 3]), false),
            (json!(["t", 1, 2]), true),
            (json!(["t", 1, "p", 2, 3]), true),
        ] {
            assert!(read(arguments.clone(), reverse).is_err(), "{arguments}");
        }
    }
}
