//! What became of a JSON document, as an RFC 6902 JSON Patch.
//!
//! It is looked for only as far as it is shown, so that two large documents that have little in
//! common cost no more than they hold themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::resource::escape;

/// The most operations of a difference.
pub const MAX_CHANGES: usize = 1_000;

/// The most bytes of the values and paths of a difference.
pub const MAX_CHANGED_BYTES: usize = 256 << 10;

/// The difference between two documents.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Changes {
    /// An RFC 6902 patch: applied in order to the first document it makes the second.
    pub operations: Vec<Change>,
    /// Whether that is all of it; not beyond 1,000 operations or 256 KiB.
    pub complete: bool,
}

/// One operation of a patch.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Change {
    /// There is something that was not there.
    Add {
        /// RFC 6901 pointer to it.
        path: String,
        /// What it is.
        value: Value,
    },
    /// Something is not there any more.
    Remove {
        /// RFC 6901 pointer to it.
        path: String,
    },
    /// Something is another value.
    Replace {
        /// RFC 6901 pointer to it.
        path: String,
        /// What it is now.
        value: Value,
    },
}

impl Changes {
    /// What makes `after` of `before`. Items of an array are compared by their places, beside
    /// those that all begin or end with; `1` and `1.0` are two values.
    #[must_use]
    pub fn between(before: &Value, after: &Value) -> Self {
        let mut search = Search { found: Vec::new(), bytes: MAX_CHANGED_BYTES, place: Vec::new() };
        let complete = search.values(before, after).is_some();
        Self { operations: search.found, complete }
    }
}

/// Answers `None` where there is no room for more.
struct Search<'a> {
    found: Vec<Change>,
    bytes: usize,
    /// Where it is. Written out only where something differs: a path can be as long as a document.
    place: Vec<Token<'a>>,
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Search<'a> {
    fn values(&mut self, before: &'a Value, after: &'a Value) -> Option<()> {
        match (before, after) {
            (Value::Object(before), Value::Object(after)) => self.objects(before, after),
            (Value::Array(before), Value::Array(after)) => self.arrays(before, after),
            (before, after) if before == after => Some(()),
            (_, after) => {
                let (path, value) = (self.path()?, self.value(after)?);
                self.push(Change::Replace { path, value })
            }
        }
    }

    fn objects(
        &mut self,
        before: &'a Map<String, Value>,
        after: &'a Map<String, Value>,
    ) -> Option<()> {
        for (name, value) in before {
            self.at(Token::Key(name), |search| match after.get(name) {
                Some(now) => search.values(value, now),
                None => search.remove(),
            })?;
        }
        let mut new = after.iter().filter(|(name, _)| !before.contains_key(*name));
        new.try_for_each(|(name, value)| self.at(Token::Key(name), |search| search.add(value)))
    }

    fn arrays(&mut self, before: &'a [Value], after: &'a [Value]) -> Option<()> {
        let (first, last) = match before.len() == after.len() {
            true => (0, 0),
            false => alike(before, after),
        };
        let old = before.get(first..before.len() - last)?;
        let new = after.get(first..after.len() - last)?;
        for (index, (value, now)) in old.iter().zip(new).enumerate() {
            self.at(Token::Index(first + index), |search| search.values(value, now))?;
        }
        for index in (new.len()..old.len()).rev() {
            self.at(Token::Index(first + index), Self::remove)?;
        }
        for (index, value) in new.iter().enumerate().skip(old.len()) {
            self.at(Token::Index(first + index), |search| search.add(value))?;
        }
        Some(())
    }

    fn at(&mut self, token: Token<'a>, look: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.place.push(token);
        let went = look(self);
        self.place.pop();
        went
    }

    fn add(&mut self, value: &Value) -> Option<()> {
        let (path, value) = (self.path()?, self.value(value)?);
        self.push(Change::Add { path, value })
    }

    fn remove(&mut self) -> Option<()> {
        let path = self.path()?;
        self.push(Change::Remove { path })
    }

    fn push(&mut self, change: Change) -> Option<()> {
        let room = self.found.len() < MAX_CHANGES;
        room.then(|| self.found.push(change))
    }

    fn path(&mut self) -> Option<String> {
        let mut path = String::new();
        for token in &self.place {
            path.push('/');
            match token {
                Token::Key(name) => path.push_str(&escape(name)),
                Token::Index(index) => path.push_str(&index.to_string()),
            }
            if path.len() > self.bytes {
                return None;
            }
        }
        self.bytes -= path.len();
        Some(path)
    }

    fn value(&mut self, value: &Value) -> Option<Value> {
        self.bytes = self.bytes.checked_sub(value.to_string().len())?;
        Some(value.clone())
    }
}

/// How many items both begin with, and how many of the others both end with.
fn alike(before: &[Value], after: &[Value]) -> (usize, usize) {
    let both = before.iter().zip(after);
    let first = both.take_while(|(a, b)| a == b).count();
    let room = before.len().min(after.len()) - first;
    let both = before.iter().rev().zip(after.iter().rev()).take(room);
    (first, both.take_while(|(a, b)| a == b).count())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_as_small_as_a_person_would_write_it() {
        for (before, after, expected) in [
            (json!({"a": 1}), json!({"a": 1}), json!([])),
            (json!(1), json!(1.0), json!([{"op": "replace", "path": "", "value": 1.0}])),
            (
                json!({"a": 1, "b/c": 2, "d": {"e": [1, 2]}}),
                json!({"a": "1", "d": {"e": [1, 3]}, "~": null}),
                json!([
                    {"op": "replace", "path": "/a", "value": "1"},
                    {"op": "remove", "path": "/b~1c"},
                    {"op": "replace", "path": "/d/e/1", "value": 3},
                    {"op": "add", "path": "/~0", "value": null},
                ]),
            ),
            (
                json!([1, 2, 3]),
                json!([0, 1, 2, 3]),
                json!([{"op": "add", "path": "/0", "value": 0}]),
            ),
            (
                json!([1, 2, 3, 4]),
                json!([1, 4]),
                json!([{"op": "remove", "path": "/2"}, {"op": "remove", "path": "/1"}]),
            ),
            (json!([]), json!({}), json!([{"op": "replace", "path": "", "value": {}}])),
        ] {
            let found = Changes::between(&before, &after);
            assert_eq!(serde_json::to_value(&found.operations).unwrap(), expected);
            assert!(found.complete);
        }
    }

    #[test]
    fn it_ends_where_it_would_be_too_long() {
        let (zeros, ones) = (json!(vec![0; 5_000]), json!(vec![1; 5_000]));
        let found = Changes::between(&zeros, &ones);
        assert_eq!((found.operations.len(), found.complete), (MAX_CHANGES, false));
        let all = Changes::between(&json!(vec![0; 1_000]), &json!(vec![1; 1_000]));
        assert_eq!((all.operations.len(), all.complete), (1_000, true));
        let long = "x".repeat(MAX_CHANGED_BYTES);
        let found = Changes::between(&json!({"a": 1, "b": 1}), &json!({"a": 2, "b": long}));
        assert_eq!((found.operations.len(), found.complete), (1, false));
    }

    #[test]
    fn a_long_way_to_many_values_costs_no_more_than_a_short_one() {
        let deep = |last: u32| {
            let items: Vec<_> = (0..50_000).map(|n| json!(n)).chain([json!(last)]).collect();
            (0..100).fold(json!(items), |inner, _| json!({ "k".repeat(8_000): inner }))
        };
        let found = Changes::between(&deep(0), &deep(1));
        assert_eq!((found.operations.len(), found.complete), (0, false));
        assert!(Changes::between(&deep(0), &deep(0)).complete);
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (0_i64..3).prop_map(Value::from),
            Just(json!(1.0)),
            "[a-b]{0,1}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c]|~|/|0", inner, 0..5)
                    .prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn applied_to_the_one_it_makes_the_other(before in document(), after in document()) {
            let found = Changes::between(&before, &after);
            prop_assert!(found.complete);
            let patch = serde_json::to_value(&found.operations).unwrap();
            let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
            let mut made = before;
            json_patch::patch(&mut made, &patch).unwrap();
            prop_assert_eq!(made, after);
        }
    }
}
