//! The keys of issuers as this node knows them.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio_util::task::TaskTracker;
use url::Url;

use super::fetch::{self, Metadata};
use super::jwks::KeySet;
use super::spec::Issuer;
use crate::error::{Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::Revision;
use crate::transform::Outlet;

/// How many issuers' keys a node holds.
const ISSUERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
/// After how long keys are fetched anew.
const FRESH: Duration = Duration::from_secs(600);
/// How long keys are used while their issuer cannot be asked.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How long an issuer is left in peace after it was asked, whatever tokens say.
const PAUSE: Duration = Duration::from_secs(30);

/// The keys of many issuers.
#[derive(Debug)]
pub(crate) struct Keyring {
    rings: Mutex<LruCache<(OrgId, ResourceId), Arc<Ring>>>,
    /// The last number that a set of keys got; no two sets share one.
    generation: AtomicU64,
}

/// The keys of one issuer, as one version of its resource leads to them.
#[derive(Debug)]
struct Ring {
    revision: Revision,
    held: Mutex<Held>,
    /// Held by whoever asks the issuer, so that nobody else does.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Held {
    keys: Option<Keys>,
    fetched: Option<Duration>,
    tried: Option<Duration>,
    failure: Option<Error>,
}

/// A set of keys, and its number: another one of the same issuer has a larger number.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) set: Arc<KeySet>,
    pub(crate) generation: u64,
    /// What the issuer publishes of itself, where it was looked for.
    metadata: Option<Arc<Metadata>>,
}

impl Keys {
    /// An address that the issuer publishes.
    pub(crate) fn address(&self, name: &str) -> Result<Url> {
        let metadata = self.metadata.as_ref();
        metadata.ok_or_else(|| fetch::unusable(format!("its `{name}` is not known")))?.address(name)
    }
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) org: &'a OrgId,
    pub(crate) id: &'a ResourceId,
    pub(crate) revision: Revision,
    /// Which ones were not enough, as a token names a key that is not among them.
    pub(crate) beyond: Option<u64>,
    /// By a clock that only goes forward.
    pub(crate) now: Duration,
}

impl Default for Keyring {
    fn default() -> Self {
        Self { rings: Mutex::new(LruCache::new(ISSUERS)), generation: AtomicU64::new(0) }
    }
}

impl Keyring {
    /// The keys of an issuer: those that are written in its resource, or those it publishes.
    ///
    /// Published ones are fetched at most twice a minute, by one caller at a time. While that
    /// fails, those from before are used for a day.
    ///
    /// # Errors
    ///
    /// [`Code::IssuerUnavailable`](crate::Code::IssuerUnavailable) where there are none.
    ///
    /// # Cancellation
    ///
    /// A request that was begun is ended whether or not anybody waits for it, so that callers who
    /// hang up make neither more requests nor failures of those who stay.
    pub(crate) async fn keys(
        &self,
        issuer: &Arc<Issuer>,
        outlet: Option<Outlet>,
        wanted: Wanted<'_>,
        tasks: &TaskTracker,
    ) -> Result<Keys> {
        if let Some(set) = &issuer.jwks {
            return Ok(Keys { set: Arc::clone(set), generation: 0, metadata: None });
        }
        let ring = self.ring(wanted);
        if let Some(keys) = ring.held().usable(wanted) {
            return Ok(keys);
        }
        let old = ring.held().old(wanted.now).filter(|_| wanted.beyond.is_none());
        let asking = match (Arc::clone(&ring.asking).try_lock_owned(), old) {
            (Ok(asking), _) => asking,
            (Err(_), Some(keys)) => return Ok(keys),
            (Err(_), None) => Arc::clone(&ring.asking).lock_owned().await,
        };
        // Whoever asked before may have got them.
        if let Some(keys) = ring.held().usable(wanted) {
            return Ok(keys);
        }
        if let Some(answer) = ring.held().resting(wanted.now) {
            return answer;
        }
        let outlet = outlet.ok_or_else(|| fetch::unusable("this engine has no way out"))?;
        let (issuer, now) = (Arc::clone(issuer), wanted.now);
        let next = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let asked = tasks.spawn(async move {
            let fetched = fetch::keys(&issuer, &outlet).await;
            let answer = ring.held().take(fetched, next, now);
            drop(asking);
            answer
        });
        // Why it broke off could be told in any words.
        asked.await.map_err(|_| fetch::unusable("the request broke off; see the log"))?
    }

    fn ring(&self, wanted: Wanted<'_>) -> Arc<Ring> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (wanted.org.clone(), wanted.id.clone());
        match rings.get(&key) {
            Some(ring) if ring.revision == wanted.revision => Arc::clone(ring),
            _ => {
                let ring = Arc::new(Ring {
                    revision: wanted.revision,
                    held: Mutex::default(),
                    asking: Arc::default(),
                });
                rings.put(key, Arc::clone(&ring));
                ring
            }
        }
    }
}

impl Ring {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The keys, where they are fresh and more than those that were not enough.
    fn usable(&self, wanted: Wanted<'_>) -> Option<Keys> {
        let keys = self.keys.as_ref()?;
        let fresh = wanted.now.saturating_sub(self.fetched?) < FRESH;
        let enough = wanted.beyond.is_none_or(|known| known != keys.generation);
        (fresh && enough).then(|| keys.clone())
    }

    /// The keys, where they may be used at all.
    fn old(&self, now: Duration) -> Option<Keys> {
        let kept = now.saturating_sub(self.fetched?) < KEPT;
        self.keys.clone().filter(|_| kept)
    }

    /// What is answered while the issuer is left in peace; none when it can be asked.
    fn resting(&self, now: Duration) -> Option<Result<Keys>> {
        if now.saturating_sub(self.tried?) >= PAUSE {
            return None;
        }
        let failure =
            || self.failure.clone().unwrap_or_else(|| fetch::unusable("it was just asked"));
        Some(self.old(now).ok_or_else(failure))
    }

    fn take(
        &mut self,
        fetched: Result<(KeySet, Option<Metadata>)>,
        next: u64,
        now: Duration,
    ) -> Result<Keys> {
        self.tried = Some(now);
        match fetched {
            Ok((set, metadata)) => {
                let same = self.keys.take().filter(|keys| *keys.set == set);
                let generation = same.map_or(next, |same| same.generation);
                let keys =
                    Keys { set: Arc::new(set), generation, metadata: metadata.map(Arc::new) };
                (self.fetched, self.failure) = (Some(now), None);
                Ok(self.keys.insert(keys).clone())
            }
            Err(error) => {
                tracing::warn!(icp.error = error.code().as_str(), "{error}");
                self.failure = Some(error.clone());
                self.old(now).ok_or(error)
            }
        }
    }
}
