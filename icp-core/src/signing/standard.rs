//! Standard Webhooks: `v1` (HMAC-SHA256) and `v1a` (ed25519) over `id.timestamp.body`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use subtle::Choice;

use super::{Generated, KeyRing, Message, Profile, Settings, Signer, Verified, Verifier};
use crate::error::{Code, Error, Result, Violation};
use crate::secret::{Entropy, SecretString};
use crate::time::Timestamp;

mod key;

use key::{SigningKey, VerifyingKey};
pub use key::{generate_keypair, generate_secret};

/// The profile's name.
pub const NAME: &str = "standard-webhooks";
/// Header with the id of the message, the same for every attempt.
pub const ID: &str = "webhook-id";
/// Header with the moment of the attempt, in whole seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";

/// The header fields a scheme of this form signs with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeaderNames {
    /// The id of the message, in lower case.
    pub id: &'static str,
    /// The moment of the attempt, in lower case.
    pub timestamp: &'static str,
    /// The signatures, in lower case.
    pub signature: &'static str,
}

impl HeaderNames {
    /// Those of Standard Webhooks.
    pub const STANDARD: Self = Self { id: ID, timestamp: TIMESTAMP, signature: SIGNATURE };

    pub(super) fn listed(self) -> Vec<HeaderName> {
        [self.id, self.timestamp, self.signature].map(HeaderName::from_static).into()
    }
}

/// How far a message's timestamp may be from now, in both directions, by default.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// The most signatures a verifier looks at; each may cost an ed25519 verification per key.
const MAX_SIGNATURES: usize = 20;

/// The profile `standard-webhooks`.
///
/// Secrets: `whsec_` and the base64 of 24 to 64 bytes, or that base64 alone; or `whsk_` and the
/// base64 of an ed25519 key.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardWebhooks;

impl Profile for StandardWebhooks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self, settings: &Settings, at: &str) -> Vec<Violation> {
        no_settings(settings, at)
    }

    fn headers(&self, _: &Settings) -> Vec<HeaderName> {
        HeaderNames::STANDARD.listed()
    }

    fn check(&self, secret: &SecretString) -> Result<()> {
        SigningKey::parse(secret).map(drop)
    }

    fn generate(&self, like: &SecretString, entropy: &dyn Entropy) -> Result<Generated> {
        key::generate_like(like, entropy)
    }

    fn signer(&self, _: &Settings, keys: &KeyRing<SecretString>) -> Result<Arc<dyn Signer>> {
        Ok(Arc::new(StandardSigner::new(keys)?))
    }
}

pub(super) fn no_settings(settings: &Settings, at: &str) -> Vec<Violation> {
    let unknown = |name: &String| {
        let pointer = format!("{at}/{}", crate::resource::escape(name));
        Violation::new(pointer, "unknown_field", "the profile has no settings; leave it out")
    };
    settings.keys().map(unknown).collect()
}

/// Signs with every live key of a ring.
///
/// Each HMAC key is scheduled once, so that a signature costs little more than the hash of its
/// message.
#[derive(Debug)]
pub struct StandardSigner {
    keys: KeyRing<SigningKey>,
    names: HeaderNames,
}

impl StandardSigner {
    /// A signer for the secrets of `keys`.
    ///
    /// # Errors
    ///
    /// [`Code::SecretInvalid`] where a secret is malformed, too short, too long or weak.
    pub fn new(keys: &KeyRing<SecretString>) -> Result<Self> {
        Ok(Self { keys: keys.try_map(SigningKey::parse)?, names: HeaderNames::STANDARD })
    }

    /// Signs with other header fields; default [`HeaderNames::STANDARD`].
    #[must_use]
    pub fn named(self, names: HeaderNames) -> Self {
        Self { names, ..self }
    }
}

impl Signer for StandardSigner {
    fn sign(&self, message: &Message<'_>, headers: &mut HeaderMap) -> Result<()> {
        if !id_is_clear(message.id) {
            return Err(failed("the message id must be visible ascii without a dot"));
        }
        let timestamp = message.timestamp.as_secs().to_string();
        let content = Content { id: message.id, timestamp: &timestamp, body: message.body };
        let mut signatures = String::with_capacity(64);
        for key in self.keys.live(message.timestamp) {
            let gap = if signatures.is_empty() { "" } else { " " };
            let (version, signature) = key.sign(&content);
            write!(signatures, "{gap}{version},{}", STANDARD.encode(signature))
                .map_err(|source| failed("the signature cannot be written").caused_by(source))?;
        }
        if signatures.is_empty() {
            return Err(failed("every signing key has expired; add a new one"));
        }
        let [id, timestamp, signatures] =
            [header_value(message.id)?, header_value(&timestamp)?, header_value(&signatures)?];
        headers.insert(self.names.id, id);
        headers.insert(self.names.timestamp, timestamp);
        headers.insert(self.names.signature, signatures);
        Ok(())
    }
}

/// Verifies against every live key of a ring; one signature that fits one key is enough.
#[derive(Debug)]
pub struct StandardVerifier {
    keys: KeyRing<VerifyingKey>,
    tolerance: Duration,
    names: HeaderNames,
}

impl StandardVerifier {
    /// A verifier for `keys`: symmetric secrets, or public keys with `whpk_`.
    ///
    /// # Errors
    ///
    /// [`Code::SecretInvalid`] where a key is malformed, too short, too long or weak.
    pub fn new(keys: &KeyRing<SecretString>) -> Result<Self> {
        let keys = keys.try_map(VerifyingKey::parse)?;
        Ok(Self { keys, tolerance: TOLERANCE, names: HeaderNames::STANDARD })
    }

    /// Reads other header fields; default [`HeaderNames::STANDARD`].
    #[must_use]
    pub fn named(self, names: HeaderNames) -> Self {
        Self { names, ..self }
    }

    /// How far the timestamp may be from now, in both directions, in whole seconds; default
    /// [`TOLERANCE`].
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    fn recent(&self, seconds: i64, now: Timestamp) -> Result<()> {
        if now.as_secs().abs_diff(seconds) <= self.tolerance.as_secs() {
            return Ok(());
        }
        Err(Error::new(
            Code::SignatureExpired,
            format!(
                "`{}` is too far from now; sign again and check both clocks",
                self.names.timestamp
            ),
        ))
    }
}

impl Verifier for StandardVerifier {
    fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Verified> {
        let names = self.names;
        let id = single(headers, names.id)?;
        let timestamp = single(headers, names.timestamp)?;
        let signatures = single(headers, names.signature)?;
        if !id_is_clear(id) {
            return Err(invalid(format!("`{}` must be visible ascii without a dot", names.id)));
        }
        let seconds = read_seconds(names.timestamp, timestamp)?;
        self.recent(seconds, now)?;
        let listed: Vec<&str> = signatures.split(' ').take(MAX_SIGNATURES + 1).collect();
        if listed.len() > MAX_SIGNATURES {
            let name = names.signature;
            return Err(invalid(format!("`{name}` lists more than {MAX_SIGNATURES}")));
        }
        let content = Content { id, timestamp, body };
        let mut fits = Choice::from(0);
        for key in self.keys.live(now) {
            // Every key and every signature is looked at: the time tells nothing about the match.
            fits |= key.any_fits(&content, &listed);
        }
        if !bool::from(fits) {
            return Err(invalid(format!("no signature in `{}` fits", names.signature)));
        }
        let timestamp = Timestamp::from_millis(seconds.saturating_mul(1000));
        Ok(Verified { id: Some(id.to_owned()), timestamp: Some(timestamp) })
    }
}

/// The signed content: its parts joined by dots. A dot within the id would make the join
/// ambiguous, so such ids are refused before.
struct Content<'a> {
    id: &'a str,
    timestamp: &'a str,
    body: &'a [u8],
}

impl Content<'_> {
    fn parts(&self) -> [&[u8]; 5] {
        [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", self.body]
    }
}

fn id_is_clear(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|source| failed("a signature header cannot be written").caused_by(source))
}

pub(super) fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            value.to_str().map_err(|_| invalid(format!("`{name}` must be visible ascii")))
        }
        (None, _) => Err(invalid(format!("the header `{name}` is missing"))),
        (Some(_), Some(_)) => Err(invalid(format!("the header `{name}` is there twice"))),
    }
}

fn read_seconds(name: &str, text: &str) -> Result<i64> {
    let digits = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| invalid(format!("`{name}` must be whole seconds since 1970")))
}

pub(super) fn failed(message: &str) -> Error {
    Error::new(Code::SigningFailed, message)
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(Code::SignatureInvalid, message)
}

#[cfg(test)]
mod tests;
