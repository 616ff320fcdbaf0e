//! What a node knows of the configuration: organizations loaded on first use, kept up to date
//! by the change feed.

use std::any::Any;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::{Notify, watch};

use super::entry::{OrgEntry, typed};
use super::{Compiled, KindRegistry, ListQuery, Record, Revision, Services, Spec, SpecContext};
use crate::engine::doze::Doze;
use crate::error::{Code, Error, Result, unwound};
use crate::id::OrgId;
use crate::source::SourceSpec;
use crate::store::{PageQuery, Store};

const PAGE: usize = 500;

/// The configuration of organizations, compiled and ready for use, on one node.
///
/// A write made through this node is seen at once, a write of another node when the feed brings
/// it. The least recently used organization makes room when the capacity is reached.
#[derive(Debug)]
pub struct Index {
    store: Arc<dyn Store>,
    registry: Arc<KindRegistry>,
    services: Services,
    slots: Mutex<Slots>,
    seen: watch::Sender<Revision>,
    /// Says that an event source was changed.
    sources: Notify,
    /// Whether the node dozes, so that the feed is not read.
    doze: Doze,
}

#[derive(Debug)]
struct Slots {
    ready: LruCache<OrgId, Arc<OrgEntry>>,
    /// Apart from the cache: making room must not lose the changes that wait here.
    loading: HashMap<OrgId, Loading>,
    /// Up to where the feed has been read. Set by whoever reads the store first, so that the
    /// feed goes on where the oldest entry ends.
    position: Option<Revision>,
}

type Outcome = Option<Result<Arc<OrgEntry>>>;

/// An organization being read from the store.
#[derive(Debug)]
struct Loading {
    /// Changes that arrived meanwhile.
    pending: Vec<Record>,
    outcome: watch::Receiver<Outcome>,
}

enum Turn {
    Load(watch::Sender<Outcome>),
    Wait(watch::Receiver<Outcome>),
}

impl Index {
    /// An empty index that holds at most `capacity` organizations.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        registry: Arc<KindRegistry>,
        services: Services,
        capacity: NonZeroUsize,
    ) -> Self {
        let slots =
            Slots { ready: LruCache::new(capacity), loading: HashMap::new(), position: None };
        let seen = watch::Sender::new(Revision::ZERO);
        let (slots, sources, doze) = (Mutex::new(slots), Notify::new(), Doze::default());
        Self { store, registry, services, slots, seen, sources, doze }
    }

    /// The organization, read from the store where it is not held. Calls at the same time share
    /// one read.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], and those of the store.
    ///
    /// # Cancellation
    ///
    /// Where the call that reads is dropped, another one reads in its place.
    pub async fn org(&self, org: &OrgId) -> Result<Arc<OrgEntry>> {
        self.rouse().await?;
        self.known(org).await
    }

    /// As [`org`](Self::org), but leaves a node dozing: as it was known before that.
    pub(crate) async fn known(&self, org: &OrgId) -> Result<Arc<OrgEntry>> {
        loop {
            match self.turn(org) {
                Ok(entry) => return Ok(entry),
                Err(Turn::Load(sender)) => {
                    let gate = Gate { index: self, org, open: true };
                    let outcome = gate.close(self.read(org).await);
                    sender.send_replace(Some(outcome.clone()));
                    return outcome;
                }
                Err(Turn::Wait(mut outcome)) => {
                    // An error means that the read was given up: look again.
                    if let Ok(outcome) = outcome.wait_for(Option::is_some).await
                        && let Some(outcome) = &*outcome
                    {
                        return outcome.clone();
                    }
                }
            }
        }
    }

    fn turn(&self, org: &OrgId) -> Result<Arc<OrgEntry>, Turn> {
        let mut slots = self.lock();
        if let Some(entry) = slots.ready.get(org) {
            return Ok(Arc::clone(entry));
        }
        if let Some(loading) = slots.loading.get(org) {
            return Err(Turn::Wait(loading.outcome.clone()));
        }
        let (sender, outcome) = watch::channel(None);
        slots.loading.insert(org.clone(), Loading { pending: Vec::new(), outcome });
        Err(Turn::Load(sender))
    }

    async fn read(&self, org: &OrgId) -> Result<OrgEntry> {
        let head = self.store.head().await?;
        self.lock().position.get_or_insert(head);
        let mut records = Vec::new();
        for kind in self.registry.iter() {
            let mut page = PageQuery { after: None, limit: PAGE };
            loop {
                let query = ListQuery { labels: Vec::new(), page: page.clone() };
                let found = self.store.resources(org, kind.name(), &query).await?;
                page.after = found.items.last().map(|record| record.id.clone());
                records.extend(found.items);
                if !found.more {
                    break;
                }
            }
        }
        Ok(OrgEntry::new(org.clone(), records, head, self))
    }

    /// Takes changes in, from this node's own writes or from the feed, in any order.
    pub fn apply(&self, records: &[Record]) {
        if records.iter().any(|record| *record.kind == *SourceSpec::KIND) {
            self.sources.notify_one();
        }
        let mut by_org: HashMap<&OrgId, Vec<Record>> = HashMap::new();
        for record in records {
            by_org.entry(&record.org).or_default().push(record.clone());
        }
        let mut guard = self.lock();
        let slots = &mut *guard;
        for (org, records) in by_org {
            if let Some(loading) = slots.loading.get_mut(org) {
                loading.pending.extend(records);
            } else if let Some(entry) = slots.ready.peek_mut(org) {
                let mut changed = OrgEntry::clone(entry);
                changed.take(records, self);
                changed.forget(slots.position);
                if changed.exists() {
                    *entry = Arc::new(changed);
                } else {
                    slots.ready.pop(org);
                }
            }
        }
    }

    /// Reads up to `limit` changes of the feed; answers how many there were.
    ///
    /// # Errors
    ///
    /// Those of the store; nothing is skipped.
    pub async fn feed_once(&self, limit: usize) -> Result<usize> {
        let position = self.begin().await?;
        let changes = self.store.changes(position, limit).await?;
        self.apply(&changes);
        let reached = changes.last().map_or(position, |last| last.revision);
        let mut slots = self.lock();
        slots.position = slots.position.max(Some(reached));
        drop(slots);
        self.saw(reached);
        Ok(changes.len())
    }

    /// Whether the node dozes.
    pub(crate) fn doze(&self) -> &Doze {
        &self.doze
    }

    /// Takes in what changed while the node dozed, and ends that.
    ///
    /// # Errors
    ///
    /// Those of the store; the node dozes on.
    pub(crate) async fn rouse(&self) -> Result<()> {
        if self.doze.dozes() {
            while self.feed_once(PAGE).await? == PAGE {}
            self.doze.end();
        }
        Ok(())
    }

    /// Up to where the feed has been read. Where that was nowhere, it is read from now on: what is
    /// read of the store after this is at least as new.
    pub(crate) async fn begin(&self) -> Result<Revision> {
        let known = self.lock().position;
        match known {
            Some(position) => Ok(position),
            None => {
                let head = self.store.head().await?;
                Ok(*self.lock().position.get_or_insert(head))
            }
        }
    }

    /// Waits until an event source was changed since the last call.
    pub(crate) async fn sources_changed(&self) {
        self.sources.notified().await;
    }

    /// Waits until the feed has brought every change up to `revision`.
    pub async fn at_least(&self, revision: Revision) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.seen.subscribe().wait_for(|seen| *seen >= revision).await;
    }

    fn saw(&self, revision: Revision) {
        self.seen.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn knows_kind(&self, kind: &str) -> bool {
        self.registry.get(kind).is_ok()
    }

    pub(super) fn compile(&self, record: &Record) -> Result<Compiled> {
        let context = SpecContext {
            org: &record.org,
            kind: &record.kind,
            id: &record.id,
            name: record.name.as_deref(),
            services: &self.services,
            within: None,
            grantor: None,
        };
        let kind = self.registry.get(&record.kind)?;
        unwound("compile the resource", || kind.compile(&context, &record.spec))
    }

    /// Compiles a stored version, which needs not be the present one.
    ///
    /// # Errors
    ///
    /// Those of the kind.
    pub fn compiled<T: Any + Send + Sync>(&self, record: &Record) -> Result<Arc<T>> {
        typed(&self.compile(record)?)
    }
}

/// Ends a read however it ends, so that the next call does not wait for one that was dropped.
struct Gate<'a> {
    index: &'a Index,
    org: &'a OrgId,
    open: bool,
}

impl Gate<'_> {
    /// Brings what was read up to date with what arrived meanwhile, and keeps it.
    fn close(mut self, read: Result<OrgEntry>) -> Result<Arc<OrgEntry>> {
        let mut entry = read?;
        let mut slots = self.index.lock();
        self.open = false;
        if let Some(loading) = slots.loading.remove(self.org) {
            entry.take(loading.pending, self.index);
        }
        entry.forget(slots.position);
        if !entry.exists() {
            let message = format!("there is no organization `{}`; create it first", self.org);
            return Err(Error::new(Code::OrganizationUnknown, message));
        }
        let entry = Arc::new(entry);
        slots.ready.put(self.org.clone(), Arc::clone(&entry));
        Ok(entry)
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        if self.open {
            self.index.lock().loading.remove(self.org);
        }
    }
}

#[cfg(test)]
mod tests;
