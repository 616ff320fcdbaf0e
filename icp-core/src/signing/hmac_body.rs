//! HMAC-SHA256 over nothing but the body, in one header field: what many receivers know from
//! other senders.
//!
//! It signs neither an id nor a time, so a receiver cannot tell an old request that is sent
//! again. Prefer [Standard Webhooks](super::standard); use this where the receiver is given.

use std::fmt::{self, Write};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::standard::{failed, header_value, invalid, single};
use super::{
    Generated, KeyRing, Message, Profile, Settings, Signer, Verified, Verifier, VerifyWith,
};
use crate::error::{Code, Error, Result, Violation};
use crate::secret::{Entropy, SecretString};
use crate::time::Timestamp;

/// The profile's name.
pub const NAME: &str = "hmac-body";

const MAX_PREFIX: usize = 32;
const MAX_SIGNATURES: usize = 20;
const RESERVED: [&str; 15] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The profile `hmac-body`, set by [`HmacBodySettings`].
///
/// Secrets: the text itself, in UTF-8, is the key; 8 to 512 bytes. While several keys are live,
/// the header field lists the signature of each, the preferred one first, separated by commas. A
/// receiver that cannot read a list is rotated without an overlap.
#[derive(Clone, Copy, Debug, Default)]
pub struct HmacBody;

/// The settings of `hmac-body`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HmacBodySettings {
    /// The header field of the signature, as in `x-hub-signature-256`.
    pub header: String,
    /// How the signature is written. Default `hex`.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands before each signature, as in `sha256=`: up to 32 visible ASCII characters
    /// without a comma. Default nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Encoding {
    /// Hexadecimal, in lower case.
    #[default]
    Hex,
    /// Standard base64 with padding.
    Base64,
}

impl HmacBodySettings {
    /// Settings for the header field `header`, in hex without a prefix.
    pub fn new(header: impl Into<String>) -> Self {
        Self { header: header.into(), encoding: Encoding::Hex, prefix: String::new() }
    }

    fn name(&self) -> Result<HeaderName, &'static str> {
        let name = HeaderName::try_from(&self.header).map_err(|_| "is not a header name")?;
        let text = name.as_str();
        if RESERVED.contains(&text) || text.starts_with("webhook-") || text.starts_with("icp-") {
            return Err("belongs to another part of the request; use another name");
        }
        Ok(name)
    }

    fn prefix_fits(&self) -> bool {
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        self.prefix.len() <= MAX_PREFIX && self.prefix.bytes().all(visible)
    }

    fn validate(&self, at: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        if let Err(message) = self.name() {
            found.push(Violation::new(format!("{at}/header"), "header_invalid", message));
        }
        if !self.prefix_fits() {
            let message =
                format!("use up to {MAX_PREFIX} visible ascii characters without a comma");
            found.push(Violation::new(format!("{at}/prefix"), "malformed", message));
        }
        found
    }
}

impl Profile for HmacBody {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self, settings: &Settings, at: &str) -> Vec<Violation> {
        let settings = Value::Object(settings.clone());
        match serde_path_to_error::deserialize::<_, HmacBodySettings>(settings) {
            Ok(settings) => settings.validate(at),
            Err(error) => vec![Violation::new(at, "malformed", error.into_inner().to_string())],
        }
    }

    fn headers(&self, settings: &Settings) -> Vec<HeaderName> {
        read(settings).ok().and_then(|settings| settings.name().ok()).into_iter().collect()
    }

    fn check(&self, secret: &SecretString) -> Result<()> {
        Key::parse(secret).map(drop)
    }

    fn generate(&self, _: &SecretString, entropy: &dyn Entropy) -> Result<Generated> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes)?;
        Ok(Generated { secret: hex(&*bytes).into(), verify_with: VerifyWith::Secret })
    }

    fn signer(&self, settings: &Settings, keys: &KeyRing<SecretString>) -> Result<Arc<dyn Signer>> {
        Ok(Arc::new(HmacBodySigner::new(&read(settings)?, keys)?))
    }
}

fn read(settings: &Settings) -> Result<HmacBodySettings> {
    serde_json::from_value(Value::Object(settings.clone()))
        .map_err(|error| failed("the settings of `hmac-body` cannot be read").caused_by(error))
}

/// Signs with every live key of a ring.
#[derive(Debug)]
pub struct HmacBodySigner {
    form: Form,
    keys: KeyRing<Key>,
}

impl HmacBodySigner {
    /// A signer for the secrets of `keys`.
    ///
    /// # Errors
    ///
    /// [`Code::SecretInvalid`] where a secret is too short or too long, and
    /// [`Code::SigningFailed`] where the settings are not valid.
    pub fn new(settings: &HmacBodySettings, keys: &KeyRing<SecretString>) -> Result<Self> {
        Ok(Self { form: Form::of(settings)?, keys: keys.try_map(Key::parse)? })
    }
}

impl Signer for HmacBodySigner {
    fn sign(&self, message: &Message<'_>, headers: &mut HeaderMap) -> Result<()> {
        let live = self.keys.live(message.timestamp);
        let signatures: Vec<_> = live.map(|key| self.form.write(key, message.body)).collect();
        if signatures.is_empty() {
            return Err(failed("every signing key has expired; add a new one"));
        }
        headers.insert(self.form.header.clone(), header_value(&signatures.join(","))?);
        Ok(())
    }
}

/// Verifies against every live key of a ring; one signature that fits one key is enough.
///
/// What it answers has neither an id nor a timestamp: the scheme signs none.
#[derive(Debug)]
pub struct HmacBodyVerifier {
    form: Form,
    keys: KeyRing<Key>,
}

impl HmacBodyVerifier {
    /// A verifier for the secrets of `keys`.
    ///
    /// # Errors
    ///
    /// As [`HmacBodySigner::new`].
    pub fn new(settings: &HmacBodySettings, keys: &KeyRing<SecretString>) -> Result<Self> {
        Ok(Self { form: Form::of(settings)?, keys: keys.try_map(Key::parse)? })
    }
}

impl Verifier for HmacBodyVerifier {
    fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Verified> {
        let name = self.form.header.as_str();
        let listed: Vec<_> =
            single(headers, name)?.split(',').take(MAX_SIGNATURES + 1).map(str::trim).collect();
        if listed.len() > MAX_SIGNATURES {
            return Err(invalid(format!("`{name}` lists more than {MAX_SIGNATURES}")));
        }
        let mut fits = Choice::from(0);
        for key in self.keys.live(now) {
            let expected = self.form.write(key, body);
            for signature in &listed {
                let signature = self.form.normal(signature);
                fits |= signature.as_bytes().ct_eq(expected.as_bytes());
            }
        }
        if bool::from(fits) {
            return Ok(Verified { id: None, timestamp: None });
        }
        Err(invalid(format!("no signature in `{name}` fits")))
    }
}

/// How signatures are written, checked once.
#[derive(Debug)]
struct Form {
    header: HeaderName,
    encoding: Encoding,
    prefix: String,
}

impl Form {
    fn of(settings: &HmacBodySettings) -> Result<Self> {
        let header = settings.name().map_err(|message| {
            failed("the header field of the signature cannot be used")
                .caused_by(Error::new(Code::HeaderInvalid, message))
        })?;
        if !settings.prefix_fits() {
            return Err(failed("the prefix of the signature cannot be sent"));
        }
        Ok(Self { header, encoding: settings.encoding, prefix: settings.prefix.clone() })
    }

    fn write(&self, key: &Key, body: &[u8]) -> String {
        let mac = key.authenticate(body);
        match self.encoding {
            Encoding::Hex => format!("{}{}", self.prefix, hex(&mac)),
            Encoding::Base64 => format!("{}{}", self.prefix, STANDARD.encode(mac)),
        }
    }

    /// A received signature as this form writes it: hex is taken in upper case, too.
    fn normal(&self, signature: &str) -> String {
        match (self.encoding, signature.strip_prefix(self.prefix.as_str())) {
            (Encoding::Hex, Some(digits)) => {
                format!("{}{}", self.prefix, digits.to_ascii_lowercase())
            }
            _ => signature.to_owned(),
        }
    }
}

/// A scheduled HMAC key.
struct Key(Hmac<Sha256>);

impl Key {
    fn parse(secret: &SecretString) -> Result<Self> {
        let refuse = |message: String| Error::new(Code::SecretInvalid, message);
        let text = secret.expose();
        if !(8..=512).contains(&text.len()) {
            let length = text.len();
            return Err(refuse(format!("the signing secret has {length} bytes; use 8 to 512")));
        }
        let key = Hmac::new_from_slice(text.as_bytes());
        key.map(Self).map_err(|_| refuse("the signing secret cannot be used".to_owned()))
    }

    fn authenticate(&self, body: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
