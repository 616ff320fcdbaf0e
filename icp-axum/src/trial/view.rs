use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use icp_core::delivery::AttemptTimings;
use icp_core::event::EventType;
use icp_core::id::EventId;
use icp_core::integration::{MatchReason, Preview};
use icp_core::trial::{TestOutcome, TestReport, TestResponse};
use schemars::JsonSchema;
use serde::Serialize;

/// How a test delivery went.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct TestView {
    /// The id of the event that was made for the test; it is not stored.
    event: EventId,
    /// Its type.
    event_type: EventType,
    /// Whether the integration is on.
    enabled: bool,
    /// Why the integration, were it on, takes the sample or not; `null` without a sample.
    matching: Option<MatchReason>,
    /// How it went.
    outcome: TestOutcome,
    /// What the transformation warns of.
    warnings: Vec<String>,
    /// What the programs of the transformation wrote to their consoles.
    console: Vec<String>,
    /// The request, its secrets masked; `null` where it was not made.
    request: Option<RequestView>,
    /// The answer, where one came.
    response: Option<ResponseView>,
    /// How long the parts of the call took, in microseconds.
    timings: AttemptTimings,
}

/// A request: `body` where it is text, else `body_base64`.
#[derive(Debug, JsonSchema, Serialize)]
struct RequestView {
    /// The method.
    method: String,
    /// The address; values of its query are masked.
    url: String,
    /// The header fields, in the order of their names; secret values are masked.
    headers: BTreeMap<String, String>,
    /// The body, where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body in standard base64, where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// What a receiver answered to a test.
#[derive(Debug, JsonSchema, Serialize)]
struct ResponseView {
    /// The HTTP status.
    status: u16,
    /// The header fields, as name and value; values of sensitive fields are masked.
    headers: Vec<(String, String)>,
    /// The beginning of the body, as text; bytes that are not UTF-8 are replaced.
    body: String,
    /// Whether the body was longer than what is shown.
    truncated: bool,
}

impl From<TestReport> for TestView {
    fn from(report: TestReport) -> Self {
        Self {
            event: report.event,
            event_type: report.event_type,
            enabled: report.enabled,
            matching: report.matching,
            outcome: report.outcome,
            warnings: report.warnings,
            console: report.console,
            request: report.request.map(RequestView::from),
            response: report.response.map(ResponseView::from),
            timings: report.timings,
        }
    }
}

impl From<Preview> for RequestView {
    fn from(preview: Preview) -> Self {
        let (body, body_base64) = match std::str::from_utf8(&preview.body) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&preview.body))),
        };
        let headers = preview.headers.into_iter().collect();
        Self { method: preview.method, url: preview.url, headers, body, body_base64 }
    }
}

impl From<TestResponse> for ResponseView {
    fn from(response: TestResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            body: response.body,
            truncated: response.truncated,
        }
    }
}
