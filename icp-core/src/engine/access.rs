//! Who calls the engine, and how that is proved.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lru::LruCache;
use serde_json::json;

use super::Engine;
use super::core::Core;
use super::issuers::Outside;
use crate::access::{
    ACCESS, ApiKey, ApiKeySpec, Buckets, BuiltInRole, KeyHolder, OPERATORS, OrganizationSpec,
    Passwords, Principal, Quota, RateLimit, Verifier, handle_of, resolve,
};
use crate::error::{Code, Error, Result};
use crate::id::{ApiKeyId, OrgId, ResourceId};
use crate::issuer::is_opaque;
use crate::resource::{Actor, Draft, Note, OrgEntry, Spec};
use crate::slot::{NewSlot, SlotExpect};
use crate::time::Timestamp;

/// How many keys and sessions a node remembers.
pub(super) const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
/// How exactly the last use of a key is known.
const USE_GRAIN: Duration = Duration::from_secs(60);
/// How long the last use of a key is known.
const USE_KEPT: Duration = Duration::from_secs(400 * 86_400);
/// How many changes are read to find a key that another node has just made.
pub(super) const CATCH_UP: usize = 1_000;

/// How often somebody may fail to prove who they are, by where they come from.
const FAILURES: RateLimit = RateLimit { requests: 60, seconds: 60 };

/// How often the work of one principal in one other organization is noted.
const CROSSINGS: RateLimit = RateLimit { requests: 1, seconds: 600 };

/// What a node knows of who calls.
#[derive(Debug)]
pub(crate) struct Access {
    /// The organizations of keys, and when their use was last noted.
    keys: Mutex<LruCache<ApiKeyId, KnownKey>>,
    /// Sessions that were found going on, and when.
    sessions: Mutex<LruCache<u128, Duration>>,
    pub(super) buckets: Buckets,
    pub(super) passwords: Passwords,
    pub(super) outside: Outside,
}

#[derive(Clone, Debug)]
struct KnownKey {
    home: OrgId,
    noted: Option<Duration>,
    resolved: Option<Resolved>,
}

/// Who holds a key, as it was made of what the organization was then.
#[derive(Clone, Debug)]
struct Resolved {
    holder: Weak<KeyHolder>,
    home: Weak<OrgEntry>,
    principal: Principal,
}

impl Resolved {
    fn is_of(&self, home: &Arc<OrgEntry>, holder: &Arc<KeyHolder>) -> bool {
        std::ptr::eq(self.home.as_ptr(), Arc::as_ptr(home))
            && std::ptr::eq(self.holder.as_ptr(), Arc::as_ptr(holder))
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            keys: Mutex::new(LruCache::new(REMEMBERED)),
            sessions: Mutex::new(LruCache::new(REMEMBERED)),
            buckets: Buckets::default(),
            passwords: Passwords::default(),
            outside: Outside::default(),
        }
    }
}

impl Access {
    fn keys(&self) -> MutexGuard<'_, LruCache<ApiKeyId, KnownKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The holder of a key, where nothing in its organization has changed since it was resolved.
    fn resolved(
        &self,
        id: ApiKeyId,
        home: &Arc<OrgEntry>,
        holder: &Arc<KeyHolder>,
    ) -> Option<Principal> {
        let mut keys = self.keys();
        let resolved = keys.get(&id)?.resolved.as_ref()?;
        resolved.is_of(home, holder).then(|| resolved.principal.clone())
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, LruCache<u128, Duration>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Who holds `credential`: an API key, the access token of a session, or a token of an outside
    /// issuer. None where it proves nothing; why is not told.
    ///
    /// # Errors
    ///
    /// [`Code::IssuerUnavailable`] where the issuer of a token cannot be asked for its keys, and
    /// those of the store.
    pub async fn authenticate(&self, credential: &str) -> Result<Option<Principal>> {
        self.authenticate_at(credential, None).await
    }

    /// As [`authenticate`](Self::authenticate), for a request to the organization `at`, whose
    /// issuer is asked about a token that says nothing by itself.
    ///
    /// # Errors
    ///
    /// As [`authenticate`](Self::authenticate), and [`Code::RateLimited`] where an issuer would be
    /// asked more often than 600 times in a minute.
    pub async fn authenticate_at(
        &self,
        credential: &str,
        at: Option<&OrgId>,
    ) -> Result<Option<Principal>> {
        if let Some(token) = credential.strip_prefix(ACCESS) {
            return self.session_principal(token).await;
        }
        if is_opaque(credential) {
            return self.opaque_principal(credential, at).await;
        }
        // No key of ours has a dot in it.
        if credential.contains('.') {
            return self.token_principal(credential).await;
        }
        let Ok(key) = ApiKey::parse(credential) else { return Ok(None) };
        let known = self.key_principal(&key).await?;
        if known.is_some() {
            self.note_use(key.id());
        }
        Ok(known.map(|(principal, _)| principal))
    }

    /// The holder of a key that is good, and until when it is.
    pub(super) async fn key_principal(
        &self,
        key: &ApiKey,
    ) -> Result<Option<(Principal, Option<Timestamp>)>> {
        let Some((home, holder)) = self.key_holder(key.id()).await? else { return Ok(None) };
        if !holder.accepts(key, self.now()) {
            return Ok(None);
        }
        let id = key.id();
        if let Some(principal) = self.core.access.resolved(id, &home, &holder) {
            return Ok(Some((principal, holder.expires_at)));
        }
        let principal = Principal::new(format!("key:{id}"));
        let mut principal = resolve(principal, &holder.grants, &home)?;
        if let Some(scopes) = holder.scopes {
            principal = principal.narrowed_to(scopes);
        }
        if let Some(limit) = holder.rate_limit {
            principal = principal.limited_to(limit);
        }
        if let Some(known) = self.core.access.keys().get_mut(&id) {
            let (home, holder) = (Arc::downgrade(&home), Arc::downgrade(&holder));
            known.resolved = Some(Resolved { holder, home, principal: principal.clone() });
        }
        Ok(Some((principal, holder.expires_at)))
    }

    async fn key_holder(&self, id: ApiKeyId) -> Result<Option<(Arc<OrgEntry>, Arc<KeyHolder>)>> {
        let access = &self.core.access;
        let known = access.keys().get(&id).map(|known| known.home.clone());
        let home = match known {
            Some(home) => home,
            None => {
                let found = self.core.store.holder(&handle_of(&id.to_string())).await?;
                let Some(found) = found.filter(|found| &*found.kind == ApiKeySpec::KIND) else {
                    return Ok(None);
                };
                let known = KnownKey { home: found.org.clone(), noted: None, resolved: None };
                access.keys().put(id, known);
                if self.held(&found.org, id).await?.is_none() {
                    // Another node has just made it.
                    self.core.index.feed_once(CATCH_UP).await?;
                }
                found.org
            }
        };
        let held = self.held(&home, id).await?;
        if held.is_none() {
            access.keys().pop(&id);
        }
        Ok(held)
    }

    async fn held(
        &self,
        home: &OrgId,
        id: ApiKeyId,
    ) -> Result<Option<(Arc<OrgEntry>, Arc<KeyHolder>)>> {
        let Some(entry) = present(&self.core, home).await? else { return Ok(None) };
        let Ok(name) = ResourceId::new(id.to_string()) else { return Ok(None) };
        let Some(resource) = entry.resource(ApiKeySpec::KIND, &name) else { return Ok(None) };
        let holder = resource.compiled::<KeyHolder>()?;
        Ok(Some((entry, holder)))
    }

    /// Notes that a key was used, now and then and beside the request: what is known of it is not
    /// worth one that waits.
    fn note_use(&self, id: ApiKeyId) {
        let now = self.core.clock.monotonic();
        {
            let mut keys = self.core.access.keys();
            let Some(known) = keys.get_mut(&id) else { return };
            if known.noted.is_some_and(|noted| now.saturating_sub(noted) < USE_GRAIN) {
                return;
            }
            known.noted = Some(now);
        }
        let core = Arc::clone(&self.core);
        self.core.tasks.spawn(async move {
            let (key, now) = (used_slot(id), core.clock.now());
            let noted = async {
                let before = core.store.slot(&key, now).await?;
                let expect =
                    before.map_or(SlotExpect::Absent, |slot| SlotExpect::Version(slot.version));
                let value = now.to_string();
                let slot = NewSlot { key, value, expires_at: now + USE_KEPT };
                core.store.put_slot(slot, expect, now).await
            };
            if let Err(error) = noted.await {
                tracing::debug!(icp.error = error.code().as_str(), "a key's use was not noted");
            }
        });
    }

    /// When the key was last used, to the minute, in the last 400 days.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn key_last_used(&self, id: ApiKeyId) -> Result<Option<Timestamp>> {
        let slot = self.core.store.slot(&used_slot(id), self.now()).await?;
        Ok(slot.and_then(|slot| slot.value.parse().ok()))
    }

    /// Takes one request from what the principal may send on this node; none where it is not
    /// limited.
    #[must_use]
    pub fn take_quota(&self, principal: &Principal) -> Option<Quota> {
        let limit = principal.limit()?;
        let name = format!("principal:{}", principal.name());
        Some(self.core.access.buckets.take(&name, limit, self.core.clock.monotonic()))
    }

    /// Notes that somebody at `place`, an address say, failed to prove who they are; answers what
    /// is left of their tries.
    #[must_use]
    pub fn note_failure(&self, place: &str) -> Quota {
        let name = format!("failure:{place}");
        self.core.access.buckets.take(&name, FAILURES, self.core.clock.monotonic())
    }

    /// Notes in the audit log of `org` that a principal of another organization is at work in it:
    /// once, and again when that was ten minutes ago, on each node.
    ///
    /// # Errors
    ///
    /// Those of the store: what is not told must not be done.
    pub async fn note_crossing(&self, org: &OrgId, actor: &Actor) -> Result<()> {
        let name = format!("crossing:{}:{org}", actor.name);
        let now = self.core.clock.monotonic();
        if !self.core.access.buckets.take(&name, CROSSINGS, now).allowed
            || present(&self.core, org).await?.is_none()
        {
            return Ok(());
        }
        let note = Note {
            org: org.clone(),
            actor: actor.clone(),
            action: "cross".into(),
            kind: OrganizationSpec::KIND.into(),
            id: ResourceId::new(org.as_str())?,
            note: Some("somebody of another organization is at work here".into()),
            now: self.now(),
        };
        self.core.store.note(note).await.map(drop)
    }

    /// Makes the operators' organization and, in it, a key that may do everything, where there is
    /// none yet; answers whether it did.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] where the engine has no keys to seal with, and those of the store.
    pub async fn bootstrap_key(&self, key: &ApiKey) -> Result<bool> {
        let id = ResourceId::new(key.id().to_string())?;
        let spec = json!({
            "grants": [{ "role": BuiltInRole::SuperAdmin.as_str(), "organization": "*" }],
            "verifier": Verifier::text_of(key),
        });
        self.bootstrap(ApiKeySpec::KIND, draft(Some(id), "First key", spec)).await
    }

    /// Makes the operators' organization with one principal in it, or nothing where that is there.
    pub(super) async fn bootstrap(&self, kind: &str, principal: Draft) -> Result<bool> {
        let org = OrgId::new(OPERATORS)?;
        let first = draft(None, "Operators", json!({}));
        let drafts = vec![(OrganizationSpec::KIND, first), (kind, principal)];
        match self.core.resources.found(&org, drafts, &Actor::engine()).await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Code::ResourceExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the organization is there and suspended.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn is_suspended(&self, org: &OrgId) -> Result<bool> {
        match present(&self.core, org).await? {
            Some(entry) => Ok(!entry.organization()?.active),
            None => Ok(false),
        }
    }
}

/// The organization as this node knows it; none where there is none.
pub(super) async fn present(core: &Core, org: &OrgId) -> Result<Option<Arc<OrgEntry>>> {
    match core.index.org(org).await {
        Err(error) if error.code() == Code::OrganizationUnknown => Ok(None),
        found => found.map(Some),
    }
}

pub(super) fn draft(id: Option<ResourceId>, name: &str, spec: serde_json::Value) -> Draft {
    Draft { id, name: Some(name.to_owned()), spec, ..Draft::default() }
}

fn used_slot(id: ApiKeyId) -> String {
    format!("used:{id}")
}

/// The failure of who could not prove who they are; why is not told.
pub(super) fn unknown() -> Error {
    Error::new(Code::Unauthenticated, "what was sent does not prove who you are")
}
