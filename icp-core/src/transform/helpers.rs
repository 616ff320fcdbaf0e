//! The functions that scripts of other products expect to find.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Violation;

/// What the helper functions of a script take for granted.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HelpersSpec {
    /// The offset from UTC of dates that name none, as `+05:30`. Default `+00:00`.
    pub utc_offset: String,
    /// The country code that phone numbers get which have none, as `44`: one to three digits.
    /// Default none: such numbers stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_code: Option<String>,
    /// How a date such as `03/04/2026` is read. Default `day_first`.
    pub date_order: DateOrder,
}

/// How a date of three numbers is read.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DateOrder {
    /// Day, month, year.
    #[default]
    DayFirst,
    /// Month, day, year.
    MonthFirst,
}

impl Default for HelpersSpec {
    fn default() -> Self {
        Self {
            utc_offset: "+00:00".to_owned(),
            country_code: None,
            date_order: DateOrder::default(),
        }
    }
}

impl HelpersSpec {
    /// The offset from UTC in minutes; none where it is malformed.
    #[must_use]
    pub fn offset_minutes(&self) -> Option<i32> {
        let (sign, rest) = match self.utc_offset.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':')?;
        let number = |text: &str, most: i32| -> Option<i32> {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && *number <= most)
        };
        Some(sign * (number(hours, 14)? * 60 + number(minutes, 59)?))
    }

    pub(super) fn validate(&self, at: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.offset_minutes().is_none() {
            let message = "write an offset from UTC such as `+05:30`, at most 14 hours";
            found.push(Violation::new(format!("{at}/utc_offset"), "malformed", message));
        }
        let digits = |code: &String| {
            matches!(code.len(), 1..=3) && code.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !self.country_code.as_ref().is_none_or(digits) {
            let message = "write one to three digits, without a plus sign";
            found.push(Violation::new(format!("{at}/country_code"), "malformed", message));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_minutes() {
        for (text, minutes) in [
            ("+00:00", Some(0)),
            ("+05:30", Some(330)),
            ("-09:30", Some(-570)),
            ("+14:00", Some(840)),
            ("+15:00", None),
            ("+05:60", None),
            ("05:30", None),
            ("+5:30", None),
            ("+ 5:30", None),
            ("Z", None),
            ("", None),
            ("é5:30", None),
        ] {
            let spec = HelpersSpec { utc_offset: text.to_owned(), ..HelpersSpec::default() };
            assert_eq!(spec.offset_minutes(), minutes, "{text}");
            assert_eq!(spec.validate("/h").is_empty(), minutes.is_some(), "{text}");
        }
    }

    #[test]
    fn country_codes_are_digits() {
        for (code, fits) in
            [("1", true), ("353", true), ("", false), ("+44", false), ("1234", false)]
        {
            let spec = HelpersSpec { country_code: Some(code.into()), ..HelpersSpec::default() };
            assert_eq!(spec.validate("/h").is_empty(), fits, "{code}");
        }
    }
}
