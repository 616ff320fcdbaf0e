//! What issuers publish, by the guarded client.

use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use tower::ServiceExt;
use url::Url;

use super::jwks::KeySet;
use super::spec::{Issuer, address, discovery};
use super::strict;
use crate::egress::{EgressRequest, EgressResponse, Timeouts};
use crate::error::{Code, Error, Result};
use crate::transform::Outlet;

/// The most bytes of a document of an issuer.
const MAX_DOCUMENT: usize = 256 * 1024;

/// Somebody waits for the answer, so an issuer has less time than a receiver of events.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(3),
    headers: Duration::from_secs(5),
    body: Duration::from_secs(5),
    total: Duration::from_secs(8),
};

/// What an issuer publishes of itself (OpenID Connect Discovery 1.0, 3).
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    document: Map<String, Value>,
}

impl Metadata {
    /// An address of the document.
    pub(super) fn address(&self, name: &str) -> Result<Url> {
        let found = self.document.get(name).and_then(Value::as_str).and_then(address);
        found.ok_or_else(|| unusable(format!("its discovery document has no usable `{name}`")))
    }
}

/// The discovery document, which must be of the issuer that it was asked of.
pub(super) async fn metadata(issuer: &Issuer, outlet: &Outlet) -> Result<Metadata> {
    let named = issuer.rules.issuer.as_str();
    let url = discovery(named).ok_or_else(|| unusable("it has no discovery document"))?;
    let body = get(url, outlet).await?;
    let document =
        strict::object(&body).ok_or_else(|| unusable("its discovery document is none"))?;
    if document.get("issuer").and_then(Value::as_str) != Some(named) {
        return Err(unusable("its discovery document is that of another issuer"));
    }
    Ok(Metadata { document })
}

/// The keys that are published now, and the document that led to them, where one did.
pub(super) async fn keys(issuer: &Issuer, outlet: &Outlet) -> Result<(KeySet, Option<Metadata>)> {
    let (url, metadata) = match &issuer.jwks_uri {
        Some(url) => (url.clone(), None),
        None => {
            let metadata = metadata(issuer, outlet).await?;
            (metadata.address("jwks_uri")?, Some(metadata))
        }
    };
    let body = get(url, outlet).await?;
    let set = KeySet::read(&body);
    let set = set.ok_or_else(|| unusable("what it publishes as its keys is no set of keys"))?;
    Ok((set, metadata))
}

async fn get(url: Url, outlet: &Outlet) -> Result<bytes::Bytes> {
    let policy = std::sync::Arc::clone(&outlet.policy);
    let response = send(EgressRequest::new(Method::GET, url, bytes::Bytes::new(), policy), outlet);
    let response = response.await?;
    if response.status != StatusCode::OK {
        return Err(unusable(format!("it answered with the status {}", response.status.as_u16())));
    }
    Ok(response.body)
}

/// Sends a request to an issuer; the answer is whole.
pub(super) async fn send(mut request: EgressRequest, outlet: &Outlet) -> Result<EgressResponse> {
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request.timeouts = TIMEOUTS;
    request.response_limit = MAX_DOCUMENT;
    let answer = outlet.transport.clone().oneshot(request).await;
    let response = answer.map_err(|error| unusable("it cannot be reached").caused_by(error))?;
    if response.truncated {
        return Err(unusable(format!("its answer has more than {MAX_DOCUMENT} bytes")));
    }
    Ok(response)
}

/// The failure to learn what is needed of an issuer.
pub(super) fn unusable(why: impl std::fmt::Display) -> Error {
    Error::new(Code::IssuerUnavailable, format!("the issuer cannot be asked: {why}"))
}
