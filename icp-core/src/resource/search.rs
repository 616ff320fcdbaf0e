//! Which resources of a kind are looked for, and in what order they come.

mod field;
mod filter;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Document;
use crate::error::{Code, Error, Result, Violation};
use crate::id::ResourceId;
use crate::time::Timestamp;

pub use field::select;
pub use filter::{Filter, MAX_FILTERS};

/// What resources are looked for, and which page of them.
#[derive(Clone, Debug)]
pub struct Search {
    /// Only resources that have all these labels with these values.
    pub labels: Vec<(String, String)>,
    /// Only resources that fit all of these.
    pub filters: Vec<Filter>,
    /// Their order.
    pub sort: Sort,
    /// Where the page before ended.
    pub after: Option<Position>,
    /// The most resources of the page, 1 to 1,000. Default 50.
    pub limit: usize,
}

impl Default for Search {
    fn default() -> Self {
        let (labels, filters) = (Vec::new(), Vec::new());
        Self { labels, filters, sort: Sort::default(), after: None, limit: 50 }
    }
}

/// A page of what was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The resources, in the order asked for. With filters there may be none although more follow:
    /// a page looks at so many resources and no more.
    pub items: Vec<Document>,
    /// Where the next page goes on; `None` where this is the last one.
    pub next: Option<Position>,
}

/// The order of resources; those that are alike in it come by id.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// What resources are ordered by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SortBy {
    /// The id.
    #[default]
    Id,
    /// The name; resources without one come first.
    Name,
    /// When the first version was written.
    CreatedAt,
    /// When the present version was written.
    UpdatedAt,
}

/// The names of the orders.
const ORDERS: [(&str, SortBy); 4] = [
    ("id", SortBy::Id),
    ("name", SortBy::Name),
    ("created_at", SortBy::CreatedAt),
    ("updated_at", SortBy::UpdatedAt),
];

impl FromStr for Sort {
    type Err = Error;

    /// Reads `name`, or `-name` for the largest first.
    fn from_str(text: &str) -> Result<Self> {
        let (descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        let by = ORDERS.iter().find(|(known, _)| *known == name);
        by.map(|(_, by)| Self { by: *by, descending }).ok_or_else(|| {
            let message = "use id, name, created_at or updated_at, with `-` before it to descend";
            let violation = Violation::new("/sort", "unknown_field", message);
            Error::violations(Code::QueryInvalid, vec![violation])
        })
    }
}

impl Sort {
    /// Whether it is the order in which stores keep resources.
    pub(super) fn is_stored(self) -> bool {
        self == Self::default()
    }

    /// The place of a resource in this order.
    pub(super) fn position(self, document: &Document) -> Position {
        let key = match self.by {
            SortBy::Id => Key::Id,
            SortBy::Name => Key::Name(document.name.clone()),
            SortBy::CreatedAt => Key::Time(document.created_at),
            SortBy::UpdatedAt => Key::Time(document.updated_at),
        };
        Position { key, id: document.id.clone() }
    }

    /// Which of two places comes first.
    pub(super) fn compare(self, a: &Position, b: &Position) -> Ordering {
        if self.descending { b.cmp(a) } else { a.cmp(b) }
    }
}

/// A place in an order of resources.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Position {
    key: Key,
    id: ResourceId,
}

#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Id,
    Name(Option<String>),
    Time(Timestamp),
}

impl Position {
    /// The place of `id` in the order by id.
    pub(super) fn at(id: ResourceId) -> Self {
        Self { key: Key::Id, id }
    }

    pub(super) fn id(&self) -> &ResourceId {
        &self.id
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|_| {
            Error::new(Code::CursorInvalid, "use the position that a page of this list ended at")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_named_with_their_direction() {
        let by = |by, descending| Sort { by, descending };
        for (text, order) in [
            ("id", Some(by(SortBy::Id, false))),
            ("-updated_at", Some(by(SortBy::UpdatedAt, true))),
            ("name", Some(by(SortBy::Name, false))),
            ("--name", None),
            ("spec", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Sort>().ok(), order, "{text}");
        }
    }

    #[test]
    fn positions_are_read_as_they_are_written_and_ordered_by_key_first() {
        let id = |text: &str| ResourceId::new(text).unwrap();
        let named = |name: Option<&str>, text| Position {
            key: Key::Name(name.map(str::to_owned)),
            id: id(text),
        };
        let order = [
            named(None, "b"),
            named(Some("a\"\u{0}"), "z"),
            named(Some("b"), "a"),
            named(Some("b"), "b"),
        ];
        assert!(order.is_sorted());
        for position in order {
            assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
        assert!("nonsense".parse::<Position>().is_err());
    }
}
