//! How a request to an endpoint authenticates itself.

mod trace;

use std::collections::{BTreeMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use self::trace::Traces;
use crate::error::{Code, Error, Result, Violation};
use crate::secret::{Opener, Place, Secret, SecretString, SecretVisitor};

/// Headers that belong to the connection or to the signature, beside `webhook-*`.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The longest name of a query parameter, and the most headers.
const MAX_NAME: usize = 128;
const MAX_HEADERS: usize = 50;

/// The authentication scheme of an endpoint.
///
/// A type that is not listed here is refused when it is read: an endpoint is never called
/// without the authentication it was meant to have.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthSpec {
    /// No authentication.
    // An empty struct, because serde lets unknown fields pass beside a unit.
    None {},
    /// A key in a header or in the query.
    ApiKey {
        /// Where the key goes.
        #[serde(rename = "in")]
        location: KeyLocation,
        /// The name of the header or query parameter.
        name: String,
        /// The key.
        value: Secret,
    },
    /// A user name and a password, as in RFC 7617.
    Basic {
        /// The user name, without a colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token in the `Authorization` header, as in RFC 6750.
    Bearer {
        /// The token.
        token: Secret,
    },
    /// Fixed headers, all of them secret: 1 to 50.
    Headers {
        /// The value of each header, by its name.
        #[schemars(extend("minProperties" = 1, "maxProperties" = 50))]
        headers: BTreeMap<String, Secret>,
    },
}

/// Where an API key goes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyLocation {
    /// In a request header.
    Header,
    /// In the query of the URL. Prefer a header: URLs end up in the logs of others.
    Query,
}

impl Default for AuthSpec {
    fn default() -> Self {
        Self::None {}
    }
}

impl AuthSpec {
    /// Every broken rule. `at` is the pointer to this spec in its document.
    ///
    /// Secrets are checked where they are plain: sealed ones were checked when they came in.
    #[must_use]
    pub fn validate(&self, at: &str) -> Vec<Violation> {
        let mut found = Findings { at, list: Vec::new() };
        match self {
            Self::None {} => {}
            Self::ApiKey { location: KeyLocation::Header, name, value } => {
                found.add("/name", header_name(name).err());
                found.add("/value", value.as_plain().and_then(header_text_fault));
            }
            Self::ApiKey { location: KeyLocation::Query, name, value } => {
                found.add("/name", query_name_fault(name));
                found.add("/value", value.as_plain().and_then(empty_fault));
            }
            Self::Basic { username, password } => {
                found.add("/username", username_fault(username));
                found.add("/password", password.as_plain().and_then(control_fault));
            }
            Self::Bearer { token } => {
                found.add("/token", token.as_plain().and_then(header_text_fault));
            }
            Self::Headers { headers } => found.headers(headers),
        }
        found.list
    }

    /// The names of the header fields that carry credentials.
    pub(crate) fn headers(&self) -> Vec<HeaderName> {
        let names: Vec<&str> = match self {
            Self::None {} | Self::ApiKey { location: KeyLocation::Query, .. } => Vec::new(),
            Self::ApiKey { name, .. } => vec![name],
            Self::Basic { .. } | Self::Bearer { .. } => vec![AUTHORIZATION.as_str()],
            Self::Headers { headers } => headers.keys().map(String::as_str).collect(),
        };
        names.into_iter().filter_map(|name| header_name(name).ok()).collect()
    }

    /// Shows each secret to `visitor`. `at` is the pointer to this spec in its document.
    ///
    /// # Errors
    ///
    /// The first error of the visitor.
    pub fn visit_secrets(&mut self, at: &str, visitor: &mut dyn SecretVisitor) -> Result<()> {
        let mut visit = |slot, field: &str, secret: &mut Secret| {
            visitor.secret(Place::new(slot, &format!("{at}{field}")), secret)
        };
        match self {
            Self::None {} => Ok(()),
            Self::ApiKey { value, .. } => visit(SLOT_KEY, "/value", value),
            Self::Basic { password, .. } => visit(SLOT_PASSWORD, "/password", password),
            Self::Bearer { token } => visit(SLOT_TOKEN, "/token", token),
            Self::Headers { headers } => headers.iter_mut().try_for_each(|(name, value)| {
                visit(SLOT_HEADERS, &format!("/headers/{}", escape(name)), value)
            }),
        }
    }

    /// Opens the secrets and makes what requests are authenticated with.
    ///
    /// # Errors
    ///
    /// Those of [`Opener::open`]; [`Code::ConfigInvalid`] where a name or an opened secret is not
    /// legal in its place.
    pub fn open(&self, opener: &Opener<'_>) -> Result<Auth> {
        let mut raw = Vec::new();
        let parts = match self {
            Self::None {} => Vec::new(),
            Self::ApiKey { location: KeyLocation::Header, name, value } => {
                vec![header_part(name, opener.open(SLOT_KEY, value)?)?]
            }
            Self::ApiKey { location: KeyLocation::Query, name, value } => {
                vec![Part::Query(name.clone(), opener.open(SLOT_KEY, value)?)]
            }
            Self::Basic { username, password } => {
                let password = opener.open(SLOT_PASSWORD, password)?;
                let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
                let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
                raw.push(password);
                vec![Part::Header(AUTHORIZATION, format!("Basic {}", *encoded).into())]
            }
            Self::Bearer { token } => {
                let token = opener.open(SLOT_TOKEN, token)?;
                vec![header_part("authorization", format!("Bearer {}", token.expose()).into())?]
            }
            Self::Headers { headers } => headers
                .iter()
                .map(|(name, value)| header_part(name, opener.open(SLOT_HEADERS, value)?))
                .collect::<Result<_>>()?,
        };
        let traces = Traces::of(&parts, &raw);
        Ok(Auth { parts, traces })
    }
}

const SLOT_KEY: &str = "auth.value";
const SLOT_PASSWORD: &str = "auth.password";
const SLOT_TOKEN: &str = "auth.token";
const SLOT_HEADERS: &str = "auth.headers";

/// An opened [`AuthSpec`], ready to authenticate any number of requests; wiped when dropped.
///
/// The default adds nothing.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    parts: Vec<Part>,
    traces: Traces,
}

#[derive(Clone, Debug)]
enum Part {
    Header(HeaderName, SecretString),
    Query(String, SecretString),
}

impl Auth {
    /// Whether there are no credentials.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds the credentials to a request. Headers replace those of the same name and are marked
    /// sensitive; a query parameter is appended, so the URL must not be logged from here on.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] where a credential cannot be written; the request must then not be
    /// sent.
    pub fn apply(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<()> {
        for part in &self.parts {
            match part {
                Part::Header(name, value) => {
                    headers.insert(name.clone(), sensitive(name, value)?);
                }
                Part::Query(name, value) => {
                    url.query_pairs_mut().append_pair(name, value.expose());
                }
            }
        }
        Ok(())
    }
}

impl Auth {
    /// The text with `***` in place of the credentials that a receiver repeats: as they are sent,
    /// without their scheme, a password as it is, and each as it is written in a URL, a form or a
    /// JSON string. Texts of fewer than 6 bytes are left: they could be anything.
    #[must_use]
    pub fn redact(&self, text: String) -> String {
        self.traces.redact(text)
    }
}

/// The code and the message of a broken rule.
type Fault = (&'static str, &'static str);

struct Findings<'a> {
    at: &'a str,
    list: Vec<Violation>,
}

impl Findings<'_> {
    fn add(&mut self, field: &str, fault: Option<Fault>) {
        if let Some((code, message)) = fault {
            self.list.push(Violation::new(format!("{}{field}", self.at), code, message));
        }
    }

    fn headers(&mut self, headers: &BTreeMap<String, Secret>) {
        if headers.is_empty() || headers.len() > MAX_HEADERS {
            self.add("/headers", Some(("auth_headers_count", "give 1 to 50 headers")));
        }
        let mut seen = HashSet::new();
        for (name, value) in headers {
            let field = format!("/headers/{}", escape(name));
            self.add(&field, header_name(name).err());
            self.add(&field, value.as_plain().and_then(header_text_fault));
            let twice = !seen.insert(name.to_ascii_lowercase());
            self.add(&field, twice.then_some(("header_twice", "the same header is there twice")));
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, Fault> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ("header_name_invalid", "use a header name of letters, digits and hyphens"))?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("webhook-") {
        return Err(("header_reserved", "this header is set by the engine; use another name"));
    }
    Ok(name)
}

fn header_text_fault(text: &SecretString) -> Option<Fault> {
    let text = text.expose();
    if text.trim() != text {
        return Some(("secret_invalid", "remove the white space around the secret"));
    }
    let legal = HeaderValue::from_str(text).is_ok();
    empty(text)
        .or_else(|| (!legal).then_some(("secret_invalid", "control characters cannot be sent")))
}

fn empty_fault(text: &SecretString) -> Option<Fault> {
    empty(text.expose())
}

fn control_fault(text: &SecretString) -> Option<Fault> {
    let found = text.expose().chars().any(char::is_control);
    found.then_some(("secret_invalid", "control characters cannot be sent"))
}

fn empty(text: &str) -> Option<Fault> {
    text.is_empty().then_some(("secret_empty", "enter the secret"))
}

fn username_fault(username: &str) -> Option<Fault> {
    let illegal = |c: char| c == ':' || c.is_control();
    username
        .contains(illegal)
        .then_some(("username_invalid", "use a user name without colons and control characters"))
}

fn query_name_fault(name: &str) -> Option<Fault> {
    let legal = (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    (!legal).then_some((
        "query_name_invalid",
        "use a parameter name of 1 to 128 characters without control characters",
    ))
}

fn header_part(name: &str, value: SecretString) -> Result<Part> {
    let name =
        header_name(name).map_err(|(_, message)| Error::new(Code::ConfigInvalid, message))?;
    // Tried here, so that an endpoint that cannot be called is found before its first request.
    sensitive(&name, &value)?;
    Ok(Part::Header(name, value))
}

fn sensitive(name: &HeaderName, value: &SecretString) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
        Error::new(
            Code::ConfigInvalid,
            format!("the secret for the header `{name}` cannot be sent; enter it again"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// One segment of an RFC 6901 pointer.
fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
