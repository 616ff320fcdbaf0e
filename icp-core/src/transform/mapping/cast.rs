//! Turning one JSON value into another kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::time::Timestamp;

// Seconds reach this number in the year 2286, milliseconds reached it in April 1970.
const MILLIS_ABOVE: i64 = 10_000_000_000;

// The shortest form of every number is shorter; longer text is not worth reading.
const MAX_NUMBER_TEXT: usize = 400;

/// What a value is turned into.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cast {
    /// Text without white space at its ends.
    Trim,
    /// Text in upper case, by Unicode.
    Upper,
    /// Text in lower case, by Unicode.
    Lower,
    /// A moment as RFC 3339 text in UTC with milliseconds: from RFC 3339 text, from a date such
    /// as `2026-11-21` (its first moment in UTC), or from a number of seconds since 1970, or of
    /// milliseconds where it is greater than 10,000,000,000. The years are 1970 to 9999.
    Date,
    /// Text: a string as it is, any other value as its JSON text.
    String,
    /// A number: as it is, or from text in the form of a JSON number, of at most 400 bytes.
    Number,
    /// A number without fraction between -2^63 and 2^64 - 1, from what `number` takes.
    Integer,
    /// A truth value: as it is, from the texts `true` and `false` in any case, or from 1 and 0,
    /// as numbers or as texts.
    Boolean,
}

impl Cast {
    /// The name in a spec.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trim => "trim",
            Self::Upper => "upper",
            Self::Lower => "lower",
            Self::Date => "date",
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
        }
    }

    /// `value` in the new form, if it has one; `null` stays `null`.
    pub(super) fn apply(self, value: &Value) -> Option<Value> {
        if value.is_null() {
            return Some(Value::Null);
        }
        match self {
            Self::Trim => scalar_text(value).map(|text| text.trim().into()),
            Self::Upper => scalar_text(value).map(|text| text.to_uppercase().into()),
            Self::Lower => scalar_text(value).map(|text| text.to_lowercase().into()),
            Self::Date => date(value).map(|moment| moment.to_string().into()),
            Self::String => Some(match value {
                Value::String(_) => value.clone(),
                other => other.to_string().into(),
            }),
            Self::Number => number(value).map(Value::Number),
            Self::Integer => integer(&number(value)?).map(Value::Number),
            Self::Boolean => boolean(value).map(Value::Bool),
        }
    }
}

fn scalar_text(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn date(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            let midnight = text.len() == "2026-11-21".len();
            if midnight { format!("{text}T00:00:00Z").parse().ok() } else { text.parse().ok() }
        }
        Value::Number(number) => moment(number),
        _ => None,
    }
}

fn moment(number: &Number) -> Option<Timestamp> {
    let max = Timestamp::MAX.as_millis();
    let millis = if let Some(whole) = number.as_i64() {
        if whole > MILLIS_ABOVE { whole } else { whole.checked_mul(1000)? }
    } else {
        let float = number.as_f64()?;
        #[expect(clippy::cast_precision_loss, reason = "both bounds are far below 2^53")]
        let (above, max) = (MILLIS_ABOVE as f64, max as f64);
        // Text such as 1.001 is a little less than it says as a float, hence the rounding.
        let millis = if float > above { float.floor() } else { (float * 1000.0).round() };
        if !(0.0..=max).contains(&millis) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "integral and within range")]
        let millis = millis as i64;
        millis
    };
    (0..=max).contains(&millis).then(|| Timestamp::from_millis(millis))
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => {
            let text = text.trim();
            (text.len() <= MAX_NUMBER_TEXT).then(|| serde_json::from_str(text).ok())?
        }
        _ => None,
    }
}

fn integer(number: &Number) -> Option<Number> {
    if number.is_i64() || number.is_u64() {
        return Some(number.clone());
    }
    let float = number.as_f64()?;
    if float.fract() != 0.0 {
        return None;
    }
    // Casting saturates, and both ends of `i128` lie outside what is taken below.
    #[expect(clippy::cast_possible_truncation, reason = "saturates outside the range taken below")]
    let whole = float as i128;
    i64::try_from(whole).map(Number::from).or_else(|_| u64::try_from(whole).map(Number::from)).ok()
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_f64()? {
            1.0 => Some(true),
            0.0 => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim() {
            "1" => Some(true),
            "0" => Some(false),
            text if text.eq_ignore_ascii_case("true") => Some(true),
            text if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_casts() {
        for (cast, value, expected) in [
            (Cast::Trim, json!(" a b\n"), Some(json!("a b"))),
            (Cast::Trim, json!(1.5), Some(json!("1.5"))),
            (Cast::Trim, json!([" a"]), None),
            (Cast::Upper, json!("straße"), Some(json!("STRASSE"))),
            (Cast::Upper, json!(true), Some(json!("TRUE"))),
            (Cast::Upper, json!({}), None),
            (Cast::Lower, json!("ÉA"), Some(json!("éa"))),
            (Cast::Lower, json!(null), Some(json!(null))),
            (Cast::String, json!(" a "), Some(json!(" a "))),
            (Cast::String, json!(u64::MAX), Some(json!("18446744073709551615"))),
            (Cast::String, json!(1.0), Some(json!("1.0"))),
            (Cast::String, json!({"a": [1]}), Some(json!(r#"{"a":[1]}"#))),
        ] {
            assert_eq!(cast.apply(&value), expected, "{cast:?} of {value}");
        }
    }

    #[test]
    fn number_casts() {
        let text = |value: Option<Value>| value.map(|value| value.to_string());
        for (cast, value, expected) in [
            (Cast::Number, json!(1.50), Some("1.5")),
            (Cast::Number, json!(" 1.50 "), Some("1.5")),
            (Cast::Number, json!("18446744073709551615"), Some("18446744073709551615")),
            (Cast::Number, json!("-9007199254740993"), Some("-9007199254740993")),
            (Cast::Number, json!("1e3"), Some("1000.0")),
            (Cast::Number, json!("1e999"), None),
            (Cast::Number, json!("+1"), None),
            (Cast::Number, json!("0x10"), None),
            (Cast::Number, json!("1,5"), None),
            (Cast::Number, json!(""), None),
            (Cast::Number, json!("null"), None),
            (Cast::Number, json!(true), None),
            (Cast::Number, json!([1]), None),
            (Cast::Integer, json!(-7), Some("-7")),
            (Cast::Integer, json!("42"), Some("42")),
            (Cast::Integer, json!(3.0), Some("3")),
            (Cast::Integer, json!("1e18"), Some("1000000000000000000")),
            (Cast::Integer, json!(-0.0), Some("0")),
            (Cast::Integer, json!(3.5), None),
            (Cast::Integer, json!(9_223_372_036_854_775_808.0), Some("9223372036854775808")),
            (Cast::Integer, json!(18_446_744_073_709_551_616.0), None),
            (Cast::Integer, json!(-1e300), None),
            (Cast::Integer, json!("x"), None),
        ] {
            assert_eq!(text(cast.apply(&value)).as_deref(), expected, "{cast:?} of {value}");
        }
    }

    #[test]
    fn boolean_casts() {
        for (value, expected) in [
            (json!(true), Some(json!(true))),
            (json!("True"), Some(json!(true))),
            (json!(" FALSE"), Some(json!(false))),
            (json!("1"), Some(json!(true))),
            (json!(0), Some(json!(false))),
            (json!(1.0), Some(json!(true))),
            (json!(2), None),
            (json!("yes"), None),
            (json!(""), None),
            (json!([]), None),
            (json!(null), Some(json!(null))),
        ] {
            assert_eq!(Cast::Boolean.apply(&value), expected, "{value}");
        }
    }

    #[test]
    fn date_casts() {
        for (value, expected) in [
            (json!("2026-11-21T04:45:00+01:00"), Some("2026-11-21T03:45:00.000Z")),
            (json!(" 2026-11-21t03:45:00.1239z "), Some("2026-11-21T03:45:00.123Z")),
            (json!("2026-11-21"), Some("2026-11-21T00:00:00.000Z")),
            (json!("2026-02-30"), None),
            (json!("21/11/2026"), None),
            (json!("tomorrow"), None),
            (json!("1795232700"), None),
            (json!(1_795_232_700), Some("2026-11-21T03:45:00.000Z")),
            (json!(1_795_232_700_000_i64), Some("2026-11-21T03:45:00.000Z")),
            (json!(1_795_232_700.001), Some("2026-11-21T03:45:00.001Z")),
            (json!(1_795_232_700_000.9), Some("2026-11-21T03:45:00.000Z")),
            (json!(10_000_000_000_i64), Some("2286-11-20T17:46:40.000Z")),
            (json!(10_000_000_001_i64), Some("1970-04-26T17:46:40.001Z")),
            (json!(0), Some("1970-01-01T00:00:00.000Z")),
            (json!(253_402_300_799_999_i64), Some("9999-12-31T23:59:59.999Z")),
            (json!(253_402_300_800_000_i64), None),
            (json!(-1), None),
            (json!(-0.6), None),
            (json!(i64::MIN), None),
            (json!(u64::MAX), None),
            (json!(1e300), None),
            (json!(true), None),
        ] {
            assert_eq!(Cast::Date.apply(&value), expected.map(Value::from), "{value}");
        }
    }

    proptest! {
        #[test]
        fn casts_keep_what_they_gave(
            cast in prop::sample::select(vec![
                Cast::Trim, Cast::Upper, Cast::Lower, Cast::Date,
                Cast::String, Cast::Number, Cast::Integer, Cast::Boolean,
            ]),
            value in prop_oneof![
                any::<f64>().prop_map(|float| json!(float)),
                any::<i64>().prop_map(|whole| json!(whole)),
                any::<u64>().prop_map(|whole| json!(whole)),
                "[0-9a-zA-Z:.+-]{0,24}".prop_map(Value::from),
            ],
        ) {
            if let Some(once) = cast.apply(&value) {
                prop_assert_eq!(cast.apply(&once), Some(once));
            }
        }
    }
}
