//! Who holds a token of an outside issuer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use sha2::{Digest, Sha256};

use super::Engine;
use super::access::{CATCH_UP, REMEMBERED, present};
use super::introspection::Told;
use crate::access::{Principal, resolve};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::issuer::{
    Identified, Issuer, IssuerSpec, Jws, Keyring, Keys, MAX_TOKEN, Refusal, Wanted, handle_of,
};
use crate::resource::{OrgEntry, Revision, Spec};
use crate::time::Timestamp;
use crate::transform::Outlet;

/// What a node knows of outside issuers and their tokens.
#[derive(Debug)]
pub(super) struct Outside {
    keyring: Keyring,
    /// Issuers by their handles.
    found: Mutex<LruCache<String, (OrgId, ResourceId)>>,
    /// Tokens that were proved, by their hash.
    proved: Mutex<LruCache<[u8; 32], Proved>>,
    /// What issuers said of tokens, by the hash of who was asked and about what.
    told: Mutex<LruCache<[u8; 32], Told>>,
}

/// A token that was proved, and by what: it counts no more once that has changed.
#[derive(Clone, Debug)]
struct Proved {
    org: OrgId,
    id: ResourceId,
    revision: Revision,
    /// Which keys of the issuer it was proved by.
    generation: u64,
    until: Timestamp,
    who: Identified,
}

/// An issuer as this node knows it at the moment.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) home: Arc<OrgEntry>,
    pub(super) id: ResourceId,
    pub(super) revision: Revision,
    pub(super) issuer: Arc<Issuer>,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            keyring: Keyring::default(),
            found: Mutex::new(LruCache::new(REMEMBERED)),
            proved: Mutex::new(LruCache::new(REMEMBERED)),
            told: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

impl Outside {
    fn found(&self) -> MutexGuard<'_, LruCache<String, (OrgId, ResourceId)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proved(&self) -> MutexGuard<'_, LruCache<[u8; 32], Proved>> {
        self.proved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, LruCache<[u8; 32], Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The holder of a JSON Web Token.
    pub(super) async fn token_principal(&self, token: &str) -> Result<Option<Principal>> {
        if token.len() > MAX_TOKEN {
            return Ok(None);
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let known = self.core.access.outside.proved().get(&hash).cloned();
        if let Some(proved) = known {
            if self.still_holds(&proved).await? {
                return self.identified(&proved.who).await;
            }
            self.core.access.outside.proved().pop(&hash);
        }
        match self.prove(token).await? {
            Ok(proved) => {
                let principal = self.identified(&proved.who).await?;
                self.core.access.outside.proved().put(hash, proved);
                Ok(principal)
            }
            Err(refusal) => {
                tracing::debug!("a token of an outside issuer was refused: {refusal}");
                Ok(None)
            }
        }
    }

    async fn still_holds(&self, proved: &Proved) -> Result<bool> {
        let Some(known) = self.issuer(&proved.org, &proved.id).await? else { return Ok(false) };
        if known.revision != proved.revision || self.now() >= proved.until {
            return Ok(false);
        }
        Ok(self.keys_of(&known, None).await?.generation == proved.generation)
    }

    async fn prove(&self, token: &str) -> Result<Result<Proved, Refusal>> {
        let token = match Jws::read(token) {
            Ok(token) => token,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(known) = self.issuer_of(&token).await? else { return Ok(Err(Refusal::Issuer)) };
        let mut keys = self.keys_of(&known, None).await?;
        if !keys.set.knows(&token) {
            keys = self.keys_of(&known, Some(keys.generation)).await?;
        }
        let rules = &known.issuer.rules;
        let proved = rules.verify(token, &keys.set, self.now()).and_then(|(claims, until)| {
            Ok(Proved {
                org: known.home.org().clone(),
                id: known.id.clone(),
                revision: known.revision,
                generation: keys.generation,
                until,
                who: known.issuer.identify(&claims, known.home.org(), &known.id)?,
            })
        });
        Ok(proved)
    }

    /// What the holder of a proved token may do now.
    pub(super) async fn identified(&self, who: &Identified) -> Result<Option<Principal>> {
        let Some(home) = present(&self.core, &who.home).await? else { return Ok(None) };
        let principal = resolve(Principal::new(who.name.as_str()), &who.grants, &home)?;
        Ok(Some(match who.scopes {
            Some(scopes) => principal.narrowed_to(scopes),
            None => principal,
        }))
    }

    /// The one issuer that a token can be of, by what it says of itself.
    async fn issuer_of(&self, token: &Jws<'_>) -> Result<Option<Known>> {
        let claims = token.unproved();
        let (Ok(Some(named)), Ok(audiences)) = (claims.text("iss"), claims.audiences()) else {
            return Ok(None);
        };
        let mut one: Option<Known> = None;
        for audience in audiences {
            let Some(known) = self.issuer_for(named, audience).await? else { continue };
            let is_other = one
                .as_ref()
                .is_some_and(|one| (one.home.org(), &one.id) != (known.home.org(), &known.id));
            // A token for several organizations is for none: it would be used beyond what each
            // of them knows.
            if is_other {
                return Ok(None);
            }
            one = Some(known);
        }
        Ok(one)
    }

    async fn issuer_for(&self, named: &str, audience: &str) -> Result<Option<Known>> {
        let outside = &self.core.access.outside;
        let handle = handle_of(named, audience);
        let is_it = |known: &Known| {
            let rules = &known.issuer.rules;
            rules.issuer == named && rules.audiences.iter().any(|own| own == audience)
        };
        let remembered = outside.found().get(&handle).cloned();
        if let Some((org, id)) = remembered {
            if let Some(known) = self.issuer(&org, &id).await?.filter(is_it) {
                return Ok(Some(known));
            }
            outside.found().pop(&handle);
        }
        let found = self.core.store.holder(&handle).await?;
        let Some(found) = found.filter(|found| &*found.kind == IssuerSpec::KIND) else {
            return Ok(None);
        };
        let mut known = self.issuer(&found.org, &found.id).await?.filter(is_it);
        if known.is_none() {
            // Another node has just made or changed it.
            self.core.index.feed_once(CATCH_UP).await?;
            known = self.issuer(&found.org, &found.id).await?.filter(is_it);
        }
        if known.is_some() {
            outside.found().put(handle, (found.org, found.id));
        }
        Ok(known)
    }

    /// An issuer whose tokens are good for something.
    pub(super) async fn issuer(&self, org: &OrgId, id: &ResourceId) -> Result<Option<Known>> {
        let Some(home) = present(&self.core, org).await? else { return Ok(None) };
        let Some(resource) = home.resource(IssuerSpec::KIND, id).cloned() else { return Ok(None) };
        let issuer = resource.compiled::<Issuer>()?;
        let known = Known { home, id: id.clone(), revision: resource.revision, issuer };
        Ok(Some(known).filter(|known| known.issuer.enabled))
    }

    pub(super) async fn keys_of(&self, known: &Known, beyond: Option<u64>) -> Result<Keys> {
        let core = &self.core;
        let wanted = Wanted {
            org: known.home.org(),
            id: &known.id,
            revision: known.revision,
            beyond,
            now: core.clock.monotonic(),
        };
        let outlet = self.outlet_of(known).ok();
        core.access.outside.keyring.keys(&known.issuer, outlet, wanted, &core.tasks).await
    }

    /// How an issuer is asked: as its organization may send.
    pub(super) fn outlet_of(&self, known: &Known) -> Result<Outlet> {
        self.core.way_out(&*known.home.organization()?).ok_or_else(|| {
            Error::new(Code::IssuerUnavailable, "this engine has no way out to issuers")
        })
    }
}
