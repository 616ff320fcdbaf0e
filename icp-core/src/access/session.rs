//! Sessions of users: a short access token, and a refresh token that is good once.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::id::{OrgId, ResourceId};
use crate::secret::{SecretBytes, SecretString};
use crate::time::Timestamp;

/// How an access token begins.
pub(crate) const ACCESS: &str = "ics_";
/// How a refresh token begins.
const REFRESH: &str = "icr_";
/// How many refresh tokens that were used are remembered, to notice when one comes back.
const SPENT: usize = 64;

/// A session as its slot holds it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Session {
    pub(crate) org: OrgId,
    pub(crate) user: ResourceId,
    pub(crate) began_at: Timestamp,
    /// Hash of the refresh token that is good.
    good: String,
    /// Hashes of those before, newest first.
    spent: Vec<String>,
}

/// What a refresh token is to a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Presented {
    /// The one that is good.
    Good,
    /// One that was used before: somebody has a copy.
    Spent,
    /// None that it ever had, or one from long ago.
    Unknown,
}

impl Session {
    /// A session that `token` continues.
    pub(crate) fn new(
        org: OrgId,
        user: ResourceId,
        began_at: Timestamp,
        token: &RefreshToken,
    ) -> Self {
        Self { org, user, began_at, good: token.hash(), spent: Vec::new() }
    }

    /// What `token` is to it; every comparison takes the same time.
    pub(crate) fn presented(&self, token: &RefreshToken) -> Presented {
        let hash = token.hash();
        let is = |known: &String| bool::from(known.as_bytes().ct_eq(hash.as_bytes()));
        if is(&self.good) {
            Presented::Good
        } else if self.spent.iter().fold(false, |found, known| found | is(known)) {
            Presented::Spent
        } else {
            Presented::Unknown
        }
    }

    /// The session once `next` took the place of the token that was good.
    pub(crate) fn continued(mut self, next: &RefreshToken) -> Self {
        self.spent.insert(0, std::mem::replace(&mut self.good, next.hash()));
        self.spent.truncate(SPENT);
        self
    }
}

/// A refresh token: the id of a session, and what proves to continue it.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    session: u128,
    secret: SecretBytes,
}

impl RefreshToken {
    /// A token of `session` with 32 random bytes.
    pub(crate) fn new(session: u128, secret: SecretBytes) -> Self {
        Self { session, secret }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (session, secret) = text.strip_prefix(REFRESH)?.split_once('_')?;
        if session.len() != 32 || secret.len() != 64 {
            return None;
        }
        Some(Self { session: u128::from_str_radix(session, 16).ok()?, secret: unhex(secret)? })
    }

    pub(crate) fn to_text(&self) -> SecretString {
        SecretString::from(format!("{REFRESH}{:032x}_{}", self.session, hex(self.secret.expose())))
    }

    /// The session.
    pub(crate) fn session(&self) -> u128 {
        self.session
    }

    /// The key of the session's slot.
    pub(crate) fn slot(&self) -> String {
        slot_of(self.session)
    }

    fn hash(&self) -> String {
        hex(&Sha256::digest(self.secret.expose()))
    }
}

/// The key of the slot of a session.
pub(crate) fn slot_of(session: u128) -> String {
    format!("session:{session:032x}")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<SecretBytes> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |b, d| b << 4 | d)).collect();
    Some(SecretBytes::from(bytes))
}

/// What an access token says, which only the engine can write and read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct AccessToken {
    /// The session; none where the token is good by itself.
    pub(crate) session: Option<u128>,
    pub(crate) principal: Subject,
    pub(crate) began_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// As what the principal acts, and where.
    pub(crate) acting: Option<Acting>,
}

/// Whom a token is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Subject {
    /// A user of an organization.
    User(OrgId, ResourceId),
    /// Whoever is called so: a key, a token from outside, the host.
    Named(String),
}

/// A role in an organization that somebody else takes for a while.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Acting {
    pub(crate) org: OrgId,
    pub(crate) role: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(byte: u8) -> RefreshToken {
        RefreshToken::new(7, SecretBytes::from(vec![byte; 32]))
    }

    fn session(token: &RefreshToken) -> Session {
        let (org, user) = (OrgId::new("acme").unwrap(), ResourceId::new("ann").unwrap());
        Session::new(org, user, Timestamp::EPOCH, token)
    }

    #[test]
    fn a_refresh_token_is_good_once() {
        let session = session(&token(1)).continued(&token(2)).continued(&token(3));
        assert_eq!(session.presented(&token(3)), Presented::Good);
        assert_eq!(session.presented(&token(2)), Presented::Spent);
        assert_eq!(session.presented(&token(1)), Presented::Spent);
        assert_eq!(session.presented(&token(9)), Presented::Unknown);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let all = (0..=200).map(token);
        let session =
            all.skip(1).fold(session(&token(0)), |session, next| session.continued(&next));
        assert_eq!(session.spent.len(), SPENT);
        assert_eq!(session.presented(&token(0)), Presented::Unknown);
    }

    #[test]
    fn tokens_round_trip_and_others_are_none() {
        let text = token(0xab).to_text();
        let again = RefreshToken::parse(text.expose()).unwrap();
        assert_eq!((again.session, again.hash()), (7, token(0xab).hash()));
        let cut = &text.expose()[..text.expose().len() - 1];
        for bad in ["", "icr_", "icr_7_7", cut, &text.expose().replace("ab", "é")] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }
}
