//! Sets of keys (RFC 7517): those in it that can be used, and which one a token is for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::jws::Jws;
use super::signature::PublicKey;
use super::strict;
use super::verify::Refusal;

/// The most keys of a set.
pub(super) const MAX_KEYS: usize = 100;
/// The most keys of one id that a signature is tried with.
const MAX_TRIES: usize = 4;

const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// The keys of an issuer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct KeySet(Vec<Jwk>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Jwk {
    kid: Option<String>,
    /// The one algorithm it is for, where it names one; a name we do not know fits none.
    alg: Option<String>,
    key: PublicKey,
}

impl KeySet {
    /// The usable keys of a set. What is no key, is of another type, for another use, or too short
    /// is left out, as RFC 7517, 5 has it; a set that is none is `None`.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        Self::of(&strict::object(json)?)
    }

    pub(super) fn of(set: &Map<String, Value>) -> Option<Self> {
        let keys = set.get("keys")?.as_array().filter(|keys| keys.len() <= MAX_KEYS)?;
        Some(Self(keys.iter().filter_map(|key| usable(key.as_object()?)).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key may be the one the token names.
    pub(crate) fn knows(&self, token: &Jws<'_>) -> bool {
        !self.candidates(token).is_empty()
    }

    /// Whether the token is signed by the key that it is for.
    pub(super) fn check(&self, token: &Jws<'_>) -> Result<(), Refusal> {
        let candidates = self.candidates(token);
        if candidates.is_empty() {
            return Err(Refusal::Key);
        }
        let message = token.signed.as_bytes();
        let fits = |jwk: &&Jwk| jwk.key.verifies(token.algorithm, message, &token.signature);
        candidates.into_iter().find(fits).map(drop).ok_or(Refusal::Signature)
    }

    /// The keys that fit id and algorithm. A token that names no key is for the only one that fits.
    fn candidates(&self, token: &Jws<'_>) -> Vec<&Jwk> {
        let fits = self.0.iter().filter(|jwk| jwk.is_for(token.algorithm));
        match &token.kid {
            Some(kid) => fits.filter(|jwk| jwk.kid.as_ref() == Some(kid)).take(MAX_TRIES).collect(),
            None => {
                let all: Vec<_> = fits.collect();
                if all.len() == 1 { all } else { Vec::new() }
            }
        }
    }
}

impl Jwk {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        let named = self.alg.as_ref().is_none_or(|alg| alg == algorithm.as_str());
        named && self.key.fits(algorithm)
    }
}

fn usable(jwk: &Map<String, Value>) -> Option<Jwk> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let absent_or = |name: &str, fine: &dyn Fn(&Value) -> bool| jwk.get(name).is_none_or(fine);
    let signs = absent_or("use", &|used| used == "sig")
        && absent_or("key_ops", &|ops| {
            ops.as_array().is_some_and(|ops| ops.iter().any(|operation| operation == "verify"))
        })
        && absent_or("alg", &Value::is_string)
        && absent_or("kid", &Value::is_string);
    if !signs {
        return None;
    }
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let key = match (text("kty")?, text("crv")) {
        ("RSA", None) => rsa(&bytes("n")?, &bytes("e")?)?,
        ("EC", Some("P-256")) => PublicKey::P256(point(&bytes("x")?, &bytes("y")?)?),
        ("EC", Some("P-384")) => PublicKey::P384(point(&bytes("x")?, &bytes("y")?)?),
        ("OKP", Some("Ed25519")) => PublicKey::Ed25519(bytes("x")?.try_into().ok()?),
        _ => return None,
    };
    Some(Jwk { kid: text("kid").map(str::to_owned), alg: text("alg").map(str::to_owned), key })
}

fn rsa(n: &[u8], e: &[u8]) -> Option<PublicKey> {
    let trimmed = |bytes: &[u8]| -> Option<Vec<u8>> {
        Some(bytes[bytes.iter().position(|byte| *byte != 0)?..].to_vec())
    };
    let (n, e) = (trimmed(n)?, trimmed(e)?);
    let spare = n.first()?.leading_zeros() as usize;
    RSA_BITS.contains(&(n.len() * 8 - spare)).then_some(PublicKey::Rsa { n, e })
}

/// An uncompressed point: a tag, and two coordinates of the full length of the curve.
fn point<const LENGTH: usize>(x: &[u8], y: &[u8]) -> Option<[u8; LENGTH]> {
    let half = LENGTH / 2;
    if x.len() != half || y.len() != half {
        return None;
    }
    let mut point = [0; LENGTH];
    point[0] = 4;
    point[1..=half].copy_from_slice(x);
    point[half + 1..].copy_from_slice(y);
    Some(point)
}
