//! Declarative mappings from one JSON document to another.
//!
//! A mapping is ours and total: it has no loop but over the elements of an array, no regular
//! expression, and a bound on all it makes. That is why it may run in the host's process.

mod budget;
mod cast;
mod compile;
mod lookup;
mod run;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use budget::{MAX_DEPTH, MAX_LOOKUPS, MAX_NODES};
pub use cast::Cast;
pub use compile::{MAX_RULES, Mapping};
pub(crate) use lookup::Lookup;
pub use lookup::{LookupRule, OnMissing};

use crate::integration::filter::Filter;

/// A mapping as people write it.
///
/// The result begins as `base`, then each rule writes one value into it, in order, and `remove`
/// takes paths out of it at the end. Rules read the payload, never the result.
///
/// ```
/// use icp_core::transform::mapping::MappingSpec;
///
/// let spec: MappingSpec = serde_json::from_str(
///     r#"{
///         "base": "empty",
///         "rules": [
///             { "target": "order.number", "from": "data.id", "cast": "string", "required": true },
///             { "target": "title", "template": "Order {{data.id}} for {{customer.name}}" },
///             { "target": "lines", "from": "data.items", "each": [
///                 { "target": "sku", "from": "product.sku", "cast": "upper" },
///                 { "target": "quantity", "from": "count", "default": 1 }
///             ] }
///         ]
///     }"#,
/// )
/// .unwrap();
/// assert!(spec.compile("").is_ok());
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MappingSpec {
    /// What the result begins as; default `copy`.
    #[serde(default)]
    pub base: Base,
    /// The rules, in the order they write; at most [`MAX_RULES`] with those of `each`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub rules: Vec<RuleSpec>,
    /// Paths to take out of the result at the end, in order; elements behind a removed one move
    /// up. At most [`MAX_RULES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub remove: Vec<String>,
    /// When nothing is sent at all: the delivery ends `skipped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<DropSpec>,
}

/// When a payload is dropped on purpose.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DropSpec {
    /// The condition, on the payload as it comes in.
    pub when: Filter,
    /// Why, for people; up to 200 characters.
    #[schemars(length(min = 1, max = 200))]
    pub reason: String,
}

/// What the result of a mapping begins as.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The payload itself.
    #[default]
    Copy,
    /// An object without members.
    Empty,
}

/// One rule: a place in the result, and where its value comes from: exactly one of `from`,
/// `const` and `template`.
///
/// Only a value that is not there is missing: `null` is a value, which every cast keeps. A
/// missing value is not written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// The path in the result, as [`Path`](crate::document::Path) reads it. Objects and arrays
    /// on the way are created; a value of another kind that stands in the way is replaced.
    pub target: String,
    /// The path in the payload; inside `each`, the path in the element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value itself.
    #[serde(
        default,
        rename = "const",
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub constant: Option<Value>,
    /// Text with paths in double braces, as in `Order {{data.id}}`. Strings stand for
    /// themselves, `null` and missing values for nothing, other values for their JSON text.
    ///
    /// With `default` or `required`, the whole template is missing where one of its values is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What is written where the value is missing; it is not cast.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether a missing value fails the transformation; default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What the value is turned into. A value that has no such form counts as missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cast: Option<Cast>,
    /// Looks the value up, after its cast, in a table of the organization; what is found is
    /// written in its place. `null` is kept, and an object or array counts as missing. Goes with
    /// `from` and `template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupRule>,
    /// Rules for each element of the array at `from`, which make the elements of an array at
    /// `target`. Each begins as an object without members. A value that is not an array counts
    /// as missing. Not inside another `each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub each: Option<Vec<RuleSpec>>,
}

// Tells `"default": null` from no `default`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
