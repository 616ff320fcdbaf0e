//! API keys as resources of an organization.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::grant::{self, Grant, GrantPlace};
use super::key::ApiKey;
use super::limit::RateLimit;
use super::permission::{Area, PermissionPattern, PermissionSet};
use crate::error::{Code, Error, Result};
use crate::id::{ApiKeyId, OrgId, ResourceId};
use crate::resource::{Compiled, Effect, Spec, SpecContext, Violations};
use crate::secret::{Place, Secret, SecretVisitor};
use crate::time::Timestamp;
use crate::transform::PlanSpec;

/// What is configured for an API key.
///
/// The key itself is shown once, when it is made or rotated: what is kept of it is a hash.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeySpec {
    /// The roles that the key has.
    pub grants: Vec<Grant>,
    /// What the key is narrowed to, whatever its roles would let it do. Default no narrower.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub scopes: Option<Vec<PermissionPattern>>,
    /// Whether it is good for anything. Default `true`.
    pub enabled: bool,
    /// From when on it is good for nothing. Default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How often it may be used; counted on each node by itself. Default without bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// The hash of the key; written by the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifier: Option<Secret>,
    /// The key before the last rotation, as long as it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousKey>,
}

/// A key that another one took the place of.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousKey {
    /// The hash of the key.
    pub verifier: Secret,
    /// From when on it is good for nothing.
    pub until: Timestamp,
}

impl Default for ApiKeySpec {
    fn default() -> Self {
        Self {
            grants: Vec::new(),
            scopes: None,
            enabled: true,
            expires_at: None,
            rate_limit: None,
            verifier: None,
            previous: None,
        }
    }
}

impl Spec for ApiKeySpec {
    const KIND: &'static str = "api_key";
    const PLURAL: &'static str = "api-keys";
    const AREA: Area = Area::Keys;
    const ASKS_ORGANIZATION: bool = true;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        if context.id.as_str().parse::<ApiKeyId>().is_err() {
            let message = "the engine names api keys by itself; leave the id out";
            violations.add("", "key_id", message);
        }
        grant::validate("/grants", GrantPlace::Home, &self.grants, context, violations);
        if let Some(limit) = &self.rate_limit {
            violations.extend("/rate_limit", limit.validate());
        }
        let verifiers = [
            ("/verifier", self.verifier.as_ref()),
            ("/previous/verifier", self.previous.as_ref().map(|previous| &previous.verifier)),
        ];
        for (pointer, verifier) in verifiers {
            let plain = verifier.and_then(Secret::as_plain);
            if plain.is_some_and(|plain| Verifier::parse(plain.expose()).is_none()) {
                let message = "use the lower-case hex sha-256 of the key's random part";
                violations.add(pointer, "verifier", message);
            }
        }
    }

    fn guard(present: Option<&Self>, context: &SpecContext<'_>, violations: &mut Violations) {
        if let Some(present) = present {
            grant::guard(
                "/grants",
                GrantPlace::Home,
                &present.grants,
                present.narrowed_to(),
                context,
                violations,
            );
        }
    }

    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
        if let Some(verifier) = &mut self.verifier {
            visitor.secret(Place::new(VERIFIER, "/verifier"), verifier)?;
        }
        if let Some(previous) = &mut self.previous {
            visitor.secret(Place::new(PREVIOUS, "/previous/verifier"), &mut previous.verifier)?;
        }
        Ok(())
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn handles(&self, _: &OrgId, id: &ResourceId) -> Option<Vec<String>> {
        Some(vec![handle_of(id.as_str())])
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, context: &SpecContext<'_>) -> Result<Compiled> {
        let opener = context.opener();
        let open = |slot, secret: &Secret| {
            let text = opener.open(slot, secret)?;
            Verifier::parse(text.expose()).ok_or_else(|| {
                Error::new(Code::StoreCorrupt, "the hash of an api key cannot be read; rotate it")
            })
        };
        let mut verifiers = Vec::new();
        if let Some(verifier) = &self.verifier {
            verifiers.push((open(VERIFIER, verifier)?, None));
        }
        if let Some(previous) = &self.previous {
            verifiers.push((open(PREVIOUS, &previous.verifier)?, Some(previous.until)));
        }
        let scopes = self.narrowed_to();
        Ok(Arc::new(KeyHolder {
            verifiers,
            grants: self.grants.clone(),
            scopes,
            enabled: self.enabled,
            expires_at: self.expires_at,
            rate_limit: self.rate_limit,
        }))
    }
}

impl ApiKeySpec {
    fn narrowed_to(&self) -> Option<PermissionSet> {
        let each = self.scopes.as_deref()?.iter().map(PermissionPattern::permissions);
        Some(each.fold(PermissionSet::NONE, PermissionSet::union))
    }
}

const VERIFIER: &str = "verifier";
const PREVIOUS: &str = "previous.verifier";

/// The handle by which a key's resource is found.
pub(crate) fn handle_of(id: &str) -> String {
    format!("api_key:{id}")
}

/// An API key, ready for use.
#[derive(Debug)]
pub(crate) struct KeyHolder {
    verifiers: Vec<(Verifier, Option<Timestamp>)>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) scopes: Option<PermissionSet>,
    enabled: bool,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) rate_limit: Option<RateLimit>,
}

impl KeyHolder {
    /// Whether `key` is this one, or the one before it, and is good at `now`.
    pub(crate) fn accepts(&self, key: &ApiKey, now: Timestamp) -> bool {
        let in_time = |until: &Option<Timestamp>| until.is_none_or(|until| now < until);
        let hash = key.hash();
        let known = self.verifiers.iter().filter(|(_, until)| in_time(until));
        // Each is compared, so that the time taken does not tell which one it is.
        let fits = known.fold(false, |fits, (verifier, _)| fits | verifier.fits(&hash));
        fits & self.enabled & in_time(&self.expires_at)
    }
}

/// SHA-256 of the random part of a key.
#[derive(Debug)]
pub(crate) struct Verifier([u8; 32]);

impl Verifier {
    /// What is kept of `key`.
    pub(crate) fn text_of(key: &ApiKey) -> String {
        key.hash().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(hash))
    }

    fn fits(&self, hash: &[u8; 32]) -> bool {
        self.0.ct_eq(hash).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClockIds;
    use crate::secret::SystemEntropy;
    use crate::time::SystemClock;

    fn key(seed: u64) -> ApiKey {
        ApiKey::generate(&ClockIds::seeded(SystemClock, seed), &SystemEntropy).unwrap()
    }

    fn holder(verifiers: &[(&ApiKey, Option<i64>)]) -> KeyHolder {
        let verifiers = verifiers.iter().map(|(key, until)| {
            (Verifier::parse(&Verifier::text_of(key)).unwrap(), until.map(Timestamp::from_millis))
        });
        KeyHolder {
            verifiers: verifiers.collect(),
            grants: Vec::new(),
            scopes: None,
            enabled: true,
            expires_at: None,
            rate_limit: None,
        }
    }

    #[test]
    fn the_key_before_is_good_until_its_time_is_over() {
        let (new, old, other) = (key(1), key(2), key(3));
        let holder = holder(&[(&new, None), (&old, Some(100))]);
        let at = Timestamp::from_millis;
        assert!(holder.accepts(&new, at(500)) && holder.accepts(&old, at(99)));
        assert!(!holder.accepts(&old, at(100)) && !holder.accepts(&other, at(0)));
    }

    #[test]
    fn a_key_that_is_off_or_over_is_good_for_nothing() {
        let key = key(1);
        let off = KeyHolder { enabled: false, ..holder(&[(&key, None)]) };
        let expires_at = Some(Timestamp::from_millis(10));
        let over = KeyHolder { expires_at, ..holder(&[(&key, None)]) };
        assert!(!off.accepts(&key, Timestamp::EPOCH));
        assert!(over.accepts(&key, Timestamp::from_millis(9)));
        assert!(!over.accepts(&key, Timestamp::from_millis(10)));
        assert!(!holder(&[]).accepts(&key, Timestamp::EPOCH));
    }

    #[test]
    fn verifiers_are_64_hex_digits() {
        assert!(Verifier::parse(&"0f".repeat(32)).is_some());
        for bad in ["", "0f", &"0F".repeat(32), &"0g".repeat(32), &"é".repeat(32)] {
            assert!(Verifier::parse(bad).is_none(), "{bad}");
        }
    }
}
