//! How an integration signs, as people configure it.

use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rotation::MAX_KEYS;
use super::{Generated, KeyRing, Profile, Profiles, Settings, Several, Signer, standard};
use crate::error::{Code, Error, Result, Violation};
use crate::resource::escape;
use crate::secret::{Entropy, Opener, Place, Secret, SecretString, SecretVisitor};
use crate::time::Timestamp;

/// The most signatures that a request carries beside the first.
const MAX_ALSO: usize = 4;

const SLOT: &str = "signing";
const SLOT_ALSO: &str = "signing.also";

/// How requests are signed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SigningSpec {
    /// The signing profile; default `standard-webhooks`.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// What the profile is set to; by default nothing, as fits `standard-webhooks`.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// The keys, the preferred one first: 1 to 10, each of which signs until it expires.
    #[schemars(length(min = 1, max = 10))]
    pub keys: Vec<SigningKeySpec>,
    /// Signatures of other profiles that the same requests carry, up to 4, each with keys of its
    /// own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub also: Vec<SignatureSpec>,
}

/// One more signature on the same requests.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureSpec {
    /// Tells the signatures apart: 1 to 64 characters.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// The signing profile.
    pub profile: String,
    /// What the profile is set to.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// The keys, the preferred one first: 1 to 10, each of which signs until it expires.
    #[schemars(length(min = 1, max = 10))]
    pub keys: Vec<SigningKeySpec>,
}

/// One signing key.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKeySpec {
    /// Tells the keys of one list apart, so that a masked secret stays with its key when the
    /// list changes: 1 to 64 characters; default `default`.
    #[serde(default = "default_key_id")]
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// The secret, in the form of the profile.
    pub secret: Secret,
    /// The moment the key stops signing; never by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

fn default_profile() -> String {
    standard::NAME.to_owned()
}

fn default_key_id() -> String {
    "default".to_owned()
}

/// What all signatures of a spec have in common.
#[derive(Clone, Copy)]
struct Part<'a> {
    slot: &'static str,
    profile: &'a str,
    settings: &'a Settings,
    keys: &'a [SigningKeySpec],
}

/// The keys of one signature, to be changed.
pub(super) struct Keys<'a> {
    pub(super) slot: &'static str,
    pub(super) profile: &'a str,
    pub(super) list: &'a mut Vec<SigningKeySpec>,
}

impl SigningSpec {
    /// Every broken rule. `at` is the pointer to this spec in its document.
    ///
    /// Secrets are checked where they are plain: sealed ones were checked when they came in.
    #[must_use]
    pub fn validate(&self, at: &str, profiles: &Profiles) -> Vec<Violation> {
        let mut found = self.first().validate(at, profiles);
        if self.also.len() > MAX_ALSO {
            found.push(Violation::new(
                format!("{at}/also"),
                "signatures_count",
                format!("{} more signatures are given; use up to {MAX_ALSO}", self.also.len()),
            ));
        }
        let mut ids = HashSet::new();
        let mut taken: HashSet<_> = self.first().headers(profiles).into_iter().collect();
        for (index, also) in self.also.iter().enumerate() {
            let at = format!("{at}/also/{index}");
            if also.id.is_empty() || also.id.len() > 64 || !ids.insert(&also.id) {
                found.push(Violation::new(
                    format!("{at}/id"),
                    "signature_id",
                    "give each signature an id of its own, of 1 to 64 characters",
                ));
            }
            found.extend(also.part().validate(&at, profiles));
            for name in also.part().headers(profiles) {
                if !taken.insert(name.clone()) {
                    let message =
                        format!("another signature is in the header field `{name}` already");
                    found.push(Violation::new(&at, "signature_header_twice", message));
                }
            }
        }
        found
    }

    /// The header fields that the signatures take.
    #[must_use]
    pub fn headers(&self, profiles: &Profiles) -> Vec<HeaderName> {
        self.parts().flat_map(|part| part.headers(profiles)).collect()
    }

    /// Shows each secret to `visitor`. `at` is the pointer to this spec in its document.
    ///
    /// # Errors
    ///
    /// The first error of the visitor.
    pub fn visit_secrets(&mut self, at: &str, visitor: &mut dyn SecretVisitor) -> Result<()> {
        for (index, key) in self.keys.iter_mut().enumerate() {
            let pointer = format!("{at}/keys/{index}/secret");
            visitor.secret(Place::new(SLOT, &pointer).known_as(&key.id), &mut key.secret)?;
        }
        for (index, also) in self.also.iter_mut().enumerate() {
            for (number, key) in also.keys.iter_mut().enumerate() {
                let pointer = format!("{at}/also/{index}/keys/{number}/secret");
                let identity = format!("{}/{}", escape(&also.id), escape(&key.id));
                let place = Place::new(SLOT_ALSO, &pointer).known_as(&identity);
                visitor.secret(place, &mut key.secret)?;
            }
        }
        Ok(())
    }

    /// The signer of this spec: of all of its signatures.
    ///
    /// # Errors
    ///
    /// Those of [`Opener::open`] and [`KeyRing::new`]; [`Code::SigningFailed`] where a profile is
    /// not known or a key does not fit it.
    pub fn signer(&self, opener: &Opener<'_>, profiles: &Profiles) -> Result<Arc<dyn Signer>> {
        let first = self.first().signer(opener, profiles)?;
        if self.also.is_empty() {
            return Ok(first);
        }
        let also = self.also.iter().map(|also| also.part().signer(opener, profiles));
        let all = std::iter::once(Ok(first)).chain(also).collect::<Result<_>>()?;
        Ok(Arc::new(Several::new(all)))
    }

    /// The keys of one signature, of the first where none is named, with what they are used for.
    pub(super) fn keys_of(&mut self, signature: Option<&str>) -> Option<Keys<'_>> {
        match signature {
            None => Some(Keys { slot: SLOT, profile: &self.profile, list: &mut self.keys }),
            Some(id) => {
                let also = self.also.iter_mut().find(|also| also.id == id)?;
                Some(Keys { slot: SLOT_ALSO, profile: &also.profile, list: &mut also.keys })
            }
        }
    }

    /// Puts one fresh key of the same sort in place of those of each signature; answers what was
    /// made for the first, then for the others by their ids.
    ///
    /// # Errors
    ///
    /// Those of [`Opener::open`]; [`Code::Unsupported`] where a profile makes up no keys.
    pub(crate) fn renew(
        &mut self,
        opener: &Opener<'_>,
        profiles: &Profiles,
        entropy: &dyn Entropy,
    ) -> Result<(Generated, Vec<(String, Generated)>)> {
        let first = fresh(SLOT, &self.profile, &mut self.keys, opener, profiles, entropy)?;
        let also = self.also.iter_mut().map(|also| {
            let keys = &mut also.keys;
            let made = fresh(SLOT_ALSO, &also.profile, keys, opener, profiles, entropy)?;
            Ok((also.id.clone(), made))
        });
        Ok((first, also.collect::<Result<_>>()?))
    }

    fn first(&self) -> Part<'_> {
        let Self { profile, settings, keys, .. } = self;
        Part { slot: SLOT, profile, settings, keys }
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        std::iter::once(self.first()).chain(self.also.iter().map(SignatureSpec::part))
    }
}

impl SignatureSpec {
    fn part(&self) -> Part<'_> {
        let Self { profile, settings, keys, .. } = self;
        Part { slot: SLOT_ALSO, profile, settings, keys }
    }
}

impl Part<'_> {
    fn validate(self, at: &str, profiles: &Profiles) -> Vec<Violation> {
        let mut found = Vec::new();
        let profile = profiles.get(self.profile);
        match profile {
            Some(profile) => {
                found.extend(profile.validate(self.settings, &format!("{at}/settings")));
            }
            None => {
                let known: Vec<_> = profiles.names().collect();
                found.push(Violation::new(
                    format!("{at}/profile"),
                    "signing_profile_unknown",
                    format!("there is no such signing profile; use one of: {}", known.join(", ")),
                ));
            }
        }
        if self.keys.is_empty() || self.keys.len() > MAX_KEYS {
            found.push(Violation::new(
                format!("{at}/keys"),
                "signing_keys_count",
                format!("{} keys are given; use 1 to {MAX_KEYS}", self.keys.len()),
            ));
        }
        let mut ids = HashSet::new();
        for (index, key) in self.keys.iter().enumerate() {
            let at = format!("{at}/keys/{index}");
            if key.id.is_empty() || key.id.len() > 64 || !ids.insert(&key.id) {
                found.push(Violation::new(
                    format!("{at}/id"),
                    "signing_key_id",
                    "give each key an id of its own, of 1 to 64 characters",
                ));
            }
            found.extend(secret_violation(&at, profile, &key.secret));
        }
        found
    }

    fn headers(self, profiles: &Profiles) -> Vec<HeaderName> {
        profiles.get(self.profile).map(|profile| profile.headers(self.settings)).unwrap_or_default()
    }

    fn open(self, opener: &Opener<'_>) -> Result<KeyRing<SecretString>> {
        let keys =
            self.keys.iter().map(|key| Ok((opener.open(self.slot, &key.secret)?, key.expires_at)));
        KeyRing::new(keys.collect::<Result<Vec<_>>>()?)
    }

    fn signer(self, opener: &Opener<'_>, profiles: &Profiles) -> Result<Arc<dyn Signer>> {
        let Some(profile) = profiles.get(self.profile) else {
            return Err(Error::new(
                Code::SigningFailed,
                format!("the signing profile `{}` is not known; register it", self.profile),
            ));
        };
        profile
            .signer(self.settings, &self.open(opener)?)
            .map_err(|error| Error::new(Code::SigningFailed, error.message()).caused_by(error))
    }
}

fn fresh(
    slot: &'static str,
    profile: &str,
    keys: &mut Vec<SigningKeySpec>,
    opener: &Opener<'_>,
    profiles: &Profiles,
    entropy: &dyn Entropy,
) -> Result<Generated> {
    let unsupported = || {
        let message = format!("no key can be made up for the signing profile `{profile}`");
        Error::new(Code::Unsupported, message)
    };
    let maker = profiles.get(profile).ok_or_else(unsupported)?;
    let like = keys.first().ok_or_else(unsupported)?;
    let made = maker.generate(&opener.open(slot, &like.secret)?, entropy)?;
    let secret = Secret::Plain(made.secret.clone());
    *keys = vec![SigningKeySpec { id: like.id.clone(), secret, expires_at: None }];
    Ok(made)
}

fn secret_violation(at: &str, profile: Option<&dyn Profile>, secret: &Secret) -> Option<Violation> {
    let error = profile?.check(secret.as_plain()?).err()?;
    Some(Violation::new(format!("{at}/secret"), error.code().as_str(), error.message()))
}

#[cfg(test)]
mod tests;
