use serde_json::Value;

use super::Resources;
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::resource::document::MAX_NAME;
use crate::resource::{Actor, Change, Document, Expect, Record, Resource, Revision, Spec};
use crate::secret::{Opener, Owner, Reseal, SecretString, SystemEntropy};
use crate::signing::{Generated, VerifyWith};

const SUFFIX: &str = " (Copy)";

/// A copy of an integration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Duplicate {
    /// The copy, its secrets masked.
    pub document: Document,
    /// What the copy signs with, where the original signs.
    pub signing: Option<CopiedKey>,
    /// The same for its further signatures, by their ids.
    pub also: Vec<(String, CopiedKey)>,
}

/// What a receiver has to know of a copy's own signing key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopiedKey {
    /// The secret, where both sides share one; it is shown here and never again.
    pub secret: Option<SecretString>,
    /// The public half of a key pair.
    pub public_key: Option<String>,
}

impl Resources {
    /// Copies an integration with all that is configured for it, under a new id. The copy is
    /// called as the original is, or as its id, with ` (Copy)` behind; it is on where the
    /// original is, and not paused.
    ///
    /// Secrets are copied without being shown, and sealed for the copy. Only what signs is not
    /// shared: each signature of the copy gets one fresh key that never expires.
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
        let opener = Opener::new(&self.services.sealer, from);
        let (signing, also) = match &mut spec.signing {
            Some(signing) => {
                let (first, also) =
                    signing.renew(&opener, &self.services.profiles, &SystemEntropy)?;
                (Some(first), also)
            }
            None => (None, Vec::new()),
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
        let also = also.into_iter().map(|(id, made)| (id, CopiedKey::of(made))).collect();
        Ok(Duplicate { document, signing: signing.map(CopiedKey::of), also })
    }
}

impl CopiedKey {
    fn of(made: Generated) -> Self {
        match made.verify_with {
            VerifyWith::PublicKey(public) => Self { secret: None, public_key: Some(public) },
            VerifyWith::Secret => Self { secret: Some(made.secret), public_key: None },
        }
    }
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
