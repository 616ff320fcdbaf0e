//! A token in its compact form, read but not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims::Claims;
use super::strict;
use super::verify::Refusal;

/// The most bytes of a token.
pub(crate) const MAX_TOKEN: usize = 16 * 1024;

/// The most bytes of a key's id.
const MAX_KID: usize = 256;

/// Members of a header that change how the rest is to be read. None is supported, and what is not
/// understood must not be taken (RFC 7515, 4.1.11; RFC 7797).
const UNSUPPORTED: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// A signed token, taken apart.
#[derive(Debug)]
pub(crate) struct Jws<'a> {
    pub(super) algorithm: Algorithm,
    /// Which key it says it is signed with; a name to compare, and nothing else.
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    pub(super) claims: Claims,
    /// What is signed.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Reads the compact form of RFC 7515. Header members that bring keys along or lead to some
    /// (`jku`, `jwk`, `x5u`, `x5c`) are not looked at.
    pub(crate) fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let header = object(header)?;
        let claims = object(payload)?;
        if UNSUPPORTED.iter().any(|name| header.contains_key(*name)) {
            return Err(Refusal::Unsupported);
        }
        let algorithm = text(&header, "alg")?.and_then(Algorithm::of).ok_or(Refusal::Algorithm)?;
        let kid = text(&header, "kid")?.map(str::to_owned);
        if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(Refusal::Malformed);
        }
        Ok(Self {
            algorithm,
            kid,
            typ: text(&header, "typ")?.map(str::to_owned),
            claims: Claims::new(claims),
            signed,
            signature: decode(signature)?,
        })
    }

    /// What it claims, which nothing proves yet.
    pub(crate) fn unproved(&self) -> &Claims {
        &self.claims
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    strict::object(&decode(part)?).ok_or(Refusal::Malformed)
}

/// Base 64 for URLs has one form only: no padding, no line ends, no bits left over.
fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

fn text<'m>(header: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, Refusal> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::Malformed),
    }
}
