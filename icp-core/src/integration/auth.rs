//! How a request to an endpoint authenticates itself.

mod rules;
mod signer;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use self::rules::{
    Findings, control_fault, empty_fault, escape, header_name, header_text_fault, query_name_fault,
    username_fault,
};
use self::signer::Asking;
pub use self::signer::{
    RequestSigner, RequestSigners, SIGNER_TIMEOUT, SignerError, UnsignedRequest,
};
use self::trace::Traces;
use super::Outgoing;
use crate::egress::EgressRequest;
use crate::error::{Code, Error, Result, Violation};
use crate::secret::{Opener, Place, Secret, SecretString, SecretVisitor};
use crate::transform::handler_name_fault;

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
    /// Header fields that code of the program makes which the engine is embedded in, for each
    /// request anew, as a signature over it.
    Host {
        /// The name of the signer: 1 to 64 letters, digits, dots, hyphens and underscores.
        #[schemars(length(min = 1, max = 64))]
        handler: String,
        /// What the signer is told beside the request. No secrets: it is shown to who may see the
        /// integration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<serde_json::Value>,
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
            Self::Host { handler, .. } => {
                let fault = handler_name_fault(handler);
                found.add("/handler", fault.map(|message| ("handler_name", message)));
            }
        }
        found.list
    }

    /// The names of the header fields that carry credentials.
    pub(crate) fn headers(&self) -> Vec<HeaderName> {
        let names: Vec<&str> = match self {
            Self::None {}
            | Self::ApiKey { location: KeyLocation::Query, .. }
            | Self::Host { .. } => Vec::new(),
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
            Self::None {} | Self::Host { .. } => Ok(()),
            Self::ApiKey { value, .. } => visit(SLOT_KEY, "/value", value),
            Self::Basic { password, .. } => visit(SLOT_PASSWORD, "/password", password),
            Self::Bearer { token } => visit(SLOT_TOKEN, "/token", token),
            Self::Headers { headers } => headers.iter_mut().try_for_each(|(name, value)| {
                visit(SLOT_HEADERS, &format!("/headers/{}", escape(name)), value)
            }),
        }
    }

    /// Opens the secrets and makes what requests are authenticated with. A signer of the host is
    /// found by [`Auth::signed_by`].
    ///
    /// # Errors
    ///
    /// Those of [`Opener::open`]; [`Code::ConfigInvalid`] where a name or an opened secret is not
    /// legal in its place.
    pub fn open(&self, opener: &Opener<'_>) -> Result<Auth> {
        let (mut raw, mut asking) = (Vec::new(), None);
        let parts = match self {
            Self::None {} => Vec::new(),
            Self::Host { handler, config } => {
                let (handler, config) = (handler.clone(), config.clone());
                asking = Some(Arc::new(Asking { handler, config, signer: None }));
                Vec::new()
            }
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
        Ok(Auth { parts, traces, asking })
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
    /// What makes the credentials for each request.
    asking: Option<Arc<Asking>>,
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
        self.parts.is_empty() && self.asking.is_none()
    }

    /// Whether a signer of the host makes the credentials for each request; see
    /// [`asked`](Self::asked).
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asking.is_some()
    }

    /// Finds the signer of the host, where one is named. Without it no request can be made.
    #[must_use]
    pub fn signed_by(mut self, signers: &RequestSigners) -> Self {
        self.asking = self.asking.map(|asking| {
            let signer = signers.get(&asking.handler).cloned();
            Arc::new(Asking { signer, ..asking.as_ref().clone() })
        });
        self
    }

    /// Asks the signer of the host for the credentials of `request`, which is complete but for
    /// them; none where these credentials serve every request.
    ///
    /// # Errors
    ///
    /// [`SignerError`] where there is no good answer within [`SIGNER_TIMEOUT`]; the request must
    /// then not be sent.
    pub async fn asked(
        &self,
        request: &EgressRequest,
        outgoing: &Outgoing<'_>,
    ) -> Result<Option<Self>, SignerError> {
        match &self.asking {
            None => Ok(None),
            Some(asking) => asking.ask(request, outgoing).await.map(Some),
        }
    }

    /// Adds the credentials to a request. Headers replace those of the same name and are marked
    /// sensitive; a query parameter is appended, so the URL must not be logged from here on.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] where a credential cannot be written, and [`Code::SigningFailed`]
    /// where a signer of the host has to be [`asked`](Self::asked) for it; the request must then not
    /// be sent.
    pub fn apply(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<()> {
        if self.is_asked() {
            let message = "a signer of the host is to be asked for each request, which this \
                           target does not do; use another `auth`";
            return Err(Error::new(Code::SigningFailed, message));
        }
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

#[cfg(test)]
mod tests;
