//! What a node holds of one organization.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{Compiled, Index, Record, Revision, Spec};
use crate::access::{Organization, OrganizationSpec};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};

/// One organization with its resources, as of a revision.
#[derive(Debug)]
pub struct OrgEntry {
    org: OrgId,
    /// What the store held when this was first read; no older change is news.
    base: Revision,
    revision: Revision,
    resources: BTreeMap<Arc<str>, BTreeMap<ResourceId, Arc<Entry>>>,
    /// Deletions that the feed has not passed yet: an older version that arrives after one must
    /// not bring the resource back.
    gone: HashMap<(Arc<str>, ResourceId), Revision>,
    derived: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// A resource in the index.
#[derive(Debug)]
pub struct Entry {
    /// The revision of the version that is held.
    pub revision: Revision,
    /// A name for people.
    pub name: Option<String>,
    /// What the engine noted about it; `null` where there is nothing.
    pub status: Value,
    compiled: Result<Compiled>,
}

impl Clone for OrgEntry {
    fn clone(&self) -> Self {
        Self {
            org: self.org.clone(),
            base: self.base,
            revision: self.revision,
            resources: self.resources.clone(),
            gone: self.gone.clone(),
            derived: Mutex::default(),
        }
    }
}

impl OrgEntry {
    /// What a read of the store found that began when the latest write was `head`.
    pub(super) fn new(org: OrgId, found: Vec<Record>, head: Revision, index: &Index) -> Self {
        let mut entry = Self {
            org,
            base: Revision::ZERO,
            revision: head,
            resources: BTreeMap::new(),
            gone: HashMap::new(),
            derived: Mutex::default(),
        };
        entry.take(found, index);
        entry.base = head;
        entry
    }

    /// Takes changes in, in any order.
    pub(super) fn take(&mut self, records: Vec<Record>, index: &Index) {
        for record in records {
            self.revision = self.revision.max(record.revision);
            // A kind that only newer nodes know is theirs to use.
            if !index.knows_kind(&record.kind) || self.knows(&record) {
                continue;
            }
            let kind = self.resources.entry(Arc::clone(&record.kind)).or_default();
            if record.deleted {
                kind.remove(&record.id);
                self.gone.insert((record.kind, record.id), record.revision);
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
            let entry = Entry {
                revision: record.revision,
                name: record.name,
                status: record.status,
                compiled,
            };
            kind.insert(record.id, Arc::new(entry));
        }
    }

    /// Takes a change in that is not written yet.
    pub(super) fn foresee(&mut self, mut record: Record, index: &Index) {
        record.revision = Revision(self.revision.0 + 1);
        self.derived = Mutex::default();
        self.take(vec![record], index);
    }

    /// Whether this version or a newer one was taken in before.
    fn knows(&self, record: &Record) -> bool {
        let held = self.resources.get(&record.kind).and_then(|kind| kind.get(&record.id));
        let gone = || self.gone.get(&(Arc::clone(&record.kind), record.id.clone())).copied();
        match held.map(|held| held.revision).or_else(gone) {
            Some(known) => record.revision <= known,
            // The read that this began with found the present versions only.
            None => record.revision <= self.base,
        }
    }

    /// Drops the deletions that the feed has passed.
    pub(super) fn forget(&mut self, position: Option<Revision>) {
        self.gone.retain(|_, revision| Some(*revision) > position);
    }

    pub(super) fn exists(&self) -> bool {
        self.resources.get(OrganizationSpec::KIND).is_some_and(|kind| !kind.is_empty())
    }

    /// The organization's id.
    #[must_use]
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The latest revision that was taken in. A smaller one of another node may still be on its
    /// way, as a write of this node does not wait for the feed.
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

    /// A resource of a kind.
    #[must_use]
    pub fn resource(&self, kind: &str, id: &ResourceId) -> Option<&Arc<Entry>> {
        self.resources.get(kind)?.get(id)
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

    /// What is made of the whole organization, once for each of its versions. It must not hold the
    /// entry, which holds it: neither would ever go.
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

pub(super) fn typed<T: Any + Send + Sync>(compiled: &Compiled) -> Result<Arc<T>> {
    Arc::clone(compiled).downcast::<T>().map_err(|_| {
        Error::new(Code::Internal, "a kind of resource compiles to another type than was asked for")
    })
}
