//! What names and secrets of credentials have to be.

use std::collections::{BTreeMap, HashSet};

use http::header::{HeaderName, HeaderValue};

use crate::error::Violation;
use crate::secret::{Secret, SecretString};

/// Headers that belong to the connection or to the signature, beside `webhook-*`.
pub(super) const RESERVED: [&str; 10] = [
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

/// The code and the message of a broken rule.
pub(super) type Fault = (&'static str, &'static str);

pub(super) struct Findings<'a> {
    pub(super) at: &'a str,
    pub(super) list: Vec<Violation>,
}

impl Findings<'_> {
    pub(super) fn add(&mut self, field: &str, fault: Option<Fault>) {
        if let Some((code, message)) = fault {
            self.list.push(Violation::new(format!("{}{field}", self.at), code, message));
        }
    }

    pub(super) fn headers(&mut self, headers: &BTreeMap<String, Secret>) {
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

pub(super) fn header_name(name: &str) -> Result<HeaderName, Fault> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ("header_name_invalid", "use a header name of letters, digits and hyphens"))?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("webhook-") {
        return Err(("header_reserved", "this header is set by the engine; use another name"));
    }
    Ok(name)
}

pub(super) fn header_text_fault(text: &SecretString) -> Option<Fault> {
    let text = text.expose();
    if text.trim() != text {
        return Some(("secret_invalid", "remove the white space around the secret"));
    }
    let legal = HeaderValue::from_str(text).is_ok();
    empty(text)
        .or_else(|| (!legal).then_some(("secret_invalid", "control characters cannot be sent")))
}

pub(super) fn empty_fault(text: &SecretString) -> Option<Fault> {
    empty(text.expose())
}

pub(super) fn control_fault(text: &SecretString) -> Option<Fault> {
    let found = text.expose().chars().any(char::is_control);
    found.then_some(("secret_invalid", "control characters cannot be sent"))
}

pub(super) fn empty(text: &str) -> Option<Fault> {
    text.is_empty().then_some(("secret_empty", "enter the secret"))
}

pub(super) fn username_fault(username: &str) -> Option<Fault> {
    let illegal = |c: char| c == ':' || c.is_control();
    username
        .contains(illegal)
        .then_some(("username_invalid", "use a user name without colons and control characters"))
}

pub(super) fn query_name_fault(name: &str) -> Option<Fault> {
    let legal = (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    (!legal).then_some((
        "query_name_invalid",
        "use a parameter name of 1 to 128 characters without control characters",
    ))
}

/// One segment of an RFC 6901 pointer.
pub(super) fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}
