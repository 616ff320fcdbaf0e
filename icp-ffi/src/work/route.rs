//! Operations that are routes of the HTTP API, asked in this process by the host itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, IF_MATCH};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tower::ServiceExt;
use url::form_urlencoded::Serializer;

use crate::host::{Desk, Ended};
use crate::op::Op;
use crate::settings::{missing, read};
use crate::status::{Failure, Status};

/// A request to the API.
#[derive(Debug)]
pub(super) struct Ask {
    method: Method,
    address: String,
    revision: Option<u64>,
    body: Vec<u8>,
}

/// What an operation on a route is asked with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    org: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    #[serde(default)]
    document: Option<Box<RawValue>>,
}

/// What the operation for any route is asked with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Any {
    method: String,
    path: String,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    #[serde(default)]
    document: Option<Box<RawValue>>,
    #[serde(default)]
    revision: Option<u64>,
}

/// What follows the organization in the path of an operation; `None` is the place of the id.
type Path = &'static [Option<&'static str>];

/// The route of an operation that is nothing but a route.
fn route_of(op: Op) -> Option<(Method, Path)> {
    const ID: Option<&str> = None;
    Some(match op {
        Op::EventGet => (Method::GET, &[Some("events"), ID]),
        Op::EventList => (Method::GET, &[Some("events")]),
        Op::EventExplain => (Method::GET, &[Some("events"), ID, Some("explain")]),
        Op::DeliveryGet => (Method::GET, &[Some("deliveries"), ID]),
        Op::DeliveryList => (Method::GET, &[Some("deliveries")]),
        Op::DeliveryAttempts => (Method::GET, &[Some("deliveries"), ID, Some("attempts")]),
        Op::DeliveryRetry => (Method::POST, &[Some("deliveries"), ID, Some("replay")]),
        Op::DeadLetterList => (Method::GET, &[Some("dead-letters")]),
        Op::DeadLetterReplay => (Method::POST, &[Some("dead-letters"), Some("retry")]),
        Op::DryRunTransform => (Method::POST, &[Some("transforms"), Some("dry-run")]),
        Op::DryRunFilter => (Method::POST, &[Some("filters"), Some("dry-run")]),
        Op::IntegrationTest => (Method::POST, &[Some("integrations"), ID, Some("test")]),
        _ => return None,
    })
}

pub(super) async fn fixed(desk: &Desk, op: Op, body: &[u8]) -> Ended {
    let Some((method, path)) = route_of(op) else {
        return Err(Failure::new(Status::Unsupported, "the operation is no route"));
    };
    let input: Input = read(body)?;
    let mut parts = vec!["organizations", input.org.as_str()];
    for part in path {
        parts.push(match part {
            Some(word) => word,
            None => input.id.as_deref().ok_or_else(|| missing("/id", "name what is meant"))?,
        });
    }
    let body = input.document.map(|document| document.get().as_bytes().to_vec());
    let mut wanted = Ask::new(method, &parts, body.unwrap_or_default());
    wanted.query(&input.query)?;
    ask(desk, wanted).await
}

pub(super) async fn any(desk: &Desk, body: &[u8]) -> Ended {
    let input: Any = read(body)?;
    let method = Method::from_bytes(input.method.as_bytes())
        .map_err(|_| Failure::at("/method", "is no method of HTTP"))?;
    if !input.path.starts_with('/') || input.path.contains(['?', '#']) {
        let hint = "begin with a slash, and put what follows a question mark into `query`";
        return Err(Failure::at("/path", hint));
    }
    if input.path.contains("/live/") {
        return Err(Failure::at("/path", "what is live is followed by SUBSCRIBE"));
    }
    let body = input.document.map(|document| document.get().as_bytes().to_vec());
    let address = input.path;
    let body = body.unwrap_or_default();
    let mut wanted = Ask { method, address, revision: input.revision, body };
    wanted.query(&input.query)?;
    ask(desk, wanted).await
}

impl Ask {
    /// A request to `/api/v1` and the parts, each of which is escaped.
    pub(super) fn new(method: Method, parts: &[&str], body: Vec<u8>) -> Self {
        let mut address = String::from("/api/v1");
        for part in parts {
            address.push('/');
            address.push_str(&escaped(part));
        }
        Self { method, address, revision: None, body }
    }

    pub(super) fn post(parts: &[&str], body: Vec<u8>) -> Self {
        Self::new(Method::POST, parts, body)
    }

    pub(super) fn revision(mut self, revision: Option<u64>) -> Self {
        self.revision = revision;
        self
    }

    pub(super) fn query(&mut self, query: &BTreeMap<String, Value>) -> Result<(), Failure> {
        if query.is_empty() {
            return Ok(());
        }
        let mut pairs = Serializer::new(String::new());
        for (name, value) in query {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => {
                    let hint = "should be a string, a number or a boolean";
                    return Err(Failure::at(format!("/query/{name}"), hint));
                }
            };
            pairs.append_pair(name, &text);
        }
        self.address.push('?');
        self.address.push_str(&pairs.finish());
        Ok(())
    }
}

/// A part of a path; a dot alone would be a step.
fn escaped(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric()
            || b"-_~".contains(&byte)
            || (byte == b'.' && part.len() > 2)
        {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Has the API answer.
pub(super) async fn ask(desk: &Desk, wanted: Ask) -> Ended {
    let mut request = Request::builder().method(wanted.method).uri(&wanted.address);
    if !wanted.body.is_empty() {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(revision) = wanted.revision {
        let name: HeaderName = IF_MATCH;
        request = request.header(name, format!("\"{revision}\""));
    }
    let request =
        request.extension(desk.principal.clone()).body(Full::new(Bytes::from(wanted.body)));
    let request = request.map_err(|_| Failure::at("/path", "is no path of a url"))?;
    let Ok(response) = desk.router.clone().oneshot(request).await;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|_| Failure::new(Status::Internal, "the answer broke off"))?;
    let body = body.to_bytes();
    if status.is_success() {
        return Ok(if body.is_empty() { b"null".to_vec() } else { body.into() });
    }
    Err(Failure::of_problem(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_stay_parts() {
        let ask = Ask::post(&["organizations", "a/../b", "..", "x y.z"], Vec::new());
        assert_eq!(ask.address, "/api/v1/organizations/a%2F..%2Fb/%2E%2E/x%20y.z");
    }

    #[test]
    fn queries_are_encoded() {
        let mut ask = Ask::post(&[], Vec::new());
        let query: BTreeMap<_, _> =
            serde_json::from_str(r#"{"a":"x&y","b":2,"c":null,"d":true}"#).unwrap();
        ask.query(&query).unwrap();
        assert_eq!(ask.address, "/api/v1?a=x%26y&b=2&d=true");
        let query: BTreeMap<_, _> = serde_json::from_str(r#"{"a":[]}"#).unwrap();
        assert!(ask.query(&query).is_err());
    }

    /// A route that is renamed is to be followed here.
    #[test]
    fn every_route_is_one_of_the_api() {
        let document = crate::reference::openapi();
        let mut routes = 0;
        for op in Op::ALL {
            let Some((method, path)) = route_of(*op) else { continue };
            let parts: Vec<_> = path.iter().map(|part| part.unwrap_or("{id}")).collect();
            let path = format!("/api/v1/organizations/{{org}}/{}", parts.join("/"));
            let method = method.as_str().to_lowercase();
            assert!(document["paths"][&path][&method].is_object(), "{method} {path}");
            routes += 1;
        }
        assert_eq!(routes, 12);
    }
}
