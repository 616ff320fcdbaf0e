use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use icp_core::{Code, Violation};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::unknown;
use crate::pace::TooSlow;
use crate::problem::{Problem, Result};

const JSON: &str = "application/json";
/// The media type of RFC 7396.
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// The media type of RFC 4180.
pub(crate) const CSV: &str = "text/csv";

/// A type that bodies are read as. It refuses unknown fields.
pub(crate) trait Input: DeserializeOwned + JsonSchema + Send {
    /// The code of a body that is JSON, but not of this type.
    const INVALID: Code;
}

/// A JSON body of type `T`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: Input, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        expect_type(request.headers(), &[JSON])?;
        read(&bytes(request, state).await?, "").map(Self)
    }
}

/// A body that may be left out; then no content type is needed either.
impl<T: Input, S: Send + Sync> OptionalFromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>> {
        let given = expect_type(request.headers(), &[JSON]);
        let bytes = bytes(request, state).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        given?;
        read(&bytes, "").map(|body| Some(Self(body)))
    }
}

/// A merge patch by RFC 7396.
#[derive(Debug)]
pub(crate) struct PatchBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for PatchBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        expect_type(request.headers(), &[MERGE_PATCH, JSON])?;
        let bytes = bytes(request, state).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| malformed(&error))
    }
}

/// A file, as JSON or as CSV.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) is_csv: bool,
    pub(crate) bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        expect_type(request.headers(), &[JSON, CSV])?;
        let is_csv = expect_type(request.headers(), &[CSV]).is_ok();
        Ok(Self { is_csv, bytes: bytes(request, state).await? })
    }
}

/// A file of one of the media types `known`, and which one that is.
pub(crate) async fn upload<S: Send + Sync>(
    request: Request,
    state: &S,
    known: &[&'static str],
) -> Result<(&'static str, Bytes)> {
    expect_type(request.headers(), known)?;
    let own = known.iter().find(|media| expect_type(request.headers(), &[media]).is_ok());
    let media = own.copied().unwrap_or_default();
    Ok((media, bytes(request, state).await?))
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes> {
    Bytes::from_request(request, state).await.map_err(refused_body)
}

/// The problem of a body that cannot be read.
pub(crate) fn refused_body(rejection: BytesRejection) -> Problem {
    if TooSlow::is_behind(&rejection) {
        let hint = "the request body arrives too slowly; send it at once, or in smaller parts";
        return Problem::new(Code::BodyTooSlow, hint);
    }
    let text = rejection.body_text();
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Code::BodyTooLarge,
            "the request body is larger than this route takes; send less at once",
        ),
        _ => Problem::new(Code::BodyMalformed, format!("the body cannot be read: {text}")),
    }
}

fn expect_type(headers: &HeaderMap, known: &[&str]) -> Result<()> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = given.split(';').next().unwrap_or_default().trim();
    if known.iter().any(|known| media.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let hint = format!("send the body with the content type {}", known.join(" or "));
    Err(Problem::new(Code::MediaTypeUnsupported, hint))
}

/// Reads JSON; `at` is the pointer to it in the whole body.
///
/// The first reading is the fast one; only where it fails the fault is looked for.
pub(crate) fn read<T: Input>(json: &[u8], at: &str) -> Result<T> {
    let error = match serde_json::from_slice(json) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if !error.is_data() {
        return Err(malformed(&error));
    }
    let document: Value = serde_json::from_slice(json).map_err(|error| malformed(&error))?;
    let mut violations = unknown_fields::<T>(&document, at);
    if violations.is_empty() {
        let found = serde_path_to_error::deserialize::<_, T>(&document);
        let path = found.err().map(|error| error.path().clone());
        violations.push(fault(&error, &path.as_ref().map(pointer).unwrap_or_default(), at));
    }
    Err(Problem::violations(T::INVALID, violations))
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Code::BodyMalformed, format!("the body is not json: {error}"))
}

fn unknown_fields<T: JsonSchema>(document: &Value, at: &str) -> Vec<Violation> {
    let schema = schemars::schema_for!(T).to_value();
    let properties = schema.get("properties").and_then(Value::as_object);
    let known: Vec<_> =
        properties.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
    let fields = document.as_object().into_iter().flat_map(|map| map.keys());
    fields
        .filter(|name| !known.contains(&name.as_str()))
        .map(|name| {
            let pointer = format!("{at}/{}", icp_core::resource::escape(name));
            Violation::new(pointer, "unknown_field", unknown("field", name, &known))
        })
        .collect()
}

fn fault(error: &serde_json::Error, path: &str, at: &str) -> Violation {
    // The place in the text says nothing once the pointer is known.
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    match text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(name) => Violation::new(format!("{at}{path}/{name}"), "required", "is missing"),
        None => Violation::new(format!("{at}{path}"), "malformed", without_value(text)),
    }
}

/// What a reader says of a value that it does not take, without the value: it may be a secret that
/// was put in the wrong place.
fn without_value(text: &str) -> String {
    let Some((what, expected)) = text.rsplit_once(", expected ") else { return text.to_owned() };
    let known = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    let Some(kind) = known.iter().find(|kind| what.starts_with(**kind)) else {
        return text.to_owned();
    };
    let named = what[kind.len()..].split([' ', '`', '"']).next().unwrap_or_default();
    format!("{kind}{named}").trim_end().to_owned() + ", expected " + expected
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |at, segment| match segment {
        Segment::Seq { index } => format!("{at}/{index}"),
        Segment::Map { key } => format!("{at}/{}", icp_core::resource::escape(key)),
        Segment::Enum { .. } | Segment::Unknown => at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_repeated() {
        for (said, shown) in [
            ("invalid type: string \"hush\", expected u64", "invalid type: string, expected u64"),
            (
                "invalid value: integer `7`, expected a text",
                "invalid value: integer, expected a text",
            ),
            (
                "invalid type: string \"hush, expected x\", expected u64",
                "invalid type: string, expected u64",
            ),
            ("unknown variant `hush`, expected `a` or `b`", "unknown variant, expected `a` or `b`"),
            ("use a type of the form `a.b.c`", "use a type of the form `a.b.c`"),
        ] {
            assert_eq!(without_value(said), shown);
        }
    }
}
