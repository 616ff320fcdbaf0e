//! What a node knows of the configuration: organizations loaded on first use, kept up to date
//! by the change feed.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::watch;

use super::{Compiled, KindRegistry, ListQuery, Record, Revision, Services, SpecContext};
use crate::access::{Organization, OrganizationSpec};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::Spec;
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
}

#[derive(Debug)]
struct Slots {
    orgs: LruCache<OrgId, Slot>,
    /// Up to where the feed has been read; `None` before the first read.
    position: Option<Revision>,
}

#[derive(Debug)]
enum Slot {
    /// Being read from the store; changes that arrive meanwhile wait here.
    Loading {
        pending: Vec<Record>,
        done: watch::Receiver<bool>,
    },
    Ready(Arc<OrgEntry>),
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
        let slots = Slots { orgs: LruCache::new(capacity), position: None };
        let seen = watch::Sender::new(Revision::ZERO);
        Self { store, registry, services, slots: Mutex::new(slots), seen }
    }

    /// The organization, read from the store where it is not held.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], and those of the store.
    pub async fn org(&self, org: &OrgId) -> Result<Arc<OrgEntry>> {
        loop {
            let (mut done, loading) = {
                let mut slots = self.lock();
                match slots.orgs.get(org) {
                    Some(Slot::Ready(entry)) => return Ok(Arc::clone(entry)),
                    Some(Slot::Loading { done, .. }) => (done.clone(), None),
                    None => {
                        let (sender, done) = watch::channel(false);
                        let slot = Slot::Loading { pending: Vec::new(), done: done.clone() };
                        slots.orgs.put(org.clone(), slot);
                        (done, Some(sender))
                    }
                }
            };
            if let Some(sender) = loading {
                let _gate = Gate { index: self, org, sender };
                return self.load(org).await;
            }
            // An error means that the load was given up: look again.
            let _ = done.wait_for(|done| *done).await;
        }
    }

    async fn load(&self, org: &OrgId) -> Result<Arc<OrgEntry>> {
        let head = self.store.head().await?;
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
        let mut entry = OrgEntry::empty(org.clone(), head);
        entry.take(records, self);
        let mut slots = self.lock();
        if let Some(Slot::Loading { pending, .. }) = slots.orgs.peek_mut(org) {
            entry.take(std::mem::take(pending), self);
        }
        if !entry.exists() {
            slots.orgs.pop(org);
            let message = format!("there is no organization `{org}`; create it first");
            return Err(Error::new(Code::OrganizationUnknown, message));
        }
        let entry = Arc::new(entry);
        slots.orgs.put(org.clone(), Slot::Ready(Arc::clone(&entry)));
        Ok(entry)
    }

    /// Takes changes in, from this node's own writes or from the feed.
    pub fn apply(&self, records: &[Record]) {
        let mut by_org: HashMap<&OrgId, Vec<Record>> = HashMap::new();
        for record in records {
            by_org.entry(&record.org).or_default().push(record.clone());
        }
        let mut slots = self.lock();
        for (org, records) in by_org {
            match slots.orgs.peek_mut(org) {
                None => {}
                Some(Slot::Loading { pending, .. }) => pending.extend(records),
                Some(Slot::Ready(entry)) => {
                    let mut changed = OrgEntry::clone(entry);
                    changed.take(records, self);
                    if changed.exists() {
                        *entry = Arc::new(changed);
                    } else {
                        slots.orgs.pop(org);
                    }
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
        let position = self.lock().position;
        let Some(position) = position else {
            // What is loaded from now on is at least as new as this.
            let head = self.store.head().await?;
            self.lock().position.get_or_insert(head);
            self.saw(head);
            return Ok(0);
        };
        let changes = self.store.changes(position, limit).await?;
        self.apply(&changes);
        if let Some(last) = changes.last() {
            let mut slots = self.lock();
            slots.position = slots.position.max(Some(last.revision));
            drop(slots);
            self.saw(last.revision);
        }
        Ok(changes.len())
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

    fn compile(&self, record: &Record) -> Result<Compiled> {
        let context = SpecContext {
            org: &record.org,
            kind: &record.kind,
            id: &record.id,
            services: &self.services,
        };
        self.registry.get(&record.kind)?.compile(&context, &record.spec)
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

/// Ends a load however it ends, so that nobody waits for one that was dropped.
struct Gate<'a> {
    index: &'a Index,
    org: &'a OrgId,
    sender: watch::Sender<bool>,
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        let mut slots = self.index.lock();
        if let Some(Slot::Loading { done, .. }) = slots.orgs.peek(self.org)
            && done.same_channel(&self.sender.subscribe())
        {
            slots.orgs.pop(self.org);
        }
        drop(slots);
        let _ = self.sender.send(true);
    }
}

/// One organization with its resources, as of a revision.
#[derive(Debug)]
pub struct OrgEntry {
    org: OrgId,
    revision: Revision,
    resources: BTreeMap<Arc<str>, BTreeMap<ResourceId, Arc<Entry>>>,
    derived: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// A resource in the index.
#[derive(Debug)]
pub struct Entry {
    /// The revision of the version that is held.
    pub revision: Revision,
    /// A name for people.
    pub name: Option<String>,
    compiled: Result<Compiled>,
}

impl Clone for OrgEntry {
    fn clone(&self) -> Self {
        Self {
            org: self.org.clone(),
            revision: self.revision,
            resources: self.resources.clone(),
            derived: Mutex::default(),
        }
    }
}

impl OrgEntry {
    fn empty(org: OrgId, revision: Revision) -> Self {
        Self { org, revision, resources: BTreeMap::new(), derived: Mutex::default() }
    }

    fn take(&mut self, records: Vec<Record>, index: &Index) {
        for record in records {
            self.revision = self.revision.max(record.revision);
            let kind = self.resources.entry(Arc::clone(&record.kind)).or_default();
            if kind.get(&record.id).is_some_and(|held| held.revision >= record.revision) {
                continue;
            }
            if record.deleted {
                kind.remove(&record.id);
                continue;
            }
            let compiled = index.compile(&record);
            if let Err(error) = &compiled {
                tracing::error!(
                    icp.org = %record.org,
                    icp.resource.kind = %record.kind,
                    icp.resource.id = %record.id,
                    icp.error = error.code().as_str(),
                    "a stored resource cannot be used: {error}"
                );
            }
            let entry = Entry { revision: record.revision, name: record.name, compiled };
            kind.insert(record.id, Arc::new(entry));
        }
    }

    fn exists(&self) -> bool {
        self.resources.get(OrganizationSpec::KIND).is_some_and(|kind| !kind.is_empty())
    }

    /// The organization's id.
    #[must_use]
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The revision up to which changes are taken in, at least.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The organization itself.
    ///
    /// # Errors
    ///
    /// Where its stored spec cannot be used.
    pub fn organization(&self) -> Result<Arc<Organization>> {
        let found =
            self.resources.get(OrganizationSpec::KIND).and_then(|kind| kind.values().next());
        let Some(entry) = found else {
            return Err(Error::new(Code::OrganizationUnknown, "there is no such organization"));
        };
        typed(entry.compiled.as_ref().map_err(Clone::clone)?)
    }

    /// The resources of a kind, ordered by id.
    pub fn resources(&self, kind: &str) -> impl Iterator<Item = (&ResourceId, &Arc<Entry>)> {
        self.resources.get(kind).into_iter().flatten()
    }

    /// What the index holds of the resources of a kind: `T` is what the kind compiles to.
    pub fn compiled<T: Any + Send + Sync>(
        &self,
        kind: &str,
    ) -> impl Iterator<Item = (ResourceId, Result<Arc<T>>)> {
        self.resources(kind).map(|(id, entry)| (id.clone(), entry.compiled()))
    }

    /// What is made of the whole organization, once for each of its versions.
    ///
    /// # Errors
    ///
    /// Those of `make`; the next call tries again.
    pub fn derived<T: Any + Send + Sync>(
        self: &Arc<Self>,
        make: impl FnOnce(&Arc<Self>) -> Result<T>,
    ) -> Result<Arc<T>> {
        let key = TypeId::of::<T>();
        let held = self.derived_lock().get(&key).cloned();
        if let Some(held) = held.and_then(|any| any.downcast::<T>().ok()) {
            return Ok(held);
        }
        let made = Arc::new(make(self)?);
        self.derived_lock().insert(key, Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
        Ok(made)
    }

    fn derived_lock(&self) -> MutexGuard<'_, HashMap<TypeId, Arc<dyn Any + Send + Sync>>> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// What the kind compiled it to.
    ///
    /// # Errors
    ///
    /// Where the stored spec cannot be used, or is not compiled to `T`.
    pub fn compiled<T: Any + Send + Sync>(&self) -> Result<Arc<T>> {
        typed(self.compiled.as_ref().map_err(Clone::clone)?)
    }
}

fn typed<T: Any + Send + Sync>(compiled: &Compiled) -> Result<Arc<T>> {
    Arc::clone(compiled).downcast::<T>().map_err(|_| {
        Error::new(Code::Internal, "a kind of resource compiles to another type than was asked for")
    })
}
