//! Replacing and removing the signing keys of an integration.

use std::time::Duration;

use super::spec::Keys;
use super::{SigningKeySpec, SigningSpec, VerifyWith};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::resource::{Actor, Document, Editing, Expect, Resources};
use crate::secret::{Secret, SecretString, SystemEntropy};
use crate::time::Timestamp;

/// How many keys a rotation keeps, the new one among them.
pub const KEPT: usize = 3;

/// How long the keys before sign beside a new one, by default.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// The longest overlap.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

/// How a signing secret is replaced.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rotation {
    /// The id of the signature, as in `also`. Default: the first signature.
    pub signature: Option<String>,
    /// How long the keys before sign beside the new one, up to 30 days. Default 24 hours. Zero
    /// ends them at once. A key that expires sooner already still does; none gets more time.
    pub overlap: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { signature: None, overlap: OVERLAP }
    }
}

impl Rotation {
    /// Rotates the signature of this id in place of the first.
    #[must_use]
    pub fn of(mut self, signature: impl Into<String>) -> Self {
        self.signature = Some(signature.into());
        self
    }

    /// Lets the keys before sign for so long.
    #[must_use]
    pub fn overlap(mut self, overlap: Duration) -> Self {
        self.overlap = overlap;
        self
    }
}

/// A signing secret that was replaced. It is shown here and nowhere afterwards.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rotated {
    /// The integration, its secrets masked.
    pub document: Document,
    /// The id of the new key.
    pub key: String,
    /// The new secret, which receivers verify with; none where they do so with `public_key`.
    pub secret: Option<SecretString>,
    /// The public key that receivers verify with, where the new key is one of a pair.
    pub public_key: Option<String>,
    /// The ids of keys that are kept no more: expired, or more than are kept.
    pub dropped: Vec<String>,
}

/// Which signing key is removed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Removal {
    /// The id of the signature, as in `also`. Default: the first signature.
    pub signature: Option<String>,
    /// The id of the key.
    pub key: String,
}

impl Removal {
    /// Removes this key of the first signature.
    pub fn key(key: impl Into<String>) -> Self {
        Self { signature: None, key: key.into() }
    }

    /// Removes it of the signature of this id in place of the first.
    #[must_use]
    pub fn of(mut self, signature: impl Into<String>) -> Self {
        self.signature = Some(signature.into());
        self
    }
}

impl Resources {
    /// Makes a new signing secret the preferred one of an integration, of the same algorithm as
    /// the one before. Those before go on signing until the overlap is over; at most
    /// [`KEPT`](super::KEPT) keys are kept.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], [`Code::SignatureUnknown`], [`Code::ResourceInvalid`] where
    /// the overlap is too long, [`Code::RevisionConflict`], [`Code::KeyUnreadable`], and those of
    /// the store.
    pub async fn rotate_secret(
        &self,
        org: &OrgId,
        id: &ResourceId,
        rotation: &Rotation,
        expect: Expect,
        actor: &Actor,
    ) -> Result<Rotated> {
        if rotation.overlap > MAX_OVERLAP {
            let days = MAX_OVERLAP.as_secs() / 86_400;
            let message = format!("use at most {days} days");
            let violation = Violation::new("/overlap_seconds", "out_of_range", message);
            return Err(Error::violations(Code::ResourceInvalid, vec![violation]));
        }
        let edit = |spec: &mut IntegrationSpec, editing: &Editing<'_>| {
            let keys = keys_of(spec.signing.as_mut(), rotation.signature.as_deref())?;
            replace(keys, rotation.overlap, editing)
        };
        let what = ("rotate_secret", expect);
        let (document, fresh) = self.amend(org, id, what, actor, edit).await?;
        let (secret, public_key) = match fresh.verify_with {
            VerifyWith::Secret => (Some(fresh.secret), None),
            VerifyWith::PublicKey(key) => (None, Some(key)),
        };
        Ok(Rotated { document, key: fresh.key, secret, public_key, dropped: fresh.dropped })
    }

    /// Removes a signing key of an integration before it expires.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], [`Code::SignatureUnknown`], [`Code::SigningKeyUnknown`],
    /// [`Code::SigningKeyLast`] where no other key signs, [`Code::SigningKeyPrimary`] for the
    /// preferred one, [`Code::RevisionConflict`], and those of the store.
    pub async fn remove_secret(
        &self,
        org: &OrgId,
        id: &ResourceId,
        removal: &Removal,
        expect: Expect,
        actor: &Actor,
    ) -> Result<Document> {
        let edit = |spec: &mut IntegrationSpec, editing: &Editing<'_>| {
            let keys = keys_of(spec.signing.as_mut(), removal.signature.as_deref())?;
            remove(keys.list, &removal.key, editing.now)
        };
        let what = ("remove_secret", expect);
        self.amend(org, id, what, actor, edit).await.map(|(document, ())| document)
    }
}

fn keys_of<'s>(signing: Option<&'s mut SigningSpec>, signature: Option<&str>) -> Result<Keys<'s>> {
    signing.and_then(|signing| signing.keys_of(signature)).ok_or_else(|| {
        let message = match signature {
            None => "the integration does not sign; add `signing` to its spec".to_owned(),
            Some(id) => format!("the integration has no signature `{id}`; see `also` in its spec"),
        };
        Error::new(Code::SignatureUnknown, message)
    })
}

struct Fresh {
    key: String,
    secret: SecretString,
    verify_with: VerifyWith,
    dropped: Vec<String>,
}

fn replace(keys: Keys<'_>, overlap: Duration, editing: &Editing<'_>) -> Result<Fresh> {
    let Keys { slot, profile: name, list } = keys;
    let profile = editing.context.services.profiles.get(name).ok_or_else(|| {
        let message = format!("the signing profile `{name}` is not known; register it");
        Error::new(Code::SigningFailed, message)
    })?;
    let like = match list.first() {
        Some(first) => editing.context.opener().open(slot, &first.secret)?,
        None => SecretString::from(""),
    };
    // As for sealing: a secret that simulated randomness foretells is none.
    let generated = profile.generate(&like, &SystemEntropy)?;
    let key = ResourceId::generate(editing.ids).as_str().to_owned();
    let fresh = SigningKeySpec {
        id: key.clone(),
        secret: Secret::Plain(generated.secret.clone()),
        expires_at: None,
    };
    let dropped = rotate(list, fresh, editing.now, overlap);
    Ok(Fresh { key, secret: generated.secret, verify_with: generated.verify_with, dropped })
}

/// Puts `fresh` first, gives the others an end, and drops what is expired or too many; answers
/// the ids of the dropped.
fn rotate(
    keys: &mut Vec<SigningKeySpec>,
    fresh: SigningKeySpec,
    now: Timestamp,
    overlap: Duration,
) -> Vec<String> {
    let until = now + overlap;
    for key in &mut *keys {
        key.expires_at = Some(key.expires_at.map_or(until, |end| end.min(until)));
    }
    keys.insert(0, fresh);
    let (kept, mut dropped): (Vec<_>, Vec<_>) =
        std::mem::take(keys).into_iter().partition(|key| is_live(key, now));
    *keys = kept;
    dropped.extend(keys.drain(KEPT.min(keys.len())..));
    dropped.into_iter().map(|key| key.id).collect()
}

fn remove(keys: &mut Vec<SigningKeySpec>, id: &str, now: Timestamp) -> Result<()> {
    let Some(place) = keys.iter().position(|key| key.id == id) else {
        let known: Vec<_> = keys.iter().map(|key| format!("`{}`", key.id)).collect();
        let message = format!("there is no key `{id}`; there are {}", known.join(", "));
        return Err(Error::new(Code::SigningKeyUnknown, message));
    };
    let others = keys.iter().enumerate().filter(|(other, _)| *other != place);
    if !others.into_iter().any(|(_, key)| is_live(key, now)) {
        let message = "no other key signs; rotate the secret first";
        return Err(Error::new(Code::SigningKeyLast, message));
    }
    if place == 0 {
        let message = "this is the preferred key; rotate the secret, then remove it";
        return Err(Error::new(Code::SigningKeyPrimary, message));
    }
    keys.remove(place);
    Ok(())
}

fn is_live(key: &SigningKeySpec, now: Timestamp) -> bool {
    key.expires_at.is_none_or(|end| now < end)
}

#[cfg(test)]
mod tests;
