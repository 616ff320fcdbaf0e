//! The type of an event: dotted words such as `order.line.added`.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error};

/// How operational events begin.
pub(crate) const OPERATIONAL: &str = "icp.";

/// The type of an event: 1 to 16 segments of `A-Z a-z 0-9 _ -` joined by dots, 128 bytes at
/// most. Case matters. A clone shares the text.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The longest type, in bytes.
    pub const MAX_BYTES: usize = 128;
    /// The most segments of a type.
    pub const MAX_SEGMENTS: usize = 16;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`Code::EventTypeInvalid`], saying what is wrong.
    pub fn new(text: &str) -> Result<Self, Error> {
        match fault(text) {
            None => Ok(Self(text.into())),
            Some(message) => Err(Error::new(Code::EventTypeInvalid, message)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it begins with `icp.`, so that only the engine publishes it.
    #[must_use]
    pub fn is_operational(&self) -> bool {
        self.0.starts_with(OPERATIONAL)
    }

    /// The segments between the dots, from the left.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

/// Whether `text` can stand between the dots of an event type.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn fault(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("event type is empty; use a form such as `order.paid`".into());
    }
    if text.len() > EventType::MAX_BYTES {
        return Some(format!("event type has {} bytes; use at most 128", text.len()));
    }
    let count = text.split('.').count();
    if count > EventType::MAX_SEGMENTS {
        return Some(format!("event type has {count} segments; use at most 16"));
    }
    let (place, segment) = text.split('.').enumerate().find(|(_, part)| !is_segment(part))?;
    Some(if segment.is_empty() {
        format!("segment {} of event type `{text}` is empty; join words by single dots", place + 1)
    } else {
        format!(
            "segment {} of event type {text:?} has a character other than A-Z a-z 0-9 _ -",
            place + 1
        )
    })
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EventType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for EventType {
    fn schema_name() -> Cow<'static, str> {
        "EventType".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 128,
            "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}$",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn says_what_is_wrong() {
        let long = "a".repeat(129);
        let many = ["a"; 17].join(".");
        for (text, part) in [
            ("", "empty"),
            (long.as_str(), "129 bytes"),
            (many.as_str(), "17 segments"),
            ("a..b", "segment 2"),
            (".a", "segment 1"),
            ("a.b c", "segment 2"),
            ("a.é", "segment 2"),
            ("a.*", "segment 2"),
        ] {
            let error = EventType::new(text).unwrap_err();
            assert_eq!(error.code(), Code::EventTypeInvalid);
            assert!(error.message().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn round_trips_as_a_string() {
        let kind: EventType = serde_json::from_str(r#""order.line-item.added_2""#).unwrap();
        assert_eq!(kind.segments().collect::<Vec<_>>(), ["order", "line-item", "added_2"]);
        assert_eq!(serde_json::to_string(&kind).unwrap(), r#""order.line-item.added_2""#);
        assert!(serde_json::from_str::<EventType>(r#""a b""#).is_err());
    }

    proptest! {
        #[test]
        fn takes_every_text_of_the_documented_form(text in r"[A-Za-z0-9_-]{1,7}(\.[A-Za-z0-9_-]{1,7}){0,15}") {
            let kind = EventType::new(&text).unwrap();
            prop_assert_eq!(kind.as_str(), &text);
        }
    }
}
