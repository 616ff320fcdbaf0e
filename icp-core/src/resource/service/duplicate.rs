use serde_json::Value;

use super::Resources;
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::resource::document::MAX_NAME;
use crate::resource::{Actor, Change, Document, Expect, Record, Resource, Revision, Spec};
use crate::secret::{Opener, Owner, Reseal, Secret, SecretString, SystemEntropy};
use crate::signing::{SigningKeySpec, SigningSpec, standard};

const SUFFIX: &str = " (Copy)";

/// A copy of an integration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Duplicate {
    /// The copy, its secrets masked.
    pub document: Document,
    /// The copy's own signing secret, where the original signs with a shared one; it is shown
    /// here and never again.
    pub signing_secret: Option<SecretString>,
    /// The public half of the copy's own signing key, where the original signs with a key pair.
    pub signing_public_key: Option<String>,
}

impl Resources {
    /// Copies an integration with all that is configured for it, under a new id. The copy is
    /// called as the original is, or as its id, with ` (Copy)` behind; it is on where the
    /// original is, and not paused.
    ///
    /// Secrets are copied without being shown, and sealed for the copy. Only what signs is not
    /// shared: where the original signs, the copy gets one fresh key that never expires.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`]; [`Code::KeyUnreadable`] where the original's secrets do not
    /// open; [`Code::Unsupported`] where no key can be made up for its signing profile; and
    /// those of the store.
    pub async fn duplicate(
        &self,
        org: &OrgId,
        id: &ResourceId,
        actor: &Actor,
    ) -> Result<Duplicate> {
        let kind = self.kinds.get(IntegrationSpec::KIND)?;
        let original = self.present(org, kind, id).await?;
        let mut spec = Resource::<IntegrationSpec>::from_record(&original)?.spec;
        let copy = ResourceId::generate(&*self.ids);
        let owner = |id| Owner { org: org.as_str(), kind: kind.name(), id };
        let (from, to) = (owner(id.as_str()), owner(copy.as_str()));
        let fresh = match &mut spec.signing {
            Some(signing) => self.fresh(signing, from)?,
            None => FreshKey::default(),
        };
        // Beside what is fresh, and plain as yet, all is sealed for the original.
        spec.visit_secrets(&mut Reseal::new(&self.services.sealer, from, to))?;
        let spec = serde_json::to_value(&spec).map_err(|error| {
            Error::new(Code::Internal, "the copy shows not every secret").caused_by(error)
        })?;
        let effects = kind.effects(&copy, &spec)?;
        let record = Record {
            id: copy,
            name: Some(name(original.name.as_deref().unwrap_or(id.as_str()))),
            spec,
            status: Value::Null,
            revision: Revision::ZERO,
            version: 0,
            ..original
        };
        let expect = Expect::Absent;
        let change = Change { record, expect, action: "duplicate".into(), effects };
        let document = Document::of(&**kind, self.write(change, actor).await?)?;
        let FreshKey { secret, public } = fresh;
        Ok(Duplicate { document, signing_secret: secret, signing_public_key: public })
    }

    /// Puts one fresh key of the same sort in place of those that sign.
    fn fresh(&self, signing: &mut SigningSpec, owner: Owner<'_>) -> Result<FreshKey> {
        let opener = Opener::new(&self.services.sealer, owner);
        let mut has_pair = false;
        signing.open(&opener)?.try_map(|key| {
            has_pair |= standard::is_private(key);
            Ok(())
        })?;
        let (secret, fresh) = if has_pair {
            let (secret, public) = standard::generate_keypair(&SystemEntropy)?;
            (secret, FreshKey { secret: None, public: Some(public) })
        } else {
            let secret = standard::generate_secret(&SystemEntropy)?;
            (secret.clone(), FreshKey { secret: Some(secret), public: None })
        };
        let profile = self.services.profiles.get(&signing.profile);
        if profile.is_none_or(|profile| profile.check(&secret).is_err()) {
            let message = format!(
                "no key can be made up for the signing profile `{}`; create the copy yourself",
                signing.profile
            );
            return Err(Error::new(Code::Unsupported, message).during("duplicate"));
        }
        let id = signing.keys.first().map_or_else(|| "default".to_owned(), |key| key.id.clone());
        signing.keys = vec![SigningKeySpec { id, secret: Secret::Plain(secret), expires_at: None }];
        Ok(fresh)
    }
}

/// What a receiver has to know of a fresh key.
#[derive(Default)]
struct FreshKey {
    secret: Option<SecretString>,
    public: Option<String>,
}

/// The name of a copy, no longer than a name may be.
fn name(original: &str) -> String {
    let kept: String = original.chars().take(MAX_NAME - SUFFIX.len()).collect();
    kept + SUFFIX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_that_it_is_a_copy_and_stay_in_bounds() {
        assert_eq!(name("Orders"), "Orders (Copy)");
        assert_eq!(name("Orders (Copy)"), "Orders (Copy) (Copy)");
        let long = name(&"ü".repeat(MAX_NAME));
        assert_eq!(long.chars().count(), MAX_NAME);
        assert!(long.ends_with("ü (Copy)"));
    }
}
