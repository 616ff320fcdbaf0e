//! API keys: made, rotated.

use std::time::Duration;

use serde_json::Value;

use super::Engine;
use crate::access::{ApiKey, ApiKeySpec, PreviousKey, Verifier};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{ApiKeyId, OrgId, ResourceId};
use crate::resource::{Actor, Document, Draft, Expect, Violations};
use crate::secret::{Secret, SecretString, SystemEntropy};

/// How long the key before is good beside a new one, by default.
pub const KEY_OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// The longest that the key before is good beside a new one.
pub const MAX_KEY_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

/// An API key that was made. Its text is shown here and nowhere afterwards.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedKey {
    /// The key as a resource.
    pub document: Document,
    /// The text to be sent as `Authorization: Bearer`.
    pub key: SecretString,
}

impl Engine {
    /// Makes an API key. The draft names neither its id nor its hash: the engine gives it both.
    ///
    /// # Errors
    ///
    /// As [`Resources::create`](crate::resource::Resources::create); nobody can make a key that
    /// may do more than they may.
    pub async fn create_key(
        &self,
        org: &OrgId,
        mut draft: Draft,
        actor: &Actor,
    ) -> Result<IssuedKey> {
        let key = ApiKey::generate(self.ids(), &SystemEntropy)?;
        let mut violations = Violations::default();
        if draft.id.is_some() {
            violations.add("/id", "key_id", "the engine names api keys by itself; leave it out");
        }
        for field in ["verifier", "previous"] {
            if draft.spec.get(field).is_some() {
                let message = "the engine makes keys by itself; leave it out";
                violations.add(format!("/spec/{field}"), "key_made", message);
            }
        }
        violations.into_result()?;
        draft.id = Some(ResourceId::new(key.id().to_string())?);
        if let Value::Object(spec) = &mut draft.spec {
            spec.insert("verifier".to_owned(), Verifier::text_of(&key).into());
        }
        let document = self.resources().create(org, "api_key", draft, actor).await?;
        Ok(IssuedKey { document, key: key.to_text() })
    }

    /// Puts a new key in place of the present one, which stays good for `overlap`, up to 30 days;
    /// zero ends it at once. The one before that ends in any case.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] for a longer overlap, and where the key may do more than its
    /// author; [`Code::ResourceNotFound`], [`Code::RevisionConflict`], and those of the store.
    pub async fn rotate_key(
        &self,
        org: &OrgId,
        id: ApiKeyId,
        overlap: Duration,
        expect: Expect,
        actor: &Actor,
    ) -> Result<IssuedKey> {
        if overlap > MAX_KEY_OVERLAP {
            let message = format!("use at most {} seconds", MAX_KEY_OVERLAP.as_secs());
            let found = Violation::new("/overlap_seconds", "out_of_range", message);
            return Err(Error::violations(Code::ResourceInvalid, vec![found]));
        }
        let key = ApiKey::generate_for(id, &SystemEntropy)?;
        let verifier = Secret::plain(Verifier::text_of(&key));
        let name = ResourceId::new(id.to_string())?;
        let action = ("rotate", expect);
        let resources = self.resources();
        let edit = |spec: &mut ApiKeySpec, editing: &crate::resource::Editing<'_>| {
            let before = spec.verifier.replace(verifier).filter(|_| !overlap.is_zero());
            let opened = before.map(|before| editing.context.opener().open("verifier", &before));
            spec.previous = opened.transpose()?.map(|verifier| PreviousKey {
                verifier: Secret::plain(verifier),
                until: editing.now + overlap,
            });
            Ok(())
        };
        let (document, ()) = resources.amend_principal(org, &name, action, actor, edit).await?;
        Ok(IssuedKey { document, key: key.to_text() })
    }
}
