//! The signatures of receivers that know the `X-Integration-*` header fields: the scheme of
//! [Standard Webhooks](super::standard) under other names.

use std::sync::Arc;

use http::HeaderName;

use super::standard::{HeaderNames, StandardSigner, StandardVerifier, StandardWebhooks};
use super::standard::{TOLERANCE, no_settings};
use super::{Generated, KeyRing, Profile, Settings, Signer};
use crate::error::{Result, Violation};
use crate::secret::{Entropy, SecretString};

/// The profile's name.
pub const NAME: &str = "icplane";

/// The header fields of this profile.
pub const HEADERS: HeaderNames = HeaderNames {
    id: "x-integration-id",
    timestamp: "x-integration-timestamp",
    signature: "x-integration-signature",
};

/// The profile `icplane`. It has no settings; its secrets are those of
/// [`StandardWebhooks`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Icplane;

impl Profile for Icplane {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self, settings: &Settings, at: &str) -> Vec<Violation> {
        no_settings(settings, at)
    }

    fn headers(&self, _: &Settings) -> Vec<HeaderName> {
        HEADERS.listed()
    }

    fn check(&self, secret: &SecretString) -> Result<()> {
        StandardWebhooks.check(secret)
    }

    fn generate(&self, like: &SecretString, entropy: &dyn Entropy) -> Result<Generated> {
        StandardWebhooks.generate(like, entropy)
    }

    fn signer(&self, _: &Settings, keys: &KeyRing<SecretString>) -> Result<Arc<dyn Signer>> {
        Ok(Arc::new(StandardSigner::new(keys)?.named(HEADERS)))
    }
}

/// A verifier of this profile, with a tolerance of [`TOLERANCE`].
///
/// # Errors
///
/// Those of [`StandardVerifier::new`].
pub fn verifier(keys: &KeyRing<SecretString>) -> Result<StandardVerifier> {
    Ok(StandardVerifier::new(keys)?.named(HEADERS).tolerance(TOLERANCE))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::error::Code;
    use crate::signing::{Message, Verifier};
    use crate::time::Timestamp;

    // The published vector of Standard Webhooks: the scheme is the same.
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const SECONDS: i64 = 1_649_367_553;
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;

    fn ring(secret: &str) -> KeyRing<SecretString> {
        KeyRing::single(SecretString::from(secret))
    }

    fn signed() -> HeaderMap {
        let mut headers = HeaderMap::new();
        let timestamp = Timestamp::from_millis(SECONDS * 1000);
        let signer = Icplane.signer(&Settings::new(), &ring(SECRET)).unwrap();
        signer.sign(&Message { id: ID, timestamp, body: BODY }, &mut headers).unwrap();
        headers
    }

    #[test]
    fn the_scheme_is_that_of_standard_webhooks_under_other_names() {
        let headers = signed();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["X-Integration-ID"], ID);
        assert_eq!(headers["X-Integration-Timestamp"], SECONDS.to_string());
        let signature = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        assert_eq!(headers["X-Integration-Signature"], signature);
    }

    #[test]
    fn a_message_verifies_within_five_minutes_and_unchanged() {
        let headers = signed();
        let verify = |secret: &str, body: &[u8], seconds: i64| {
            let now = Timestamp::from_millis(seconds * 1000);
            let found = verifier(&ring(secret)).unwrap().verify(&headers, body, now);
            found.map_err(|error| error.code())
        };
        assert_eq!(verify(SECRET, BODY, SECONDS).unwrap().id.as_deref(), Some(ID));
        let other = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (secret, body, seconds, code) in [
            (other, BODY, SECONDS, Code::SignatureInvalid),
            (SECRET, b"{}".as_slice(), SECONDS, Code::SignatureInvalid),
            (SECRET, BODY, SECONDS + 301, Code::SignatureExpired),
            (SECRET, BODY, SECONDS - 301, Code::SignatureExpired),
        ] {
            assert_eq!(verify(secret, body, seconds), Err(code), "{seconds}");
        }
        assert!(verify(SECRET, BODY, SECONDS + 300).is_ok());
    }

    #[test]
    fn the_headers_of_standard_webhooks_do_not_pass() {
        let mut headers = HeaderMap::new();
        let timestamp = Timestamp::from_millis(SECONDS * 1000);
        let signer = StandardSigner::new(&ring(SECRET)).unwrap();
        signer.sign(&Message { id: ID, timestamp, body: BODY }, &mut headers).unwrap();
        let verdict = verifier(&ring(SECRET)).unwrap().verify(&headers, BODY, timestamp);
        assert_eq!(verdict.unwrap_err().code(), Code::SignatureInvalid);
    }
}
