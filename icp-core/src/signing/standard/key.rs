//! The keys of Standard Webhooks and their text forms.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek as ed25519;
use ed25519_dalek::Signer as _;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::{Content, Generated};
use crate::error::{Code, Error, Result};
use crate::secret::{Entropy, SecretString};
use crate::signing::VerifyWith;

const SYMMETRIC: &str = "whsec_";
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";
const V1: &str = "v1";
const V1A: &str = "v1a";

/// A fresh symmetric secret: `whsec_` and the base64 of 32 bytes.
///
/// # Errors
///
/// Those of `entropy`.
pub fn generate_secret(entropy: &dyn Entropy) -> Result<SecretString> {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(&mut *bytes)?;
    Ok(format!("{SYMMETRIC}{}", *Zeroizing::new(STANDARD.encode(*bytes))).into())
}

/// A fresh ed25519 pair: the secret with `whsk_`, and the public key with `whpk_` for receivers.
///
/// # Errors
///
/// Those of `entropy`.
pub fn generate_keypair(entropy: &dyn Entropy) -> Result<(SecretString, String)> {
    let mut seed = Zeroizing::new([0; 32]);
    entropy.fill(&mut *seed)?;
    let key = ed25519::SigningKey::from_bytes(&seed);
    let pair = Zeroizing::new(key.to_keypair_bytes());
    let secret = format!("{PRIVATE}{}", *Zeroizing::new(STANDARD.encode(*pair)));
    Ok((secret.into(), format!("{PUBLIC}{}", STANDARD.encode(key.verifying_key().as_bytes()))))
}

/// A fresh secret of the same form as `like`.
pub(super) fn generate_like(like: &SecretString, entropy: &dyn Entropy) -> Result<Generated> {
    if like.expose().starts_with(PRIVATE) {
        let (secret, public) = generate_keypair(entropy)?;
        return Ok(Generated { secret, verify_with: VerifyWith::PublicKey(public) });
    }
    Ok(Generated { secret: generate_secret(entropy)?, verify_with: VerifyWith::Secret })
}

/// What signs: a scheduled HMAC key or an ed25519 key.
pub(super) enum SigningKey {
    V1(Hmac<Sha256>),
    V1a(Box<ed25519::SigningKey>),
}

impl SigningKey {
    pub(super) fn parse(secret: &SecretString) -> Result<Self> {
        let text = secret.expose();
        if text.starts_with(PUBLIC) {
            return refuse("a public key (`whpk_`) cannot sign; give the secret one (`whsk_`)");
        }
        match text.strip_prefix(PRIVATE) {
            Some(encoded) => Ok(Self::V1a(Box::new(private_key(encoded)?))),
            None => Ok(Self::V1(symmetric_key(text)?)),
        }
    }

    /// The version and the signature.
    pub(super) fn sign(&self, content: &Content<'_>) -> (&'static str, Vec<u8>) {
        match self {
            Self::V1(key) => (V1, authenticate(key, content).to_vec()),
            Self::V1a(key) => (V1A, key.sign(&content.parts().concat()).to_bytes().to_vec()),
        }
    }
}

/// What verifies: a scheduled HMAC key or an ed25519 public key.
pub(super) enum VerifyingKey {
    V1(Hmac<Sha256>),
    V1a(Box<ed25519::VerifyingKey>),
}

impl VerifyingKey {
    pub(super) fn parse(secret: &SecretString) -> Result<Self> {
        let text = secret.expose();
        if let Some(encoded) = text.strip_prefix(PUBLIC) {
            return Ok(Self::V1a(Box::new(public_key(encoded)?)));
        }
        Ok(match SigningKey::parse(secret)? {
            SigningKey::V1(key) => Self::V1(key),
            SigningKey::V1a(key) => Self::V1a(Box::new(key.verifying_key())),
        })
    }

    /// Whether one of the `listed` signatures of this key's version fits.
    pub(super) fn any_fits(&self, content: &Content<'_>, listed: &[&str]) -> Choice {
        let mut fits = Choice::from(0);
        match self {
            Self::V1(key) => {
                let expected = authenticate(key, content);
                for signature in of_version(listed, V1) {
                    fits |= signature.as_slice().ct_eq(&expected);
                }
            }
            Self::V1a(key) => {
                let content = content.parts().concat();
                for signature in of_version(listed, V1A) {
                    let verdict = ed25519::Signature::from_slice(&signature)
                        .and_then(|signature| key.verify_strict(&content, &signature));
                    fits |= Choice::from(u8::from(verdict.is_ok()));
                }
            }
        }
        fits
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1(_) => "SigningKey(v1)",
            Self::V1a(_) => "SigningKey(v1a)",
        })
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1(_) => "VerifyingKey(v1)",
            Self::V1a(_) => "VerifyingKey(v1a)",
        })
    }
}

fn authenticate(key: &Hmac<Sha256>, content: &Content<'_>) -> [u8; 32] {
    let mut mac = key.clone();
    for part in content.parts() {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The decoded signatures of one version; other versions and malformed ones are passed over.
fn of_version<'l>(listed: &'l [&str], version: &'l str) -> impl Iterator<Item = Vec<u8>> + 'l {
    listed
        .iter()
        .filter_map(|entry| entry.split_once(','))
        .filter(move |(named, _)| *named == version)
        .filter_map(|(_, encoded)| STANDARD.decode(encoded).ok())
}

fn symmetric_key(text: &str) -> Result<Hmac<Sha256>> {
    let bytes = decode(text.strip_prefix(SYMMETRIC).unwrap_or(text))?;
    if !(24..=64).contains(&bytes.len()) {
        return refuse(format!(
            "the signing secret is {} bytes long; use 24 to 64 random bytes",
            bytes.len()
        ));
    }
    Hmac::new_from_slice(&bytes).or_else(|_| refuse("the signing secret cannot be used"))
}

/// A 32-byte seed, with or without the public key behind it.
fn private_key(encoded: &str) -> Result<ed25519::SigningKey> {
    let bytes = decode(encoded)?;
    let key = if let Ok(seed) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        ed25519::SigningKey::from_bytes(seed)
    } else if let Ok(pair) = <&[u8; 64]>::try_from(bytes.as_slice()) {
        ed25519::SigningKey::from_keypair_bytes(pair)
            .or_else(|_| refuse("the public half does not belong to the secret half"))?
    } else {
        return refuse("an ed25519 key must be 32 bytes, or 64 with its public half");
    };
    strong(key.verifying_key())?;
    Ok(key)
}

fn public_key(encoded: &str) -> Result<ed25519::VerifyingKey> {
    let bytes = decode(encoded)?;
    let Ok(bytes) = <&[u8; 32]>::try_from(bytes.as_slice()) else {
        return refuse("an ed25519 public key must be 32 bytes");
    };
    let key = ed25519::VerifyingKey::from_bytes(bytes)
        .or_else(|_| refuse("the bytes are not an ed25519 public key"))?;
    strong(key)
}

/// A weak key accepts signatures that nobody made with it.
fn strong(key: ed25519::VerifyingKey) -> Result<ed25519::VerifyingKey> {
    if key.is_weak() { refuse("the ed25519 key is weak; generate another") } else { Ok(key) }
}

fn decode(encoded: &str) -> Result<Zeroizing<Vec<u8>>> {
    // The decoder's error names a character of the secret, so it is not kept as the cause.
    match STANDARD.decode(encoded) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(_) => refuse("the signing secret is not standard base64 behind its prefix"),
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(Code::SecretInvalid, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SystemEntropy;

    #[test]
    fn forms_of_signing_secrets() {
        let coded = |length: usize| STANDARD.encode(vec![7; length]);
        let (secret, public) = generate_keypair(&SystemEntropy).unwrap();
        let mut torn = STANDARD.decode(&secret.expose()[PRIVATE.len()..]).unwrap();
        torn[40] ^= 1;
        for (text, fine) in [
            (format!("whsec_{}", coded(24)), true),
            (coded(24), true),
            (format!("whsec_{}", coded(64)), true),
            (format!("whsec_{}", coded(23)), false),
            (format!("whsec_{}", coded(65)), false),
            (String::new(), false),
            ("whsec_".to_owned(), false),
            ("whsec_????".to_owned(), false),
            (format!(" whsec_{}", coded(24)), false),
            (format!("whsec_{}\n", coded(24)), false),
            (secret.expose().to_owned(), true),
            (format!("whsk_{}", coded(32)), true),
            (format!("whsk_{}", coded(33)), false),
            (format!("whsk_{}", STANDARD.encode(torn)), false),
            ("whsk_".to_owned(), false),
            (public, false),
        ] {
            let parsed = SigningKey::parse(&text.as_str().into());
            assert_eq!(parsed.is_ok(), fine, "{text}: {parsed:?}");
        }
    }

    #[test]
    fn weak_and_malformed_public_keys_are_refused() {
        let identity = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        };
        for bytes in [vec![0; 32], identity.to_vec(), vec![2; 31], vec![]] {
            let text = format!("whpk_{}", STANDARD.encode(bytes));
            let error = VerifyingKey::parse(&text.as_str().into()).unwrap_err();
            assert_eq!(error.code(), Code::SecretInvalid);
        }
    }

    #[test]
    fn generated_secrets_parse_and_differ() {
        let [a, b] = [(), ()].map(|()| generate_secret(&SystemEntropy).unwrap());
        assert!(a.expose().starts_with("whsec_"));
        assert!(SigningKey::parse(&a).is_ok());
        assert_ne!(a, b);
        let (secret, public) = generate_keypair(&SystemEntropy).unwrap();
        assert!(SigningKey::parse(&secret).is_ok());
        assert!(VerifyingKey::parse(&public.into()).is_ok());
    }

    #[test]
    fn refusals_and_debug_show_nothing_of_the_secret() {
        let error = SigningKey::parse(&"whsec_hush!".into()).unwrap_err();
        assert!(!format!("{error:?}").contains("hush"));
        let secret = generate_secret(&SystemEntropy).unwrap();
        assert_eq!(format!("{:?}", SigningKey::parse(&secret).unwrap()), "SigningKey(v1)");
    }

    // RFC 8032, section 7.1, test 1: the empty message.
    #[test]
    fn ed25519_is_that_of_rfc_8032() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect()
        };
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let signature = hex(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        );
        let key = private_key(&STANDARD.encode(seed)).unwrap();
        assert_eq!(key.verifying_key().as_bytes().as_slice(), public);
        assert_eq!(key.sign(b"").to_bytes().as_slice(), signature);
        let public = public_key(&STANDARD.encode(public)).unwrap();
        let signature = ed25519::Signature::from_slice(&signature).unwrap();
        assert!(public.verify_strict(b"", &signature).is_ok());
        assert!(public.verify_strict(b"x", &signature).is_err());
    }
}
