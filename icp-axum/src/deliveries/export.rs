//! Deliveries as lines of JSON or of CSV.

use icp_core::delivery::LogEntry;
use icp_core::letter::Category;
use serde::Serialize;

use super::DeliveryView;

pub(super) const NDJSON: &str = "application/x-ndjson";

/// How deliveries are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    /// An object in each line.
    Ndjson,
    /// A table as RFC 4180 has it, with a head.
    Csv,
}

/// A delivery and how it went wrong.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    delivery: DeliveryView,
    class: Option<&'a str>,
    category: Option<Category>,
}

const COLUMNS: [&str; 12] = [
    "id",
    "event",
    "integration",
    "state",
    "tries",
    "created_at",
    "updated_at",
    "replay_of",
    "reason_code",
    "reason_message",
    "class",
    "category",
];

impl Format {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "ndjson" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    pub(super) const fn media(self) -> &'static str {
        match self {
            Self::Ndjson => NDJSON,
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// What comes before the first delivery.
    pub(super) fn head(self, text: &mut String) {
        if self == Self::Csv {
            write(COLUMNS.into_iter(), text);
        }
    }

    pub(super) fn row(self, entry: &LogEntry, text: &mut String) {
        match self {
            Self::Ndjson => {
                let delivery = DeliveryView::from(entry.delivery.clone());
                let class = entry.class.as_deref();
                let line = Line { delivery, class, category: entry.category };
                // A delivery always makes JSON.
                text.push_str(&serde_json::to_string(&line).unwrap_or_default());
                text.push('\n');
            }
            Self::Csv => {
                let cells = cells(entry);
                write(cells.iter().map(String::as_str), text);
            }
        }
    }
}

fn cells(entry: &LogEntry) -> [String; 12] {
    let delivery = &entry.delivery;
    let reason = delivery.reason.as_ref();
    let category = serde_json::to_value(entry.category).unwrap_or_default();
    [
        delivery.id.to_string(),
        delivery.event.to_string(),
        delivery.integration.to_string(),
        delivery.state.to_string(),
        delivery.tries.to_string(),
        delivery.created_at.to_string(),
        delivery.updated_at.to_string(),
        delivery.replay_of.map(|id| id.to_string()).unwrap_or_default(),
        reason.map(|reason| reason.code.clone()).unwrap_or_default(),
        reason.map(|reason| reason.message.clone()).unwrap_or_default(),
        entry.class.clone().unwrap_or_default(),
        category.as_str().unwrap_or_default().to_owned(),
    ]
}

fn write<'a>(cells: impl Iterator<Item = &'a str>, text: &mut String) {
    for (at, value) in cells.enumerate() {
        if at > 0 {
            text.push(',');
        }
        cell(value, text);
    }
    text.push_str("\r\n");
}

/// A cell that no program for tables takes for a formula: what a receiver answered may stand in
/// it.
fn cell(value: &str, text: &mut String) {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if !formula && !value.contains([',', '"', '\r', '\n']) {
        text.push_str(value);
        return;
    }
    text.push('"');
    if formula {
        text.push('\'');
    }
    text.push_str(&value.replace('"', "\"\""));
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        for (value, written) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@cmd", "\"'@cmd\""),
            ("\t=1", "\"'\t=1\""),
            ("a=1", "a=1"),
        ] {
            let mut text = String::new();
            cell(value, &mut text);
            assert_eq!(text, written, "{value:?}");
        }
    }
}
