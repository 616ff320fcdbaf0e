use serde_json::{Map, Value};

use super::verify::Refusal;
use crate::time::Timestamp;

/// The most audiences of one token.
const MAX_AUDIENCES: usize = 16;
/// The most values that a claim is taken to have.
const MAX_VALUES: usize = 256;
/// The end of the year 9999, in seconds: what is later is no date.
const LATEST: f64 = 253_402_300_799.0;

/// What a token says, or what an issuer says of it.
#[derive(Clone, Debug)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// A claim that is a text, or is not there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::Malformed),
        }
    }

    /// Whether a claim is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a claim is `true`, and not a text that says so.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Bool(true))
    }

    /// The same, where who is named by no `sub` is named by `client_id`, as programs are.
    pub(super) fn or_named_by_client(mut self) -> Self {
        if let (false, Some(client)) =
            (self.0.contains_key("sub"), self.0.get("client_id").cloned())
        {
            self.0.insert("sub".to_owned(), client);
        }
        self
    }

    /// The audiences: a text, or several (RFC 7519, 4.1.3).
    pub(crate) fn audiences(&self) -> Result<Vec<&str>, Refusal> {
        match self.0.get("aud") {
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(several)) if (1..=MAX_AUDIENCES).contains(&several.len()) => {
                several.iter().map(|each| each.as_str().ok_or(Refusal::Malformed)).collect()
            }
            _ => Err(Refusal::Audience),
        }
    }

    /// A claim that is a NumericDate (RFC 7519, 2), or is not there.
    pub(crate) fn date(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let Some(seconds) = value.as_f64().filter(|seconds| (0.0..=LATEST).contains(seconds))
        else {
            return Err(Refusal::Malformed);
        };
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the year 9999")]
        Ok(Some(Timestamp::from_millis((seconds * 1_000.0) as i64)))
    }

    /// The value at an RFC 6901 pointer, where it is a text.
    pub(super) fn text_at(&self, pointer: &str) -> Option<&str> {
        self.at(pointer)?.as_str()
    }

    /// The texts at a pointer: a list of them, or one that is split at spaces.
    pub(super) fn texts_at(&self, pointer: &str) -> Vec<&str> {
        match self.at(pointer) {
            Some(Value::String(text)) => text.split(' ').take(MAX_VALUES).collect(),
            Some(Value::Array(several)) => {
                several.iter().take(MAX_VALUES).filter_map(Value::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        let rest = pointer.strip_prefix('/')?;
        let mut parts = rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~"));
        let first = self.0.get(&parts.next()?)?;
        parts.try_fold(first, |value, part| value.as_object()?.get(&part))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        let Value::Object(map) = value else { panic!("an object") };
        Claims::new(map)
    }

    #[test]
    fn dates_are_numbers_that_are_dates() {
        let at = |value: Value| claims(json!({ "exp": value })).date("exp");
        assert_eq!(at(json!(1)), Ok(Some(Timestamp::from_millis(1_000))));
        assert_eq!(at(json!(1.5)), Ok(Some(Timestamp::from_millis(1_500))));
        assert_eq!(claims(json!({})).date("exp"), Ok(None));
        for bad in [json!("1"), json!(-1), json!(1e300), json!(null), json!([1]), json!(u64::MAX)] {
            assert_eq!(at(bad.clone()), Err(Refusal::Malformed), "{bad}");
        }
    }

    #[test]
    fn pointers_lead_into_objects_only() {
        let claims = claims(json!({
            "a": { "b/c": ["x", 1, "y"] }, "s": "one two", "n": 7, "l": ["x"],
        }));
        assert_eq!(claims.texts_at("/a/b~1c"), ["x", "y"]);
        assert_eq!(claims.texts_at("/s"), ["one", "two"]);
        assert_eq!(claims.text_at("/s"), Some("one two"));
        for none in ["", "a", "/n", "/l/0", "/a/b", "/x"] {
            assert!(claims.texts_at(none).is_empty(), "{none}");
        }
    }
}
