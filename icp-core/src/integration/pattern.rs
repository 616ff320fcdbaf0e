//! Patterns of event types, and sets of them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error};
use crate::event::EventType;

/// A pattern of event types.
///
/// A segment is taken literally, or `*` stands for exactly one segment; `**` as the last
/// segment stands for one or more. So `order.*` takes `order.paid` but not `order.line.added`,
/// `order.**` takes both, and neither takes `order`. A bare `*` and a bare `**` take every type
/// but operational ones, which are taken only by patterns that begin with `icp.` themselves.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventPattern(Arc<str>);

impl EventPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Code::PatternInvalid`], saying which segment is wrong.
    pub fn new(text: &str) -> Result<Self, Error> {
        let refuse = |message| Err(Error::new(Code::PatternInvalid, message));
        let segments: Vec<&str> = text.split('.').collect();
        if text.len() > EventType::MAX_BYTES || segments.len() > EventType::MAX_SEGMENTS {
            return refuse(
                "event pattern is too long; use at most 128 bytes and 16 segments".into(),
            );
        }
        for (place, segment) in segments.iter().enumerate() {
            let nth = place + 1;
            match *segment {
                "*" => {}
                "**" if nth == segments.len() => {}
                "**" => return refuse(format!("`**` may only end the pattern `{text}`")),
                other if crate::event::is_segment(other) => {}
                "" => return refuse(format!("segment {nth} of event pattern `{text}` is empty")),
                _ => {
                    return refuse(format!(
                        "segment {nth} of event pattern {text:?} is neither a word of \
                         A-Z a-z 0-9 _ - nor `*`"
                    ));
                }
            }
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it takes every event type.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(&*self.0, "*" | "**")
    }

    /// Whether it takes exactly one event type, the one it spells.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it takes `kind`.
    #[must_use]
    pub fn matches(&self, kind: &EventType) -> bool {
        if kind.is_operational() && !self.0.starts_with(crate::event::OPERATIONAL) {
            return false;
        }
        if self.is_all() {
            return true;
        }
        let mut segments = kind.segments();
        for wanted in self.0.split('.') {
            match (wanted, segments.next()) {
                (_, None) => return false,
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (word, Some(segment)) if word == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl Serialize for EventPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for EventPattern {
    fn schema_name() -> Cow<'static, str> {
        "EventPattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 128,
            "pattern": r"^((\*|[A-Za-z0-9_-]+)\.){0,15}(\*\*?|[A-Za-z0-9_-]+)$",
        })
    }
}

/// A list of patterns of which any may match; exact ones are found by hash.
///
/// An empty set matches nothing.
#[derive(Clone, Debug, Default)]
pub struct PatternSet {
    list: Vec<EventPattern>,
    all: bool,
    exact: HashSet<Arc<str>>,
    wild: Vec<EventPattern>,
}

impl PatternSet {
    /// A set of `list`.
    #[must_use]
    pub fn new(list: Vec<EventPattern>) -> Self {
        let (exact, wild): (Vec<_>, Vec<_>) =
            list.iter().cloned().partition(EventPattern::is_exact);
        Self {
            all: list.iter().any(EventPattern::is_all),
            exact: exact.into_iter().map(|pattern| pattern.0).collect(),
            wild,
            list,
        }
    }

    /// The patterns, in the order given.
    #[must_use]
    pub fn patterns(&self) -> &[EventPattern] {
        &self.list
    }

    /// Whether any pattern takes `kind`.
    #[must_use]
    pub fn matches(&self, kind: &EventType) -> bool {
        (self.all && !kind.is_operational())
            || self.exact.contains(kind.as_str())
            || self.wild.iter().any(|pattern| pattern.matches(kind))
    }
}

impl PartialEq for PatternSet {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for PatternSet {}

impl FromIterator<EventPattern> for PatternSet {
    fn from_iter<I: IntoIterator<Item = EventPattern>>(patterns: I) -> Self {
        Self::new(patterns.into_iter().collect())
    }
}

impl Serialize for PatternSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PatternSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::new)
    }
}

impl schemars::JsonSchema for PatternSet {
    fn schema_name() -> Cow<'static, str> {
        "PatternSet".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Vec::<EventPattern>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, kind: &str) -> bool {
        EventPattern::new(pattern).unwrap().matches(&EventType::new(kind).unwrap())
    }

    #[test]
    fn follows_the_documented_table() {
        for (pattern, kind, expected) in [
            ("*", "a", true),
            ("*", "a.b.c", true),
            ("**", "a.b", true),
            ("order.paid", "order.paid", true),
            ("order.paid", "order.Paid", false),
            ("order.*", "order.paid", true),
            ("order.*", "order", false),
            ("order.*", "order.line.added", false),
            ("order.**", "order.line.added", true),
            ("order.**", "order.paid", true),
            ("order.**", "order", false),
            ("*.paid", "order.paid", true),
            ("*.paid", "a.order.paid", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("*.*", "a.b", true),
            ("*.**", "a", false),
        ] {
            assert_eq!(matches(pattern, kind), expected, "{pattern} on {kind}");
        }
    }

    #[test]
    fn refuses_malformed_patterns() {
        for text in ["", ".", "a.", "**.a", "a.**.b", "a*", "***", "a.b c"] {
            assert_eq!(EventPattern::new(text).unwrap_err().code(), Code::PatternInvalid, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_set_matches_as_its_patterns_do(
            patterns in prop::collection::vec(r"([ab]|\*)(\.([ab]|\*)){0,2}(\.\*\*)?", 0..6),
            kind in r"[ab](\.[ab]){0,3}",
        ) {
            let kind = EventType::new(&kind).unwrap();
            let patterns: Vec<_> = patterns.iter().map(|p| EventPattern::new(p).unwrap()).collect();
            let expected = patterns.iter().any(|pattern| pattern.matches(&kind));
            prop_assert_eq!(PatternSet::new(patterns).matches(&kind), expected);
        }
    }
}
