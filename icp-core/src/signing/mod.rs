//! Signatures on what is sent, and their verification.
//!
//! Signing fails closed: where a signature cannot be made, [`Signer::sign`] is an error with
//! [`Code::SigningFailed`](crate::Code::SigningFailed), and nothing is sent.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::error::{Result, Violation};
use crate::secret::{Entropy, SecretString};
use crate::time::Timestamp;

pub mod hmac_body;
pub mod icplane;
mod rotate;
pub mod rotation;
mod several;
mod spec;
pub mod standard;

pub use rotate::{KEPT, MAX_OVERLAP, OVERLAP, Removal, Rotated, Rotation};
pub use rotation::KeyRing;
pub use several::Several;
pub use spec::{SignatureSpec, SigningKeySpec, SigningSpec};

/// What is signed: one attempt to send one body.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The same for every attempt, so that a receiver can drop repetitions.
    pub id: &'a str,
    /// The moment of this attempt; keys that are expired by then do not sign.
    pub timestamp: Timestamp,
    /// The exact bytes that are sent.
    pub body: &'a [u8],
}

/// Adds a signature to a request. Implementors are pure: no clock, no I/O.
pub trait Signer: fmt::Debug + Send + Sync + 'static {
    /// Sets the signature headers for `message`, replacing those of an earlier attempt.
    ///
    /// # Errors
    ///
    /// [`Code::SigningFailed`](crate::Code::SigningFailed); `headers` are then unchanged and the
    /// request must not be sent.
    fn sign(&self, message: &Message<'_>, headers: &mut HeaderMap) -> Result<()>;
}

/// Checks the signature of a received request. Implementors are pure and compare in constant
/// time.
pub trait Verifier: fmt::Debug + Send + Sync + 'static {
    /// What the signature vouches for, where it fits `body` and is recent at `now`.
    ///
    /// # Errors
    ///
    /// [`Code::SignatureInvalid`](crate::Code::SignatureInvalid) where no signature fits, and
    /// [`Code::SignatureExpired`](crate::Code::SignatureExpired) where the message is too old or
    /// from the future.
    fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Verified>;
}

/// What a signature vouches for, beside the body.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// The sender's id of the message, where the scheme signs one; refuse one that was seen
    /// before.
    pub id: Option<String>,
    /// When the sender signed, to the second, where the scheme signs it. A scheme without it
    /// cannot tell an old request that is sent again.
    pub timestamp: Option<Timestamp>,
}

/// What a profile may be set to, as its own documentation says.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// A fresh signing secret.
#[derive(Clone, Debug)]
pub struct Generated {
    /// What signs.
    pub secret: SecretString,
    /// What receivers verify with.
    pub verify_with: VerifyWith,
}

/// What receivers verify with.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum VerifyWith {
    /// The same secret that signs.
    Secret,
    /// A public key, as its text.
    PublicKey(String),
}

/// A way to sign, known by its name in [`SigningSpec::profile`].
pub trait Profile: fmt::Debug + Send + Sync + 'static {
    /// The name, lower case with hyphens.
    fn name(&self) -> &'static str;

    /// Every broken rule of `settings`. `at` is the pointer to them in their document.
    fn validate(&self, settings: &Settings, at: &str) -> Vec<Violation>;

    /// The header fields that signatures with these settings take; none where the settings are
    /// not valid.
    fn headers(&self, settings: &Settings) -> Vec<HeaderName>;

    /// Checks that `secret` is one this profile can sign with.
    ///
    /// # Errors
    ///
    /// [`Code::SecretInvalid`](crate::Code::SecretInvalid) that says what would be right, without
    /// showing the secret.
    fn check(&self, secret: &SecretString) -> Result<()>;

    /// A fresh secret, of the same algorithm as `like`.
    ///
    /// # Errors
    ///
    /// Those of `entropy`.
    fn generate(&self, like: &SecretString, entropy: &dyn Entropy) -> Result<Generated>;

    /// A signer that signs with every key of `keys` that is live at the time of a message.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check), for any of the keys;
    /// [`Code::SigningFailed`](crate::Code::SigningFailed) where the settings are not valid.
    fn signer(&self, settings: &Settings, keys: &KeyRing<SecretString>) -> Result<Arc<dyn Signer>>;
}

/// The profiles an engine knows; [`Default`] holds `standard-webhooks`, `icplane` and
/// `hmac-body`.
#[derive(Clone, Debug)]
pub struct Profiles(Vec<Arc<dyn Profile>>);

impl Default for Profiles {
    fn default() -> Self {
        Self(vec![
            Arc::new(standard::StandardWebhooks),
            Arc::new(icplane::Icplane),
            Arc::new(hmac_body::HmacBody),
        ])
    }
}

impl Profiles {
    /// Adds a profile, in place of one of the same name.
    #[must_use]
    pub fn with(mut self, profile: Arc<dyn Profile>) -> Self {
        self.0.retain(|known| known.name() != profile.name());
        self.0.push(profile);
        self
    }

    /// The profile of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn Profile> {
        self.0.iter().find(|profile| profile.name() == name).map(AsRef::as_ref)
    }

    /// The names of all profiles.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|profile| profile.name())
    }
}
