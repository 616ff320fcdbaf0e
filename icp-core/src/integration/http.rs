//! The built-in connector: one HTTP request for each attempt, through the guarded client.

mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use url::Url;

use self::template::{BodyTemplate, HeaderTemplate, UrlTemplate};
use super::auth::{Auth, SignerError};
use super::retry::retry_after;
use super::{Binding, Connector, Failure, Hint, Integration, Judgement, Outgoing, Preview, Sent};
use crate::delivery::{AttemptTimings, Exchange};
use crate::egress::{
    AddressPolicy, EgressError, EgressRequest, EgressResponse, FailureClass, Timeouts, Timings,
    Transport,
};
use crate::error::{Code, Error, Result, Violation};
use crate::event;
use crate::letter::RETRY_HEADER;
use crate::signing::{self, Signer};
use crate::time::Timestamp;

/// The name of this connector in `target.kind`.
pub const KIND: &str = "http";

/// How much of an answer's body is read and kept, in bytes.
pub const KEPT_BODY: usize = 16 * 1024;

const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);
const KEPT_HEADERS: usize = 32;
const KEPT_VALUE: usize = 1024;
/// How many headers a signed request has before any of the integration's own.
const USUAL_HEADERS: usize = 14;
const AGENT: &str = concat!("icp/", env!("CARGO_PKG_VERSION"));

/// Where an HTTP integration sends to: the `target` of its spec.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTarget {
    /// Always `http`.
    #[schemars(extend("const" = "http"))]
    pub kind: String,
    /// The address, `http` or `https`. Its path and query may hold places for values, as in
    /// `https://example.com/orders/{{data.id}}`; scheme, host and port are written out.
    ///
    /// Places are paths into `id`, `type`, `org`, `unit`, `ordering_key`, `received_at` and
    /// `content_type` of the event and, as `data`, its body after transformation where that is
    /// JSON. A value is escaped for where it stands; one that is missing or empty in the path, or
    /// missing in the query, fails the attempt.
    pub url: String,
    /// The method: `POST` (default), `PUT` or `PATCH`.
    #[serde(default)]
    pub method: HttpMethod,
    /// Header fields, their values fixed or with places as in `url`; a field one of whose values
    /// is missing is left out. Fields that the engine sets cannot be set here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A JSON document that is sent in place of the body. Its texts may hold places as in `url`;
    /// a text that is one place becomes the value itself, `null` where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// How long the parts of a request may take, each 1 to 120,000 milliseconds.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// The methods that carry an event.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum HttpMethod {
    /// `PATCH`.
    Patch,
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
}

impl HttpMethod {
    fn as_http(self) -> Method {
        match self {
            Self::Patch => Method::PATCH,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
        }
    }
}

/// Sends deliveries as HTTP requests.
#[derive(Clone, Debug)]
pub struct HttpConnector {
    transport: Transport,
    development: Option<Arc<AddressPolicy>>,
}

impl HttpConnector {
    /// A connector that sends through `transport`.
    #[must_use]
    pub fn new(transport: Transport) -> Self {
        Self { transport, development: None }
    }

    /// Judges addresses by `policy` in place of each organization's own, to reach receivers on
    /// this machine during development and in tests.
    #[must_use]
    pub fn development_policy(mut self, policy: AddressPolicy) -> Self {
        self.development = Some(Arc::new(policy));
        self
    }
}

impl Connector for HttpConnector {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn validate(
        &self,
        target: &serde_json::Value,
        at: &str,
        policy: &AddressPolicy,
    ) -> Vec<Violation> {
        let target: HttpTarget = match serde_path_to_error::deserialize(target) {
            Ok(target) => target,
            Err(error) => {
                return vec![Violation::new(at, "malformed", error.into_inner().to_string())];
            }
        };
        target.validate(at, self.development.as_deref().unwrap_or(policy))
    }

    fn schema(&self) -> serde_json::Value {
        schemars::schema_for!(HttpTarget).to_value()
    }

    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>> {
        let refuse = |error: &dyn std::fmt::Display| {
            Error::new(Code::ResourceInvalid, format!("the target cannot be used: {error}"))
        };
        let target: HttpTarget =
            serde_json::from_value(binding.target.clone()).map_err(|e| refuse(&e))?;
        let url = UrlTemplate::parse(&target.url).map_err(|e| refuse(&e))?;
        let (headers, filled) = target.header_map().map_err(|name| {
            Error::new(Code::ResourceInvalid, format!("the header `{name}` cannot be sent"))
        })?;
        let body = target.body.as_ref().map(|body| BodyTemplate::compile(body, ""));
        let body =
            body.transpose().map_err(|found| Error::violations(Code::ResourceInvalid, found))?;
        Ok(Arc::new(HttpIntegration {
            transport: self.transport.clone(),
            policy: self.development.clone().unwrap_or(binding.policy),
            method: target.method.as_http(),
            url,
            headers,
            filled,
            body,
            timeouts: target.timeouts,
            auth: binding.auth,
            signer: binding.signer,
        }))
    }
}

impl HttpTarget {
    fn validate(&self, at: &str, policy: &AddressPolicy) -> Vec<Violation> {
        let mut violations = Vec::new();
        if self.kind != KIND {
            violations.push(Violation::new(format!("{at}/kind"), "unknown", "is not `http`"));
        }
        match UrlTemplate::parse(&self.url) {
            Err(message) => violations.push(Violation::new(
                format!("{at}/url"),
                Code::UrlInvalid.as_str(),
                message,
            )),
            Ok(url) => {
                if let Err(denied) = policy.check_url(url.literal()) {
                    let code = match denied.class() {
                        FailureClass::AddressDenied => Code::AddressDenied,
                        _ => Code::UrlInvalid,
                    };
                    let message = denied.to_string();
                    violations.push(Violation::new(format!("{at}/url"), code.as_str(), message));
                }
            }
        }
        for (name, value) in &self.headers {
            if let Err(message) = header(name, value) {
                let pointer =
                    format!("{at}/headers/{}", name.replace('~', "~0").replace('/', "~1"));
                violations.push(Violation::new(pointer, "header_invalid", message));
            }
        }
        if let Some(body) = &self.body {
            let found = BodyTemplate::compile(body, &format!("{at}/body"));
            violations.extend(found.err().unwrap_or_default());
        }
        for (field, timeout) in self.timeouts.fields() {
            if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
                let pointer = format!("{at}/timeouts/{field}");
                violations.push(Violation::new(pointer, "out_of_range", "use 1 to 120000"));
            }
        }
        violations
    }

    /// The fields with a fixed value, and those with places.
    fn header_map(&self) -> Result<(HeaderMap, HeaderTemplates), &str> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        let mut filled = Vec::new();
        for (name, value) in &self.headers {
            match header(name, value).map_err(|_| name.as_str())? {
                (name, Field::Fixed(value)) => drop(map.insert(name, value)),
                (name, Field::Filled(template)) => filled.push((name, template)),
            }
        }
        Ok((map, filled))
    }
}

type HeaderTemplates = Vec<(HeaderName, HeaderTemplate)>;

/// The value of a header field.
enum Field {
    Fixed(HeaderValue),
    Filled(HeaderTemplate),
}

fn header(name: &str, value: &str) -> Result<(HeaderName, Field), String> {
    const OURS: [&str; 12] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "traceparent",
        "tracestate",
        "upgrade",
    ];
    let name = HeaderName::try_from(name).map_err(|_| "is not a header name".to_owned())?;
    let ours = OURS.contains(&name.as_str());
    if ours || name.as_str().starts_with("webhook-") || name.as_str().starts_with("icp-") {
        return Err("is set by the engine and cannot be set here".to_owned());
    }
    if value.contains("{{") {
        return Ok((name, Field::Filled(HeaderTemplate::parse(value)?)));
    }
    let value = HeaderValue::try_from(value);
    Ok((name, Field::Fixed(value.map_err(|_| "has a value that cannot be sent".to_owned())?)))
}

#[derive(Debug)]
struct HttpIntegration {
    transport: Transport,
    policy: Arc<AddressPolicy>,
    method: Method,
    url: UrlTemplate,
    headers: HeaderMap,
    filled: HeaderTemplates,
    body: Option<BodyTemplate>,
    timeouts: Timeouts,
    auth: Auth,
    signer: Option<Arc<dyn Signer>>,
}

#[async_trait]
impl Integration for HttpIntegration {
    async fn send(&self, outgoing: Outgoing<'_>) -> Sent {
        let now = outgoing.now;
        let (mut request, url) = match self.request(&outgoing) {
            Ok(made) => made,
            Err(error) => return unsent(&error),
        };
        let asked = match self.auth.asked(&request, &outgoing).await {
            Ok(asked) => asked,
            Err(error) => return unsigned(&error),
        };
        if let Some(auth) = &asked
            && let Err(error) = auth.apply(&mut request.url, &mut request.headers)
        {
            return unsent(&error);
        }
        let auth = asked.as_ref().unwrap_or(&self.auth);
        match self.transport.clone().oneshot(request).await {
            Ok(response) => self.answered(response, url, now, auth),
            Err(error) => self.unanswered(&error, url, auth),
        }
    }

    fn preview(&self, outgoing: &Outgoing<'_>) -> Result<Preview> {
        let (request, _) = self.request(outgoing)?;
        Ok(Preview {
            method: request.method.to_string(),
            url: shown(&request.url),
            headers: request.headers.iter().map(|(name, value)| masked(name, value)).collect(),
            body: request.body,
        })
    }
}

impl HttpIntegration {
    /// The request but for what a signer of the host adds, and its address for people, without the
    /// credentials.
    fn request(&self, outgoing: &Outgoing<'_>) -> Result<(EgressRequest, String)> {
        let event = outgoing.event;
        let Filled { mut url, mut headers, body } = self.fill(outgoing)?;
        let shown_url = shown(&url);
        headers.reserve(USUAL_HEADERS);
        let id = event.id.to_string();
        let mut set = |name: HeaderName, value: String| -> Result<()> {
            let value = HeaderValue::try_from(value).map_err(|_| {
                Error::new(Code::Internal, format!("the value of `{name}` cannot be sent"))
            })?;
            headers.insert(name, value);
            Ok(())
        };
        let content_type = self.body.as_ref().map_or(event.content_type.as_ref(), |_| event::JSON);
        set(CONTENT_TYPE, content_type.to_owned())?;
        set(HeaderName::from_static("webhook-id"), id.clone())?;
        set(HeaderName::from_static("webhook-timestamp"), outgoing.now.as_secs().to_string())?;
        set(HeaderName::from_static("icp-event-type"), event.event_type.as_str().to_owned())?;
        set(HeaderName::from_static("icp-event-time"), event.received_at.to_string())?;
        set(HeaderName::from_static("icp-delivery"), outgoing.delivery.to_string())?;
        set(HeaderName::from_static("icp-attempt"), outgoing.number.to_string())?;
        set(HeaderName::from_static("icp-epoch"), outgoing.epoch.to_string())?;
        if outgoing.round > 0 {
            set(HeaderName::from_static(RETRY_HEADER), "true".to_owned())?;
        }
        set(HeaderName::from_static("traceparent"), outgoing.trace.parent())?;
        if outgoing.test {
            set(HeaderName::from_static("icp-test"), "true".to_owned())?;
        }
        if let Some(state) = outgoing.trace.state() {
            set(HeaderName::from_static("tracestate"), state.to_owned())?;
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        if !self.auth.is_asked() {
            self.auth.apply(&mut url, &mut headers)?;
        }
        if let Some(signer) = &self.signer {
            let message = signing::Message { id: &id, timestamp: outgoing.now, body: &body };
            signer.sign(&message, &mut headers)?;
        }
        let mut request =
            EgressRequest::new(self.method.clone(), url, body, Arc::clone(&self.policy));
        request.headers = headers;
        request.timeouts = self.timeouts;
        request.response_limit = KEPT_BODY;
        Ok((request, shown_url))
    }

    /// What the templates make of the event.
    fn fill(&self, outgoing: &Outgoing<'_>) -> Result<Filled> {
        let mut headers = self.headers.clone();
        let body = outgoing.body.clone();
        if !self.url.has_places() && self.filled.is_empty() && self.body.is_none() {
            return Ok(Filled { url: self.url.literal().clone(), headers, body });
        }
        let document = template::document(outgoing.event, &body);
        for (name, template) in &self.filled {
            if let Some(value) = template.fill(&document).map_err(|why| unfilled(name, &why))? {
                headers.insert(name.clone(), value);
            }
        }
        let url = self.url.fill(&document).map_err(|why| unfilled("url", &why))?;
        let body = match &self.body {
            Some(template) => template.fill(&document).map_err(|why| unfilled("body", &why))?,
            None => body,
        };
        Ok(Filled { url, headers, body })
    }

    fn answered(&self, response: EgressResponse, url: String, now: Timestamp, auth: &Auth) -> Sent {
        let status = response.status;
        let judgement = judge(status, response.headers.get(RETRY_AFTER), now);
        Sent {
            judgement,
            status: Some(status.as_u16()),
            timings: timings(response.timings),
            exchange: Some(Arc::new(self.exchange(url, Some(response), auth))),
        }
    }

    fn unanswered(&self, error: &EgressError, url: String, auth: &Auth) -> Sent {
        let hint = match error.class {
            FailureClass::UrlInvalid | FailureClass::AddressDenied => Hint::Refused,
            _ => Hint::Retry,
        };
        Sent {
            judgement: Judgement::Failed(Failure {
                class: error.class.as_str().to_owned(),
                message: error.message.clone(),
                hint,
            }),
            status: None,
            timings: timings(error.timings),
            exchange: Some(Arc::new(self.exchange(url, None, auth))),
        }
    }

    fn exchange(&self, url: String, response: Option<EgressResponse>, auth: &Auth) -> Exchange {
        let mut exchange = Exchange { method: self.method.to_string(), url, ..Exchange::default() };
        if let Some(response) = response {
            exchange.response_headers = kept(&response.headers, auth);
            let body = String::from_utf8_lossy(&response.body).into_owned();
            exchange.response_body = auth.redact(body);
            exchange.response_truncated = response.truncated;
        }
        exchange
    }
}

/// A request as its templates make it.
struct Filled {
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

fn unfilled(what: impl std::fmt::Display, why: &str) -> Error {
    Error::new(Code::TemplateUnfilled, format!("the template of `{what}` cannot be filled: {why}"))
}

fn unsent(error: &Error) -> Sent {
    let hint = match error.code() {
        Code::TemplateUnfilled => Hint::Impossible,
        _ => Hint::Retry,
    };
    nothing_sent(error.code().as_str().to_owned(), error.message().to_owned(), hint)
}

fn unsigned(error: &SignerError) -> Sent {
    nothing_sent(error.class(), error.message.clone(), Hint::Retry)
}

fn nothing_sent(class: String, message: String, hint: Hint) -> Sent {
    Sent {
        judgement: Judgement::Failed(Failure { class, message, hint }),
        status: None,
        timings: AttemptTimings::default(),
        exchange: None,
    }
}

/// What a status means, before any policy of tries.
fn judge(status: StatusCode, wait: Option<&HeaderValue>, now: Timestamp) -> Judgement {
    if status.is_success() {
        return Judgement::Delivered;
    }
    let wait = wait.and_then(|value| value.to_str().ok()).and_then(|text| retry_after(text, now));
    let hint = match status.as_u16() {
        410 => Hint::Gone,
        429 | 503 => Hint::Wait(wait),
        408 | 425 | 500.. => Hint::Retry,
        _ => Hint::Refused,
    };
    Judgement::Failed(Failure {
        class: format!("status_{}", status.as_u16()),
        message: format!("the endpoint answered {status}"),
        hint,
    })
}

fn timings(timings: Timings) -> AttemptTimings {
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    AttemptTimings {
        dns: timings.dns.map(micros),
        connect: timings.connect.map(micros),
        first_byte: timings.first_byte.map(micros),
        total: timings.total.map(micros).unwrap_or_default(),
    }
}

fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let keys: Vec<_> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
    url.set_query(None);
    for key in keys {
        url.query_pairs_mut().append_pair(&key, "***");
    }
    url.into()
}

fn kept(headers: &HeaderMap, auth: &Auth) -> Vec<(String, String)> {
    let cut = |(name, value): (String, String)| {
        // Masked first: a credential that is cut short is not found.
        let mut value = auth.redact(value);
        value.truncate(value.floor_char_boundary(KEPT_VALUE));
        (name, value)
    };
    headers.iter().take(KEPT_HEADERS).map(|(name, value)| cut(masked(name, value))).collect()
}

/// A header field for people.
fn masked(name: &HeaderName, value: &HeaderValue) -> (String, String) {
    const SENSITIVE: [&str; 7] = [
        "authorization",
        "cookie",
        "proxy-authenticate",
        "proxy-authorization",
        "set-cookie",
        "www-authenticate",
        "x-api-key",
    ];
    let hidden = value.is_sensitive() || SENSITIVE.contains(&name.as_str());
    let shown = if hidden { "***".into() } else { String::from_utf8_lossy(value.as_bytes()) };
    (name.as_str().to_owned(), shown.into_owned())
}

#[cfg(test)]
mod tests;
