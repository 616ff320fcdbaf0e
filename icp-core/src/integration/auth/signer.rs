//! Requests that the program signs which the engine is embedded in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use serde_json::Value;

use super::rules::{header_name, header_text_fault};
use super::{Auth, Part, Traces};
use crate::egress::EgressRequest;
use crate::integration::Outgoing;
use crate::resource::Handlers;
use crate::secret::SecretString;

/// How long a signer has, however long it would take by itself: 30 seconds.
///
/// What waits for longer would be taken for a receiver that does not answer.
pub const SIGNER_TIMEOUT: Duration = Duration::from_secs(30);

/// The most header fields of an answer, and the most bytes of their names and values.
const MAX_FIELDS: usize = 32;
const MAX_BYTES: usize = 16 << 10;

/// Signs requests of integrations whose `auth` is `{"type": "host", "handler": ..}`, as for a
/// scheme that the engine does not know, or with keys that it shall not have.
///
/// It is asked for each attempt, when everything else of the request is there: method, address,
/// header fields with the signatures of `signing`, and the exact bytes of the body. It only adds
/// header fields. Nothing is sent without its answer: an error, [`SIGNER_TIMEOUT`] or a field that
/// may not be set ends the attempt with a class that begins with `signer_`, and the retry policy of
/// the integration applies.
///
/// An integration has one `auth`, so no credential that is sealed for it is in the request. Answers
/// are secrets like these: no log, trace or view shows them, and they are masked where a receiver
/// repeats them.
///
/// ```
/// use async_trait::async_trait;
/// use http::{HeaderMap, HeaderValue};
/// use icp_core::Engine;
/// use icp_core::integration::auth::{RequestSigner, SignerError, UnsignedRequest};
/// use icp_core::store::MemoryStore;
///
/// #[derive(Debug)]
/// struct Vault;
///
/// #[async_trait]
/// impl RequestSigner for Vault {
///     async fn sign(&self, unsigned: &UnsignedRequest<'_>) -> Result<HeaderMap, SignerError> {
///         let body = &unsigned.request.body;
///         let signature = format!("length={}", body.len()); // where the vault would be asked
///         let value = HeaderValue::try_from(signature)
///             .map_err(|_| SignerError::new("vault", "the vault gave no header value"))?;
///         Ok(HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]))
///     }
/// }
///
/// let engine = Engine::builder(MemoryStore::new()).request_signer("vault", Vault).build()?;
/// # Ok::<_, icp_core::Error>(())
/// ```
///
/// # Cancellation
///
/// A call that is dropped leaves nothing behind.
#[async_trait]
pub trait RequestSigner: fmt::Debug + Send + Sync + 'static {
    /// The header fields that are added to `unsigned`: 1 to 32, of 16 KiB together, each with one
    /// value of visible ASCII characters. None may be there already, belong to the connection, or
    /// begin with `webhook-` or `icp-`.
    ///
    /// # Errors
    ///
    /// [`SignerError`]; the request is not sent then.
    async fn sign(&self, unsigned: &UnsignedRequest<'_>) -> Result<HeaderMap, SignerError>;
}

/// A request that is complete but for its signer's header fields.
#[derive(Clone, Copy, Debug)]
pub struct UnsignedRequest<'a> {
    /// The name of the signer in `auth`.
    pub handler: &'a str,
    /// What `auth` tells the signer.
    pub config: Option<&'a Value>,
    /// What is to be sent: the event, the delivery and the number of the try.
    pub outgoing: &'a Outgoing<'a>,
    /// The request as it is sent.
    pub request: &'a EgressRequest,
}

/// Why a request is not signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignerError {
    /// Stable name of the failure, lower case with underscores.
    pub code: &'static str,
    /// What is wrong, for people; without secrets.
    pub message: String,
}

impl SignerError {
    /// A failure. Another try may go well.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The class that attempts show, as in `signer_timeout`.
    #[must_use]
    pub fn class(&self) -> String {
        format!("signer_{}", self.code)
    }
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SignerError {}

/// The signers of an engine, by name.
pub type RequestSigners = Handlers<dyn RequestSigner>;

/// The signer that an `auth` names.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) handler: String,
    pub(super) config: Option<Value>,
    /// None where the engine knows none of this name.
    pub(super) signer: Option<Arc<dyn RequestSigner>>,
}

impl Asking {
    /// What authenticates this request.
    pub(super) async fn ask(
        &self,
        request: &EgressRequest,
        outgoing: &Outgoing<'_>,
    ) -> Result<Auth, SignerError> {
        let handler = self.handler.as_str();
        let Some(signer) = &self.signer else {
            let message = format!("no signer `{handler}` is registered here");
            return Err(SignerError::new("no_handler", message));
        };
        let unsigned = UnsignedRequest { handler, config: self.config.as_ref(), outgoing, request };
        let answered = tokio::time::timeout(SIGNER_TIMEOUT, signer.sign(&unsigned)).await;
        let fields = answered.unwrap_or_else(|_| {
            let most = SIGNER_TIMEOUT.as_secs();
            let message = format!("the signer `{handler}` did not answer within {most} s");
            Err(SignerError::new("timeout", message))
        })?;
        of_fields(&fields, &request.headers).map_err(|why| {
            let message = format!("the answer of the signer `{handler}` is not taken: {why}");
            SignerError::new("fields_invalid", message)
        })
    }
}

/// The credentials of one request, or what is wrong with them, without their values.
fn of_fields(fields: &HeaderMap, present: &HeaderMap) -> Result<Auth, String> {
    if !(1..=MAX_FIELDS).contains(&fields.len()) {
        return Err(format!("it has {} header fields; use 1 to {MAX_FIELDS}", fields.len()));
    }
    let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_BYTES {
        return Err(format!("its header fields have {bytes} bytes; use at most {MAX_BYTES}"));
    }
    if fields.len() > fields.keys_len() {
        return Err("a header field is there twice".to_owned());
    }
    let mut parts = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let told = |why: &str| format!("`{name}`: {why}");
        header_name(name.as_str()).map_err(|(_, why)| told(why))?;
        let ours = name.as_str().starts_with("icp-") || name == "tracestate";
        if ours || present.contains_key(name) {
            return Err(told("this header is there already, or is set by the engine"));
        }
        let value = value.to_str().map_err(|_| told("use visible ASCII characters"))?;
        let value = SecretString::from(value);
        if value.expose().is_empty() {
            return Err(told("it is empty"));
        }
        if let Some((_, why)) = header_text_fault(&value) {
            return Err(told(why));
        }
        parts.push(Part::Header(name.clone(), value));
    }
    let traces = Traces::of(&parts, &[]);
    Ok(Auth { parts, traces, asking: None })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn only_what_a_signer_may_add_is_taken() {
        let present = map(&[("content-type", "application/json"), ("x-shop", "7")]);
        let judge = |fields: &HeaderMap| of_fields(fields, &present).err();
        assert_eq!(judge(&map(&[("authorization", "Custom hush-hush"), ("x-date", "now")])), None);
        for (fields, why) in [
            (vec![], "it has 0 header fields"),
            (vec![("x-a", "1"), ("X-A", "2")], "a header field is there twice"),
            (vec![("x-a", "")], "it is empty"),
            (vec![("x-a", " hush-hush")], "white space"),
            (vec![("x-a", "hüsh-hush")], "visible ASCII"),
            (vec![("x-shop", "8")], "there already"),
            (vec![("content-type", "text/plain")], "there already"),
            (vec![("icp-test", "true")], "set by the engine"),
            (vec![("tracestate", "a=b")], "set by the engine"),
            (vec![("webhook-signature", "v1,hush-hush")], "set by the engine"),
            (vec![("host", "example.org")], "set by the engine"),
            (vec![("content-length", "1")], "set by the engine"),
            (vec![("transfer-encoding", "chunked")], "set by the engine"),
            (vec![("connection", "close")], "set by the engine"),
            (vec![("upgrade", "h2c")], "set by the engine"),
        ] {
            let found = judge(&map(&fields)).unwrap_or_else(|| panic!("{fields:?} is taken"));
            assert!(found.contains(why) && !found.contains("hush"), "{fields:?}: {found}");
        }
    }

    #[test]
    fn an_answer_is_bounded() {
        let names: Vec<_> = (0..=MAX_FIELDS).map(|number| format!("x-{number}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert!(of_fields(&map(&fields[1..]), &HeaderMap::new()).is_ok());
        assert!(of_fields(&map(&fields), &HeaderMap::new()).is_err());
        let long = "x".repeat(MAX_BYTES - "x-a".len());
        assert!(of_fields(&map(&[("x-a", &long)]), &HeaderMap::new()).is_ok());
        assert!(of_fields(&map(&[("x-ab", &long)]), &HeaderMap::new()).is_err());
    }
}
