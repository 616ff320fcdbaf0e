use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use icp_core::event::EventType;
use icp_core::id::EventId;
use icp_core::integration::filter::{FilterFault, Verdict};
use icp_core::trial::{Changes, FilterReport, TransformOutcome, TransformReport};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// What a transformation made of an event.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct TransformView {
    /// The event; its id is that of nothing stored where a sample was given.
    event: EventId,
    /// Its type.
    event_type: EventType,
    /// How it went.
    outcome: TransformOutcome,
    /// What went in.
    input: PayloadView,
    /// What came out; `null` where nothing did.
    output: Option<PayloadView>,
    /// What the transformation changed; `null` where there is no output, or no JSON.
    diff: Option<Changes>,
    /// What the transformation warns of.
    warnings: Vec<String>,
    /// What the programs wrote to their consoles.
    console: Vec<String>,
    /// The processor time the programs took, in microseconds; `null` where one failed.
    cpu_micros: Option<u64>,
    /// What a JavaScript program still held on its heap when it was done, in bytes: the most of
    /// any; `null` where none ran or the transformer does not tell.
    heap_bytes: Option<u64>,
    /// How long the run took, with what it waited for its turn, in microseconds.
    took_micros: u64,
}

/// A payload: `data` where it is JSON, byte for byte, else `body_base64`.
#[derive(Debug, JsonSchema, Serialize)]
struct PayloadView {
    /// The payload, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    data: Option<Box<RawValue>>,
    /// The payload in standard base64, where it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// What a filter says of an event.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct FilterView {
    /// The event; its id is that of nothing stored where a sample was given.
    event: EventId,
    /// Its type.
    event_type: EventType,
    /// Whether the event is wanted.
    matches: bool,
    /// The part that decided, where it is not.
    why: Option<String>,
    /// What the expression gave, where the filter is one; left out beyond 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// Why the expression gave nothing.
    fault: Option<FilterFault>,
    /// Whether it is judged before each attempt, and not when the event is published.
    deferred: bool,
    /// What the filter was asked about: the event as filters see it.
    document: Value,
    /// How long the filter took, in microseconds.
    took_micros: u64,
}

impl From<TransformReport> for TransformView {
    fn from(report: TransformReport) -> Self {
        Self {
            event: report.event,
            event_type: report.event_type,
            outcome: report.outcome,
            input: PayloadView::of(&report.input),
            output: report.output.as_deref().map(PayloadView::of),
            diff: report.changes,
            warnings: report.warnings,
            console: report.console,
            cpu_micros: report.cpu.map(micros),
            heap_bytes: report.heap_bytes,
            took_micros: micros(report.took),
        }
    }
}

impl PayloadView {
    fn of(bytes: &[u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(data) => Self { data: Some(data), body_base64: None },
            Err(_) => Self { data: None, body_base64: Some(STANDARD.encode(bytes)) },
        }
    }
}

impl From<FilterReport> for FilterView {
    fn from(report: FilterReport) -> Self {
        let (matches, why) = match report.verdict {
            Verdict::Match => (true, None),
            Verdict::NoMatch { why } => (false, Some(why)),
        };
        Self {
            event: report.event,
            event_type: report.event_type,
            matches,
            why,
            value: report.value,
            fault: report.fault,
            deferred: report.deferred,
            document: report.document,
            took_micros: micros(report.took),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
