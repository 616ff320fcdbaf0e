//! Walking over the secrets of a spec: to seal, mask, check and open them.

use std::collections::HashMap;

use super::{SealContext, SealedBytes, Sealer, Secret, SecretString};
use crate::error::{Code, Error, Result, Violation};

/// Where in a spec a secret stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The field's stable name, as in `auth.password`: part of what the sealed value is bound
    /// to. The items of one list share it.
    pub slot: &'static str,
    /// RFC 6901 pointer to the secret in the document at hand.
    pub pointer: &'a str,
    /// What names the secret across edits: the pointer, except in lists, where an item is known
    /// by its own id because its index changes.
    pub identity: &'a str,
}

impl<'a> Place<'a> {
    /// A secret that its pointer names.
    #[must_use]
    pub fn new(slot: &'static str, pointer: &'a str) -> Self {
        Self { slot, pointer, identity: pointer }
    }

    /// Names the secret by something that outlives a change of its pointer.
    #[must_use]
    pub fn known_as(self, identity: &'a str) -> Self {
        Self { identity, ..self }
    }
}

/// What is done to each secret of a spec; the spec calls it once per secret.
pub trait SecretVisitor {
    /// Sees one secret, and may change it.
    ///
    /// # Errors
    ///
    /// Any error ends the walk; the spec is then not to be used.
    fn secret(&mut self, place: Place<'_>, secret: &mut Secret) -> Result<()>;
}

/// The record that owns the secrets.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The organization.
    pub org: &'a str,
    /// The kind of the record, as in `integration`.
    pub kind: &'a str,
    /// The record's id.
    pub id: &'a str,
}

impl<'a> Owner<'a> {
    fn context(self, slot: &'a str) -> SealContext<'a> {
        SealContext { org: self.org, kind: self.kind, id: self.id, slot }
    }
}

/// Refuses sealed values in what a user sends: only the store may hand them in.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefuseSealed;

impl SecretVisitor for RefuseSealed {
    fn secret(&mut self, place: Place<'_>, secret: &mut Secret) -> Result<()> {
        match secret {
            Secret::Sealed(_) => Err(violation(place, "secret_sealed", "enter the secret as text")),
            Secret::Plain(_) | Secret::Masked => Ok(()),
        }
    }
}

/// Collects the sealed secrets of the stored spec, for [`SealAll`] to keep.
#[derive(Clone, Debug, Default)]
pub struct Previous {
    sealed: HashMap<(&'static str, String), SealedBytes>,
}

impl SecretVisitor for Previous {
    fn secret(&mut self, place: Place<'_>, secret: &mut Secret) -> Result<()> {
        if let Secret::Sealed(sealed) = secret {
            self.sealed.insert((place.slot, place.identity.to_owned()), sealed.clone());
        }
        Ok(())
    }
}

/// Seals every plain secret, and puts the stored one in place of every masked one.
///
/// Sealed values stay as they are, so user input goes through [`RefuseSealed`] first.
#[derive(Debug)]
pub struct SealAll<'a> {
    sealer: &'a Sealer,
    owner: Owner<'a>,
    previous: Previous,
}

impl<'a> SealAll<'a> {
    /// Seals for `owner`; `previous` is what masked secrets stand for, empty for a new record.
    #[must_use]
    pub fn new(sealer: &'a Sealer, owner: Owner<'a>, previous: Previous) -> Self {
        Self { sealer, owner, previous }
    }
}

impl SecretVisitor for SealAll<'_> {
    fn secret(&mut self, place: Place<'_>, secret: &mut Secret) -> Result<()> {
        let sealed = match secret {
            Secret::Sealed(_) => return Ok(()),
            Secret::Plain(text) => {
                self.sealer.seal(&self.owner.context(place.slot), text.expose().as_bytes())?
            }
            Secret::Masked => self
                .previous
                .sealed
                .get(&(place.slot, place.identity.to_owned()))
                .cloned()
                .ok_or_else(|| {
                    violation(
                        place,
                        "secret_masked",
                        "there is no stored secret here to keep; enter the secret itself",
                    )
                })?,
        };
        *secret = Secret::Sealed(sealed);
        Ok(())
    }
}

/// Masks every secret, for whatever leaves towards people.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaskAll;

impl SecretVisitor for MaskAll {
    fn secret(&mut self, _: Place<'_>, secret: &mut Secret) -> Result<()> {
        *secret = Secret::Masked;
        Ok(())
    }
}

/// Opens the secrets of one record, where they are used.
#[derive(Clone, Copy, Debug)]
pub struct Opener<'a> {
    sealer: &'a Sealer,
    owner: Owner<'a>,
}

impl<'a> Opener<'a> {
    /// Opens what was sealed for `owner`.
    #[must_use]
    pub fn new(sealer: &'a Sealer, owner: Owner<'a>) -> Self {
        Self { sealer, owner }
    }

    /// The text of the secret in `slot`; a plain secret is its own text.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] as [`Sealer::open`]; [`Code::SecretInvalid`] where the secret is
    /// masked or no text.
    pub fn open(&self, slot: &'static str, secret: &Secret) -> Result<SecretString> {
        let sealed = match secret {
            Secret::Plain(text) => return Ok(text.clone()),
            Secret::Sealed(sealed) => sealed,
            Secret::Masked => return Err(unusable(slot, "is masked")),
        };
        let bytes = self.sealer.open(&self.owner.context(slot), sealed)?;
        let text =
            std::str::from_utf8(bytes.expose()).map_err(|_| unusable(slot, "is not a text"))?;
        Ok(SecretString::from(text))
    }
}

/// Seals the stored secrets of one record anew for another, where they open as they did before.
#[derive(Clone, Copy, Debug)]
pub struct Reseal<'a> {
    sealer: &'a Sealer,
    from: Owner<'a>,
    to: Owner<'a>,
}

impl<'a> Reseal<'a> {
    /// Takes secrets from `from` over to `to`.
    #[must_use]
    pub fn new(sealer: &'a Sealer, from: Owner<'a>, to: Owner<'a>) -> Self {
        Self { sealer, from, to }
    }
}

impl SecretVisitor for Reseal<'_> {
    fn secret(&mut self, place: Place<'_>, secret: &mut Secret) -> Result<()> {
        let text = Opener::new(self.sealer, self.from).open(place.slot, secret)?;
        let context = self.to.context(place.slot);
        *secret = Secret::Sealed(self.sealer.seal(&context, text.expose().as_bytes())?);
        Ok(())
    }
}

fn unusable(slot: &str, what: &str) -> Error {
    Error::new(Code::SecretInvalid, format!("the secret `{slot}` {what}; enter it again"))
}

fn violation(place: Place<'_>, code: &str, message: &str) -> Error {
    Error::violations(Code::ResourceInvalid, vec![Violation::new(place.pointer, code, message)])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{LocalKeys, SystemEntropy};
    use super::*;

    const OWNER: Owner<'_> = Owner { org: "acme", kind: "thing", id: "one" };

    #[derive(Clone, Debug, PartialEq)]
    struct Spec {
        token: Secret,
        keys: Vec<(&'static str, Secret)>,
    }

    impl Spec {
        fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
            visitor.secret(Place::new("token", "/token"), &mut self.token)?;
            for (index, (id, secret)) in self.keys.iter_mut().enumerate() {
                let pointer = format!("/keys/{index}");
                visitor.secret(Place::new("keys", &pointer).known_as(id), secret)?;
            }
            Ok(())
        }
    }

    fn sealer() -> Sealer {
        Sealer::new(Arc::new(LocalKeys::generate("k1", &SystemEntropy).unwrap()))
    }

    fn sealed(sealer: &Sealer, mut spec: Spec, previous: Option<&Spec>) -> Result<Spec> {
        let mut kept = Previous::default();
        if let Some(previous) = previous {
            previous.clone().visit_secrets(&mut kept)?;
        }
        spec.visit_secrets(&mut SealAll::new(sealer, OWNER, kept))?;
        Ok(spec)
    }

    #[test]
    fn a_masked_secret_keeps_the_stored_one_wherever_its_item_moved() {
        let sealer = sealer();
        let first = Spec {
            token: Secret::plain("t"),
            keys: vec![("a", Secret::plain("key a")), ("b", Secret::plain("key b"))],
        };
        let stored = sealed(&sealer, first, None).unwrap();
        let mut shown = stored.clone();
        shown.visit_secrets(&mut MaskAll).unwrap();
        assert!(shown.keys.iter().all(|(_, secret)| *secret == Secret::Masked));

        shown.keys.insert(0, ("c", Secret::plain("key c")));
        shown.keys.remove(2);
        let updated = sealed(&sealer, shown, Some(&stored)).unwrap();
        let opener = Opener::new(&sealer, OWNER);
        let open = |secret| opener.open("keys", secret).unwrap().expose().to_owned();
        assert_eq!(updated.token, stored.token);
        let keys: Vec<_> = updated.keys.iter().map(|(id, secret)| (*id, open(secret))).collect();
        assert_eq!(keys, [("c", "key c".to_owned()), ("a", "key a".to_owned())]);
    }

    #[test]
    fn a_mask_with_nothing_behind_it_is_a_violation() {
        let spec = Spec { token: Secret::plain("t"), keys: vec![("a", Secret::Masked)] };
        let error = sealed(&sealer(), spec, None).unwrap_err();
        assert_eq!(error.code(), Code::ResourceInvalid);
        assert_eq!(error.list()[0].pointer, "/keys/0");
        assert_eq!(error.list()[0].code, "secret_masked");
    }

    #[test]
    fn sealed_input_is_refused() {
        let sealer = sealer();
        let spec = Spec { token: Secret::plain("t"), keys: vec![("a", Secret::Masked)] };
        assert!(spec.clone().visit_secrets(&mut RefuseSealed).is_ok());
        let mut spec = sealed(&sealer, Spec { keys: vec![], ..spec }, None).unwrap();
        let error = spec.visit_secrets(&mut RefuseSealed).unwrap_err();
        assert_eq!(error.list()[0].code, "secret_sealed");
        assert_eq!(error.list()[0].pointer, "/token");
    }

    #[test]
    fn resealed_secrets_open_for_the_other_record_only() {
        let sealer = sealer();
        let other = Owner { id: "two", ..OWNER };
        let spec = Spec { token: Secret::plain("t"), keys: vec![("a", Secret::plain("k"))] };
        let stored = sealed(&sealer, spec, None).unwrap();
        let mut copy = stored.clone();
        copy.visit_secrets(&mut Reseal::new(&sealer, OWNER, other)).unwrap();
        let open = |owner, slot, secret| Opener::new(&sealer, owner).open(slot, secret);
        assert_eq!(open(other, "token", &copy.token).unwrap().expose(), "t");
        assert_eq!(open(other, "keys", &copy.keys[0].1).unwrap().expose(), "k");
        for (owner, secret) in [(OWNER, &copy.token), (other, &stored.token)] {
            assert_eq!(open(owner, "token", secret).unwrap_err().code(), Code::KeyUnreadable);
        }
        let mut masked = Spec { token: Secret::Masked, keys: vec![] };
        let error = masked.visit_secrets(&mut Reseal::new(&sealer, OWNER, other)).unwrap_err();
        assert_eq!(error.code(), Code::SecretInvalid);
    }

    #[test]
    fn a_secret_of_another_slot_or_owner_does_not_open() {
        let sealer = sealer();
        let spec = Spec { token: Secret::plain("t"), keys: vec![] };
        let spec = sealed(&sealer, spec, None).unwrap();
        assert_eq!(Opener::new(&sealer, OWNER).open("token", &spec.token).unwrap().expose(), "t");
        for (owner, slot) in [(OWNER, "keys"), (Owner { org: "other", ..OWNER }, "token")] {
            let error = Opener::new(&sealer, owner).open(slot, &spec.token).unwrap_err();
            assert_eq!(error.code(), Code::KeyUnreadable);
        }
        let error = Opener::new(&sealer, OWNER).open("token", &Secret::Masked).unwrap_err();
        assert_eq!(error.code(), Code::SecretInvalid);
    }
}
