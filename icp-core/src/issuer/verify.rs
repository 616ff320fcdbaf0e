//! Whether a token is good: pure, from the token, the rules, the keys and the time.

use std::time::Duration;

use super::algorithm::{Algorithm, TokenType};
use super::claims::Claims;
use super::jwks::KeySet;
use super::jws::Jws;
use crate::time::Timestamp;

/// The most bytes of a subject (OpenID Connect Core 1.0, 2).
const MAX_SUBJECT: usize = 255;

/// Why a token is not good. Callers are not told which.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is too large")]
    TooLarge,
    #[error("it is malformed")]
    Malformed,
    #[error("its header asks for what is not supported")]
    Unsupported,
    #[error("its algorithm is not taken")]
    Algorithm,
    #[error("it is of a type that is not taken")]
    Type,
    #[error("it is for a key that the issuer does not have")]
    Key,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it names nobody")]
    Subject,
    #[error("it does not say when it ends")]
    Endless,
    #[error("it is over")]
    Expired,
    #[error("it is not good yet")]
    Early,
    #[error("it was issued too long ago")]
    Old,
    #[error("it is of another login")]
    Nonce,
    #[error("it is for no organization here")]
    Organization,
}

/// What tokens of an issuer must be.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) types: Vec<TokenType>,
    pub(crate) leeway: Duration,
    pub(crate) max_age: Option<Duration>,
}

impl Rules {
    /// What a token proves, where it is good at `now`.
    ///
    /// What the issuer says of itself is checked after the signature, so that nothing unproved is
    /// compared but the algorithm and the type, which decide how the signature is read.
    pub(crate) fn verify(
        &self,
        token: Jws<'_>,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<(Claims, Timestamp), Refusal> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let is_taken = |typ: TokenType| self.types.contains(&typ);
        if !TokenType::of(token.typ.as_deref()).is_some_and(is_taken) {
            return Err(Refusal::Type);
        }
        keys.check(&token)?;
        let until = self.judge(&token.claims, now)?;
        Ok((token.claims, until))
    }

    /// When proved claims are good no more, where they are good at `now`.
    fn judge(&self, claims: &Claims, now: Timestamp) -> Result<Timestamp, Refusal> {
        if claims.text("iss")? != Some(self.issuer.as_str()) {
            return Err(Refusal::Issuer);
        }
        self.check_audience(claims)?;
        subject(claims)?;
        let end = claims.date("exp")?.ok_or(Refusal::Endless)? + self.leeway;
        self.check_times(claims, end, now)?;
        let age = self.max_age.zip(claims.date("iat")?);
        Ok(age.map_or(end, |(age, issued)| end.min(issued + age + self.leeway)))
    }

    /// Whether the claims are for somebody whom the issuer names as its audience.
    pub(super) fn check_audience(&self, claims: &Claims) -> Result<(), Refusal> {
        let own = |audience: &&str| self.audiences.iter().any(|own| own == audience);
        if claims.audiences()?.iter().any(own) { Ok(()) } else { Err(Refusal::Audience) }
    }

    pub(super) fn check_times(
        &self,
        claims: &Claims,
        end: Timestamp,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if now >= end {
            return Err(Refusal::Expired);
        }
        let issued = claims.date("iat")?;
        if [claims.date("nbf")?, issued].into_iter().flatten().any(|from| from > now + self.leeway)
        {
            return Err(Refusal::Early);
        }
        match (self.max_age, issued) {
            (Some(_), None) => Err(Refusal::Old),
            (Some(age), Some(issued)) if now >= issued + age + self.leeway => Err(Refusal::Old),
            _ => Ok(()),
        }
    }
}

/// Whom claims are about. It becomes part of a name that people read in audit rows.
pub(super) fn subject(claims: &Claims) -> Result<&str, Refusal> {
    let subject = claims.text("sub")?.ok_or(Refusal::Subject)?;
    let fine = (1..=MAX_SUBJECT).contains(&subject.len()) && !subject.chars().any(char::is_control);
    if fine { Ok(subject) } else { Err(Refusal::Subject) }
}
