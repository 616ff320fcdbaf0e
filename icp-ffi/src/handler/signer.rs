//! Requests of integrations that handlers of the host sign.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use icp::egress::EgressRequest;
use icp::integration::auth::{RequestSigner, SignerError, UnsignedRequest};
use serde::{Deserialize, Serialize};

use super::Asked;
use crate::request::{HandlerKind, Requests};

/// Asks the host for the header fields that authenticate requests, whatever signer is named.
#[derive(Debug)]
pub(crate) struct HostSigner {
    requests: Arc<Requests>,
}

/// The request that is to be signed, as a handler is shown it.
#[derive(Serialize)]
pub(super) struct Unsigned {
    method: String,
    /// As it is sent, with its query.
    url: String,
    /// The value of each field; several of one name are separated by commas. A value that is marked
    /// as a secret is not among them.
    headers: BTreeMap<String, String>,
    /// The exact bytes.
    body_base64: String,
}

/// What a handler answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    headers: BTreeMap<String, String>,
}

impl HostSigner {
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self { requests }
    }
}

#[async_trait]
impl RequestSigner for HostSigner {
    async fn sign(&self, unsigned: &UnsignedRequest<'_>) -> Result<HeaderMap, SignerError> {
        let name = unsigned.handler;
        let body = |timeout_ms| asked(unsigned, timeout_ms);
        let answer = self.requests.ask(HandlerKind::Signer, name, body).await.map_err(|why| {
            let (code, message) = why.told(name);
            SignerError::new(code, message)
        })?;
        let malformed = || {
            let message = format!(
                "the handler `{name}` answered something else than `{{\"headers\": {{\"name\": \
                 \"value\"}}}}`"
            );
            SignerError::new("answer_invalid", message)
        };
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| malformed())?;
        read(answer).ok_or_else(malformed)
    }
}

/// The fields as they are sent. Those whose names differ in case only are two of one name, which
/// the engine does not take.
fn read(answer: Answer) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(name).ok()?;
        fields.append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(fields)
}

fn asked(unsigned: &UnsignedRequest<'_>, timeout_ms: u64) -> Vec<u8> {
    let (outgoing, event) = (unsigned.outgoing, unsigned.outgoing.event);
    let asked = Asked {
        handler: unsigned.handler,
        kind: HandlerKind::Signer,
        org: event.org.as_str(),
        event: event.id.to_string(),
        r#type: event.event_type.as_str(),
        integration: None,
        delivery: Some(outgoing.delivery.to_string()),
        attempt: outgoing.number,
        timeout_ms,
        config: unsigned.config,
        payload: None,
        payload_base64: None,
        content_type: None,
        request: Some(shown(unsigned.request)),
        test: outgoing.test,
    };
    // Texts and documents always have a JSON form.
    serde_json::to_vec(&asked).unwrap_or_default()
}

fn shown(request: &EgressRequest) -> Unsigned {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in request.headers.iter().filter(|(_, value)| !value.is_sensitive()) {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|before| *before = format!("{before}, {value}"))
            .or_insert_with(|| value.to_string());
    }
    let mut url = request.url.clone();
    url.set_fragment(None);
    Unsigned {
        method: request.method.to_string(),
        url: url.into(),
        headers,
        body_base64: STANDARD.encode(&request.body),
    }
}

#[cfg(test)]
mod tests {
    use icp::egress::AddressPolicy;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_shown_as_it_is_sent_but_for_secrets() {
        let url = "https://example.com/a?b=c%20d#e".parse().unwrap();
        let mut request = EgressRequest::post(url, "\u{1}é", Arc::new(AddressPolicy::strict()));
        let mut secret = HeaderValue::from_static("canary");
        secret.set_sensitive(true);
        request.headers.insert("authorization", secret);
        request.headers.append("x-a", HeaderValue::from_static("1"));
        request.headers.append("x-a", HeaderValue::from_static("2"));
        let expected = json!({
            "method": "POST", "url": "https://example.com/a?b=c%20d",
            "headers": { "x-a": "1, 2" }, "body_base64": STANDARD.encode("\u{1}é"),
        });
        assert_eq!(serde_json::to_value(shown(&request)).unwrap(), expected);
    }

    #[test]
    fn names_and_values_have_to_be_legal() {
        let of = |name: &str, value: &str| {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            read(Answer { headers }).is_some()
        };
        assert!(of("X-Signature", "a=b"));
        for (name, value) in [("", "1"), ("a b", "1"), ("a:", "1"), ("a", "1\r\nb: 2"), ("a", "\0")]
        {
            assert!(!of(name, value), "{name:?} {value:?}");
        }
    }
}
