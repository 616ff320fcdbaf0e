//! Failures as RFC 9457 problem documents.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use icp_core::{Code, Error, ErrorKind, Violation};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// How long a caller waits before it tries again what failed for the moment, in seconds.
const PAUSE: HeaderValue = HeaderValue::from_static("1");

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// A failure as RFC 9457 describes it.
#[derive(Clone, Debug)]
pub struct Problem {
    error: Error,
    status: StatusCode,
}

/// A failure as RFC 9457 describes it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Problem")]
struct Document<'a> {
    /// Names the code as a URI.
    r#type: String,
    /// What the code means; the same for every problem of this code.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What went wrong this time, and what to do.
    detail: &'a str,
    /// The stable name of the failure.
    code: &'a str,
    /// Every broken rule of the input, where the problem is about one.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(default)]
    violations: &'a [Violation],
}

impl Problem {
    /// A problem of `code`, with its status.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::from(Error::new(code, detail))
    }

    /// A problem of `code` that lists broken rules.
    pub(crate) fn violations(code: Code, violations: Vec<Violation>) -> Self {
        Self::from(Error::violations(code, violations))
    }

    /// The same problem with a status that says more than the code's own.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn document(&self) -> Document<'_> {
        let code = self.error.code();
        Document {
            r#type: format!("urn:icp:error:{code}"),
            title: code.meaning().trim(),
            status: self.status.as_u16(),
            detail: self.error.message(),
            code: code.as_str(),
            violations: self.error.list(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = error.code();
        if matches!(code.kind(), ErrorKind::Internal | ErrorKind::Corrupt) {
            tracing::error!(icp.error = code.as_str(), "a request failed: {error}");
        }
        Self { error, status: status_of(code) }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl JsonSchema for Problem {
    fn schema_name() -> Cow<'static, str> {
        Document::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Document::json_schema(generator)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        let mut set = |name: HeaderName, value| response.headers_mut().insert(name, value);
        set(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match status {
            StatusCode::UNAUTHORIZED => {
                set(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                set(RETRY_AFTER, PAUSE);
            }
            _ => {}
        }
        response
    }
}

/// The HTTP status of a code: that of its kind, but for those that HTTP has a status of its
/// own for.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::MediaTypeUnsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Code::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Code::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
        Code::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Code::AddressTooLong => StatusCode::URI_TOO_LONG,
        Code::RateLimited | Code::TestsLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => status_of_kind(code.kind()),
    }
}

fn status_of_kind(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Conflict | ErrorKind::LeaseLost => StatusCode::CONFLICT,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        // `Corrupt`, `Internal`, and kinds this version does not know.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        for (kind, status) in [
            (ErrorKind::Conflict, 409),
            (ErrorKind::Corrupt, 500),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::Internal, 500),
            (ErrorKind::Invalid, 400),
            (ErrorKind::LeaseLost, 409),
            (ErrorKind::NotFound, 404),
            (ErrorKind::TooLarge, 413),
            (ErrorKind::Timeout, 504),
            (ErrorKind::Unauthenticated, 401),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Unsupported, 501),
        ] {
            assert_eq!(status_of_kind(kind).as_u16(), status, "{kind:?}");
        }
    }

    #[test]
    fn every_code_is_a_failure_with_a_title_and_a_uri() {
        for code in Code::ALL {
            let problem = Problem::new(*code, "x");
            assert!(problem.status().is_client_error() || problem.status().is_server_error());
            let document = problem.document();
            assert!(!document.title.is_empty());
            assert_eq!(document.r#type, format!("urn:icp:error:{}", code.as_str()));
        }
        assert_eq!(Problem::new(Code::MethodNotAllowed, "").status, 405);
        assert_eq!(Problem::new(Code::MediaTypeUnsupported, "").status, 415);
    }

    #[test]
    fn a_moment_of_trouble_says_when_to_come_back() {
        let response = Problem::new(Code::Overloaded, "try again").into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
    }
}
