use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::Value;

use super::field::{Field, Shape};
use crate::document::pointer::nearest;
use crate::error::{Code, Error, Result, Violation};
use crate::resource::{Document, Kind};
use crate::time::Timestamp;

/// The most filters of one search.
pub const MAX_FILTERS: usize = 10;

/// The most bytes of the value of a filter.
const MAX_VALUE: usize = 1024;

/// The most values of `in`.
const MAX_VALUES: usize = 50;

/// What the value of a field must be, as in `spec.target.kind:eq:http`.
///
/// A filter is `field:operator:value`. The field is `id`, `name`, `created_at`, `updated_at`,
/// `version`, `revision`, `labels.<key>`, or the path of a field of the spec as in
/// `spec.target.url`. The operators:
///
/// | Operator | Fits where the value of the field |
/// |---|---|
/// | `eq`, `ne` | is the value, is not the value |
/// | `in` | is one of several, parted by commas |
/// | `lt`, `lte`, `gt`, `gte` | is smaller, is larger: numbers, times, else text by code point |
/// | `contains`, `prefix` | is a text that has the value in it, that begins with it |
/// | `exists` | is there (`true`), is not (`false`) |
///
/// Where the field is a list, or is in the items of one, any of its values may fit; `ne` fits
/// where none is the value. Secrets are not filtered by.
#[derive(Clone, Debug)]
pub struct Filter {
    field: Field,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(Operand),
    Unequal(Operand),
    Among(Vec<Operand>),
    Ordered(Operand, fn(Ordering) -> bool),
    Contains(String),
    Prefix(String),
    Exists(bool),
}

const OPERATORS: [&str; 10] =
    ["eq", "ne", "in", "lt", "lte", "gt", "gte", "contains", "prefix", "exists"];

/// A value as it was written, read as everything it can be compared as.
#[derive(Clone, Debug)]
struct Operand {
    text: String,
    number: Option<f64>,
    time: Option<Timestamp>,
}

impl Filter {
    /// Reads a filter of resources of `kind`.
    ///
    /// # Errors
    ///
    /// [`Code::QueryInvalid`] with the field or operator at fault.
    pub fn parse(text: &str, kind: &dyn Kind) -> Result<Self> {
        Self::read(text, kind.schema()).map_err(|(rule, message)| {
            let violation = Violation::new("/filter", rule, message);
            Error::violations(Code::QueryInvalid, vec![violation])
        })
    }

    fn read(text: &str, schema: &Value) -> Result<Self, (&'static str, String)> {
        let mut parts = text.splitn(3, ':');
        let (Some(field), Some(operator), Some(value)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(("malformed", "use the form field:operator:value".into()));
        };
        if value.len() > MAX_VALUE {
            return Err(("max_length", format!("use a value of at most {MAX_VALUE} bytes")));
        }
        let (field, shape) = Field::parse(field, schema)?;
        let operand = |text: &str| Operand::read(text, shape);
        let ordered =
            |test: fn(Ordering) -> bool| operand(value).map(|operand| Test::Ordered(operand, test));
        let test = match operator {
            "eq" => Test::Equal(operand(value)?),
            "ne" => Test::Unequal(operand(value)?),
            "in" if value.split(',').count() > MAX_VALUES => {
                return Err(("max_items", format!("name at most {MAX_VALUES} values")));
            }
            "in" => Test::Among(value.split(',').map(operand).collect::<Result<_, _>>()?),
            "lt" => ordered(Ordering::is_lt)?,
            "lte" => ordered(Ordering::is_le)?,
            "gt" => ordered(Ordering::is_gt)?,
            "gte" => ordered(Ordering::is_ge)?,
            "contains" => Test::Contains(value.into()),
            "prefix" => Test::Prefix(value.into()),
            "exists" => Test::Exists(truth(value)?),
            other => return Err(unknown(other)),
        };
        Ok(Self { field, test })
    }

    /// Whether `document` fits.
    #[must_use]
    pub fn fits(&self, document: &Document) -> bool {
        let values = self.field.values(document);
        let any = |test: &dyn Fn(&Value) -> bool| values.iter().any(test);
        let text = |test: &dyn Fn(&str) -> bool| any(&|value| value.as_str().is_some_and(test));
        match &self.test {
            Test::Equal(operand) => any(&|value| operand.is(value)),
            Test::Unequal(operand) => !any(&|value| operand.is(value)),
            Test::Among(operands) => any(&|value| operands.iter().any(|one| one.is(value))),
            Test::Ordered(operand, test) => any(&|value| operand.order_of(value).is_some_and(test)),
            Test::Contains(part) => text(&|text| text.contains(part)),
            Test::Prefix(start) => text(&|text| text.starts_with(start)),
            Test::Exists(there) => values.is_empty() != *there,
        }
    }
}

impl Operand {
    fn read(text: &str, shape: Shape) -> Result<Self, (&'static str, String)> {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        let time = Timestamp::from_str(text).ok();
        match shape {
            Shape::Number if number.is_none() => {
                return Err(("malformed", "the field is a number; compare it with one".into()));
            }
            Shape::Time if time.is_none() => {
                let message = "the field is a time; use RFC 3339, as in 2026-01-31T00:00:00Z";
                return Err(("malformed", message.into()));
            }
            Shape::Boolean => drop(truth(text)?),
            Shape::Any | Shape::Number | Shape::Text | Shape::Time => {}
        }
        let time = time.filter(|_| shape == Shape::Time);
        Ok(Self { text: text.into(), number, time })
    }

    fn is(&self, value: &Value) -> bool {
        match value {
            Value::Bool(value) => self.text == if *value { "true" } else { "false" },
            other => self.order_of(other) == Some(Ordering::Equal),
        }
    }

    /// How `value` stands to this one.
    fn order_of(&self, value: &Value) -> Option<Ordering> {
        match (value, self.time) {
            (Value::String(text), Some(time)) => Some(Timestamp::from_str(text).ok()?.cmp(&time)),
            (Value::String(text), None) => Some(text.as_str().cmp(&self.text)),
            (Value::Number(number), _) => number.as_f64()?.partial_cmp(&self.number?),
            _ => None,
        }
    }
}

fn truth(text: &str) -> Result<bool, (&'static str, String)> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(("malformed", "use true or false".into())),
    }
}

fn unknown(operator: &str) -> (&'static str, String) {
    let message = match nearest(operator, &OPERATORS) {
        near if near.is_empty() => {
            format!("`{operator}` is not a known operator; use one of: {}", OPERATORS.join(", "))
        }
        near => format!("`{operator}` is not a known operator{near}"),
    };
    ("unknown_operator", message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::id::{OrgId, ResourceId};
    use crate::resource::Revision;

    fn schema() -> Value {
        json!({ "properties": {
            "on": { "type": "boolean" },
            "size": { "type": "integer" },
            "tags": { "type": "array", "items": { "type": "string" } },
            "url": { "type": "string" },
            "secret": { "type": "string", "writeOnly": true },
        } })
    }

    fn document() -> Document {
        Document {
            kind: "thing".into(),
            id: ResourceId::new("a").unwrap(),
            org: OrgId::new("acme").unwrap(),
            name: None,
            labels: BTreeMap::from([("team".into(), "b:c".into())]),
            spec: json!({ "on": true, "size": 10, "tags": ["x", "yz"], "url": "http://h:1/" }),
            status: Value::Null,
            revision: Revision(7),
            version: 2,
            created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            updated_at: "2026-01-02T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn every_operator_compares_by_what_the_field_is() {
        for (text, fits) in [
            ("id:eq:a", true),
            ("id:in:b,a", true),
            ("id:prefix:", true),
            ("name:exists:false", true),
            ("name:ne:x", true),
            ("labels.team:eq:b:c", true),
            ("labels.none:exists:true", false),
            ("version:gte:2", true),
            ("version:gt:2", false),
            ("created_at:lt:2026-01-01T01:00:00+01:00", false),
            ("created_at:lte:2026-01-01T01:00:00+01:00", true),
            ("updated_at:gt:2026-01-01T12:00:00Z", true),
            ("spec.on:eq:true", true),
            ("spec.on:ne:true", false),
            ("spec.size:lt:9", false),
            ("spec.size:eq:10.0", true),
            ("spec.tags:eq:x", true),
            ("spec.tags:ne:x", false),
            ("spec.tags:contains:z", true),
            ("spec.url:eq:http://h:1/", true),
        ] {
            let filter = Filter::read(text, &schema()).unwrap();
            assert_eq!(filter.fits(&document()), fits, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let long = format!("id:eq:{}", "x".repeat(MAX_VALUE + 1));
        let many = format!("id:in:{}", ",".repeat(MAX_VALUES));
        for (text, rule) in [
            ("id", "malformed"),
            ("id:eq", "malformed"),
            ("id:equals:a", "unknown_operator"),
            ("spec.sise:eq:1", "unknown_field"),
            ("spec.size:eq:x", "malformed"),
            ("spec.size:eq:inf", "malformed"),
            ("spec.on:eq:1", "malformed"),
            ("spec.secret:prefix:a", "secret"),
            ("spec.secret:exists:true", "secret"),
            ("created_at:gt:yesterday", "malformed"),
            ("name:exists:1", "malformed"),
            (&long, "max_length"),
            (&many, "max_items"),
        ] {
            assert_eq!(Filter::read(text, &schema()).unwrap_err().0, rule, "{text}");
        }
    }
}
