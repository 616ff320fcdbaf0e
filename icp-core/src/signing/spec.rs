//! How an integration signs, as people configure it.

use std::collections::HashSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rotation::MAX_KEYS;
use super::{KeyRing, Profile, Profiles, Signer, standard};
use crate::error::{Code, Error, Result, Violation};
use crate::secret::{Opener, Place, Secret, SecretString, SecretVisitor};
use crate::time::Timestamp;

const SLOT: &str = "signing";

/// How requests are signed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SigningSpec {
    /// The signing profile; default `standard-webhooks`.
    #[serde(default = "default_profile")]
    pub profile: String,
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

impl SigningSpec {
    /// Every broken rule. `at` is the pointer to this spec in its document.
    ///
    /// Secrets are checked where they are plain: sealed ones were checked when they came in.
    #[must_use]
    pub fn validate(&self, at: &str, profiles: &Profiles) -> Vec<Violation> {
        let mut found = Vec::new();
        let profile = profiles.get(&self.profile);
        if profile.is_none() {
            let known: Vec<_> = profiles.names().collect();
            found.push(Violation::new(
                format!("{at}/profile"),
                "signing_profile_unknown",
                format!("there is no such signing profile; use one of: {}", known.join(", ")),
            ));
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
        Ok(())
    }

    /// Opens the secrets of all keys.
    ///
    /// # Errors
    ///
    /// Those of [`Opener::open`] and [`KeyRing::new`].
    pub fn open(&self, opener: &Opener<'_>) -> Result<KeyRing<SecretString>> {
        let keys =
            self.keys.iter().map(|key| Ok((opener.open(SLOT, &key.secret)?, key.expires_at)));
        KeyRing::new(keys.collect::<Result<Vec<_>>>()?)
    }

    /// The signer of this spec, from its opened keys.
    ///
    /// # Errors
    ///
    /// [`Code::SigningFailed`] where the profile is not known or a key does not fit it.
    pub fn compile(
        &self,
        opened: &KeyRing<SecretString>,
        profiles: &Profiles,
    ) -> Result<Arc<dyn Signer>> {
        let Some(profile) = profiles.get(&self.profile) else {
            return Err(Error::new(
                Code::SigningFailed,
                format!("the signing profile `{}` is not known; register it", self.profile),
            ));
        };
        profile
            .signer(opened)
            .map_err(|error| Error::new(Code::SigningFailed, error.message()).caused_by(error))
    }
}

fn secret_violation(at: &str, profile: Option<&dyn Profile>, secret: &Secret) -> Option<Violation> {
    let error = profile?.check(secret.as_plain()?).err()?;
    Some(Violation::new(format!("{at}/secret"), error.code().as_str(), error.message()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::secret::{
        LocalKeys, MASK, MaskAll, Owner, Previous, SealAll, Sealer, SystemEntropy,
    };
    use crate::signing::Message;
    use crate::signing::standard::{SIGNATURE, generate_secret};

    const GOOD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OWNER: Owner<'_> = Owner { org: "acme", kind: "integration", id: "orders" };

    fn spec(json: serde_json::Value) -> SigningSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn defaults_make_a_short_spec_enough() {
        let spec = spec(json!({ "keys": [{ "secret": GOOD }] }));
        assert_eq!(spec.profile, "standard-webhooks");
        assert_eq!(spec.validate("/signing", &Profiles::default()), []);
    }

    #[test]
    fn rules() {
        let many: Vec<_> =
            (0..11).map(|id| json!({ "id": id.to_string(), "secret": MASK })).collect();
        for (json, pointer, code) in [
            (
                json!({ "profile": "x", "keys": [{ "secret": GOOD }] }),
                "/s/profile",
                "signing_profile_unknown",
            ),
            (json!({ "keys": [] }), "/s/keys", "signing_keys_count"),
            (json!({ "keys": many }), "/s/keys", "signing_keys_count"),
            (
                json!({ "keys": [{ "secret": GOOD }, { "secret": GOOD }] }),
                "/s/keys/1/id",
                "signing_key_id",
            ),
            (json!({ "keys": [{ "id": "", "secret": GOOD }] }), "/s/keys/0/id", "signing_key_id"),
            (json!({ "keys": [{ "secret": "whsec_AAAA" }] }), "/s/keys/0/secret", "secret_invalid"),
        ] {
            let found = spec(json.clone()).validate("/s", &Profiles::default());
            assert_eq!(found.len(), 1, "{json}: {found:?}");
            assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), (pointer, code));
        }
        let unknown = json!({ "keys": [{ "secret": GOOD, "expires": 1 }] });
        assert!(serde_json::from_value::<SigningSpec>(unknown).is_err());
        assert!(serde_json::from_value::<SigningSpec>(json!({})).is_err());
    }

    #[test]
    fn a_rotated_spec_signs_with_both_keys_until_the_old_one_expires() {
        let sealer = Sealer::new(Arc::new(LocalKeys::generate("k", &SystemEntropy).unwrap()));
        let old = generate_secret(&SystemEntropy).unwrap();
        let mut stored = spec(json!({ "keys": [{ "secret": old.expose() }] }));
        stored.visit_secrets("", &mut SealAll::new(&sealer, OWNER, Previous::default())).unwrap();

        let mut shown = stored.clone();
        shown.visit_secrets("", &mut MaskAll).unwrap();
        let mut json = serde_json::to_value(&shown).unwrap();
        json["keys"][0]["expires_at"] = json!("2026-01-01T00:00:00Z");
        json["keys"].as_array_mut().unwrap().insert(0, json!({ "id": "2026", "secret": GOOD }));
        let mut rotated = spec(json);
        let mut previous = Previous::default();
        stored.visit_secrets("", &mut previous).unwrap();
        rotated.visit_secrets("", &mut SealAll::new(&sealer, OWNER, previous)).unwrap();

        let ring = rotated.open(&Opener::new(&sealer, OWNER)).unwrap();
        let expiry: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(
            ring.live(Timestamp::EPOCH).map(SecretString::expose).collect::<Vec<_>>(),
            [GOOD, old.expose()]
        );
        let signer = rotated.compile(&ring, &Profiles::default()).unwrap();
        for (timestamp, signatures) in [(Timestamp::EPOCH, 2), (expiry, 1)] {
            let mut headers = HeaderMap::new();
            signer.sign(&Message { id: "m", timestamp, body: b"x" }, &mut headers).unwrap();
            assert_eq!(headers[SIGNATURE].to_str().unwrap().split(' ').count(), signatures);
        }
    }

    #[test]
    fn what_cannot_sign_does_not_compile() {
        let ring = KeyRing::single(SecretString::from("whsec_AAAA"));
        for profile in ["standard-webhooks", "gone"] {
            let spec = spec(json!({ "profile": profile, "keys": [{ "secret": MASK }] }));
            let error = spec.compile(&ring, &Profiles::default()).unwrap_err();
            assert_eq!(error.code(), Code::SigningFailed);
        }
    }
}
