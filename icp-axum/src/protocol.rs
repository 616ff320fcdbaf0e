//! How every answer speaks HTTP: limits, preconditions, preferences, and what browsers are told.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, options};
use icp_core::{Code, Engine};

use crate::extract::{header, preferred};
use crate::problem::{PROBLEM_JSON, Problem, Result};

/// The most header fields of a request.
const MAX_FIELDS: usize = 100;

/// The most bytes of the names and values of all header fields.
const MAX_FIELD_BYTES: usize = 32 << 10;

/// The most bytes of path and query.
const MAX_ADDRESS: usize = 16 << 10;

/// What bodies may be packed with.
const PACKINGS: &str = "gzip, br";

/// What is said to browsers with every answer that says nothing else.
const SAID: [(HeaderName, HeaderValue); 4] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// For answers that only their caller may keep, and has to ask for again.
const REVALIDATED: HeaderValue = HeaderValue::from_static("private, no-cache");
/// For answers that nobody may keep.
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What is the same for all answers of an API.
#[derive(Clone, Debug)]
pub(crate) struct Speech {
    hsts: Option<HeaderValue>,
}

impl Speech {
    pub(crate) fn new(hsts: Option<Duration>) -> Self {
        let value = |age: Duration| format!("max-age={}; includeSubDomains", age.as_secs());
        Self { hsts: hsts.and_then(|age| HeaderValue::from_str(&value(age)).ok()) }
    }

    fn finish(&self, mut response: Response) -> Response {
        let failed = !response.status().is_success() && !response.status().is_redirection();
        let fields = response.headers_mut();
        for (name, value) in SAID {
            fields.entry(name).or_insert(value);
        }
        let kept = if failed { NO_STORE } else { REVALIDATED };
        fields.entry(CACHE_CONTROL).or_insert(kept);
        if let Some(hsts) = &self.hsts {
            fields.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        response
    }
}

/// Refuses requests beyond the limits, and has the others answered.
pub(crate) async fn speak(
    State(speech): State<Speech>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = admit(&request) {
        let mut response = problem.into_response();
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            let packings = HeaderValue::from_static(PACKINGS);
            response.headers_mut().insert(ACCEPT_ENCODING, packings);
        }
        return speech.finish(response);
    }
    if let Some(packing) = request.headers_mut().get_mut(CONTENT_ENCODING) {
        // Codings are alike in any case; what unpacks knows them in the lower one.
        let lower = packing.as_bytes().to_ascii_lowercase();
        *packing = HeaderValue::from_bytes(&lower).unwrap_or_else(|_| packing.clone());
    }
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let asked = looks.then(|| wishes(request.headers()));
    let response = next.run(request).await;
    let response = match asked {
        Some(asked) => preconditioned(&asked, response),
        None => response,
    };
    speech.finish(response)
}

fn admit(request: &Request) -> Result<()> {
    let address = request.uri().path_and_query().map_or(0, |address| address.as_str().len());
    if address > MAX_ADDRESS {
        let hint = format!("the path and query have {address} bytes; use at most {MAX_ADDRESS}");
        return Err(Problem::new(Code::AddressTooLong, hint));
    }
    let headers = request.headers();
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if headers.len() > MAX_FIELDS || bytes.sum::<usize>() > MAX_FIELD_BYTES {
        let hint = format!("send at most {MAX_FIELDS} header fields of {MAX_FIELD_BYTES} bytes");
        return Err(Problem::new(Code::HeadersTooLarge, hint));
    }
    let packing = header(headers, CONTENT_ENCODING.as_str())?.map(str::trim);
    let known = ["identity", "gzip", "br"];
    let is_known = |packing: &str| known.iter().any(|known| packing.eq_ignore_ascii_case(known));
    if packing.is_some_and(|packing| !is_known(packing)) {
        let hint = "send the body as it is, or with the content encoding gzip or br";
        return Err(Problem::new(Code::MediaTypeUnsupported, hint));
    }
    Ok(())
}

/// The header fields that say which answer is wanted.
fn wishes(headers: &HeaderMap) -> HeaderMap {
    let of =
        |name: HeaderName| headers.get_all(&name).iter().map(move |value| (name.clone(), value));
    let known = [ACCEPT, IF_NONE_MATCH].into_iter().flat_map(of);
    known.fold(HeaderMap::new(), |mut wishes, (name, value)| {
        wishes.append(name, value.clone());
        wishes
    })
}

/// What an answer becomes by what the request said of the one it wants.
fn preconditioned(asked: &HeaderMap, response: Response) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let text = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok());
    if let Some(media) = text(CONTENT_TYPE)
        && preferred(asked, &[media]).is_none()
        && media != PROBLEM_JSON
    {
        let hint = format!("the answer is {media}; accept that");
        return Problem::new(Code::NotAcceptable, hint).into_response();
    }
    let matched = text(ETAG).is_some_and(|tag| matches_one(asked, tag));
    if matched { unchanged(response) } else { response }
}

/// Whether `If-None-Match` names the tag, by the weak comparison of RFC 9110, section 8.8.3.2.
fn matches_one(asked: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let values = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|one| one.trim() == "*" || opaque(one) == opaque(tag))
}

fn unchanged(response: Response) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(CONTENT_TYPE);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::empty())
}

/// Answers which methods the routes of each path take, from behind `before`.
pub(crate) fn with_options<'a>(
    router: Router<Engine>,
    routes: impl Iterator<Item = (&'a str, &'a Method)>,
    before: impl Fn(MethodRouter<Engine>) -> MethodRouter<Engine>,
) -> Router<Engine> {
    let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, method) in routes {
        let methods = paths.entry(path).or_insert_with(|| vec!["OPTIONS"]);
        methods.push(method.as_str());
        methods.extend((method == Method::GET).then_some("HEAD"));
    }
    paths.into_iter().fold(router, |router, (path, mut methods)| {
        methods.sort_unstable();
        let allow = methods.join(", ");
        let answer = async move || (StatusCode::NO_CONTENT, [(ALLOW, allow)]);
        router.route(path, before(options(answer)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly() {
        for (asked, matches) in [
            ("\"7\"", true),
            ("W/\"7\"", true),
            ("\"6\", \"7\"", true),
            ("*", true),
            ("\"70\"", false),
            ("7", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, asked.parse().unwrap())]);
            assert_eq!(matches_one(&headers, "\"7\""), matches, "{asked}");
        }
        assert!(!matches_one(&HeaderMap::new(), "\"7\""));
    }

    #[test]
    fn what_is_said_to_browsers_can_be_said_otherwise() {
        let speech = Speech::new(Some(Duration::from_secs(60)));
        let own = [(CACHE_CONTROL, NO_STORE), (CONTENT_SECURITY_POLICY, "x".parse().unwrap())];
        let answer = speech.finish((own, "secret").into_response());
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers()[CONTENT_SECURITY_POLICY], "x");
        assert_eq!(answer.headers()[STRICT_TRANSPORT_SECURITY], "max-age=60; includeSubDomains");
        let plain = Speech::new(None).finish("x".into_response());
        assert_eq!(plain.headers()[CACHE_CONTROL], "private, no-cache");
        assert!(!plain.headers().contains_key(STRICT_TRANSPORT_SECURITY));
    }
}
