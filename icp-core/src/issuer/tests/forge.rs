//! Signs whatever tests ask for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{self as by, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding};
use serde_json::{Value, json};

use crate::issuer::algorithm::Algorithm;
use crate::issuer::jwks::KeySet;

pub(super) const ISSUER: &str = "https://issuer.example/realms/a";
/// In 2027.
pub(super) const NOW: i64 = 1_800_000_000;

/// The keys of an issuer.
pub(super) struct Forge {
    pub(super) rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

/// A token before it is signed.
#[derive(Clone, Debug)]
pub(super) struct Made {
    algorithm: Algorithm,
    header: String,
    payload: String,
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Forge {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let ec = |algorithm| {
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
        };
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            // Made for these tests; it takes long to find two primes.
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("rsa.der")).unwrap(),
            p256: ec(&by::ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ec(&by::ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    pub(super) fn modulus(&self) -> Vec<u8> {
        let parts: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        parts.n
    }

    /// A public key as a JWK of this id.
    pub(super) fn jwk(&self, key: &str, kid: &str) -> Value {
        let ec = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y), "kid": kid })
        };
        match key {
            "rsa" => {
                let parts: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
                json!({ "kty": "RSA", "n": encode(parts.n), "e": encode(parts.e), "kid": kid })
            }
            "p256" => ec("P-256", self.p256.public_key().as_ref()),
            "p384" => ec("P-384", self.p384.public_key().as_ref()),
            _ => {
                let x = encode(self.ed.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid })
            }
        }
    }

    /// The set that the issuer publishes: a key of each type, whose id is its type.
    pub(super) fn keys(&self) -> KeySet {
        self.keys_and(&[])
    }

    pub(super) fn keys_and(&self, more: &[Value]) -> KeySet {
        let mut keys: Vec<_> =
            ["rsa", "p256", "p384", "ed"].iter().map(|name| self.jwk(name, name)).collect();
        keys.extend_from_slice(more);
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    /// A token that there is nothing against.
    pub(super) fn good(&self, algorithm: Algorithm) -> Made {
        let header = json!({ "alg": algorithm.as_str(), "kid": key_of(algorithm), "typ": "JWT" });
        let payload = json!({
            "iss": ISSUER, "aud": "icp", "sub": "ann", "exp": NOW + 600, "iat": NOW,
        });
        Made { algorithm, header: header.to_string(), payload: payload.to_string() }
    }

    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let encoding: &'static dyn RsaEncoding = match algorithm {
            Algorithm::Rs256 => &by::RSA_PKCS1_SHA256,
            Algorithm::Rs384 => &by::RSA_PKCS1_SHA384,
            Algorithm::Rs512 => &by::RSA_PKCS1_SHA512,
            Algorithm::Ps256 => &by::RSA_PSS_SHA256,
            Algorithm::Ps384 => &by::RSA_PSS_SHA384,
            Algorithm::Ps512 => &by::RSA_PSS_SHA512,
            Algorithm::Es256 => return self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::Es384 => return self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::EdDsa => return self.ed.sign(message).as_ref().to_vec(),
        };
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
        signature
    }
}

fn key_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Es256 => "p256",
        Algorithm::Es384 => "p384",
        Algorithm::EdDsa => "ed",
        _ => "rsa",
    }
}

impl Made {
    /// With these members of the header.
    pub(super) fn header(mut self, members: &Value) -> Self {
        self.header = merged(&self.header, members);
        self
    }

    /// With this header, as it is.
    pub(super) fn headed(self, header: &str) -> Self {
        Self { header: header.to_owned(), ..self }
    }

    /// With these claims.
    pub(super) fn with(mut self, claims: &Value) -> Self {
        self.payload = merged(&self.payload, claims);
        self
    }

    pub(super) fn without(mut self, claim: &str) -> Self {
        let mut payload: Value = serde_json::from_str(&self.payload).unwrap();
        payload.as_object_mut().unwrap().remove(claim);
        self.payload = payload.to_string();
        self
    }

    /// With this text in place of the first `from` of the claims.
    pub(super) fn replaced(self, from: &str, to: &str) -> Self {
        assert!(self.payload.contains(from), "{}", self.payload);
        Self { payload: self.payload.replacen(from, to, 1), ..self }
    }

    /// With these claims, as they are.
    pub(super) fn saying(self, payload: &str) -> Self {
        Self { payload: payload.to_owned(), ..self }
    }

    pub(super) fn signed(&self) -> String {
        format!("{}.{}", encode(&self.header), encode(&self.payload))
    }

    pub(super) fn token(&self, forge: &Forge) -> String {
        self.token_by(forge, self.algorithm)
    }

    /// Signed by another algorithm than it says.
    pub(super) fn token_by(&self, forge: &Forge, algorithm: Algorithm) -> String {
        let signed = self.signed();
        let signature = forge.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

fn merged(json: &str, members: &Value) -> String {
    let mut document: Value = serde_json::from_str(json).unwrap();
    for (name, value) in members.as_object().unwrap() {
        document[name] = value.clone();
    }
    document.to_string()
}
