use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;

use super::handle::Handles;
use super::{MemoryStore, State};
use crate::access::Holder;
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{
    AuditEntry, AuditHead, AuditLink, AuditQuery, Change, Effect, Expect, ListQuery, Note,
    NoteStore, Record, ResourceStore, Revision, Write,
};
use crate::store::Page;
use crate::time::Timestamp;

/// The first of all names: a name begins with none of the characters before `-`.
const LOWEST: &str = "-";

pub(super) type Name = (Arc<str>, OrgId, ResourceId);

#[derive(Debug, Default)]
pub(super) struct Resources {
    versions: BTreeMap<Name, Vec<Arc<Record>>>,
    feed: BTreeMap<Revision, Arc<Record>>,
    audit: BTreeMap<(OrgId, Revision), AuditEntry>,
    heads: BTreeMap<OrgId, AuditHead>,
    /// The last number given to a note.
    noted: Revision,
    handles: Handles,
}

impl Resources {
    fn head(&self) -> Revision {
        self.feed.last_key_value().map_or(Revision::ZERO, |(revision, _)| *revision)
    }

    /// The last number given to anything.
    fn last_revision(&self) -> Revision {
        self.head().max(self.noted)
    }

    pub(super) fn note(&mut self, note: &Note) -> Revision {
        let revision = Revision(self.last_revision().0 + 1);
        self.append(note.org.clone(), AuditEntry::of_note(note, revision));
        self.noted = revision;
        revision
    }

    fn append(&mut self, org: OrgId, mut entry: AuditEntry) {
        self.heads.entry(org.clone()).or_default().append(&org, &mut entry);
        self.audit.insert((org, entry.revision), entry);
    }

    pub(super) fn next_org(&self, after: Option<&OrgId>) -> Option<OrgId> {
        let later = |org: &&OrgId| after.is_none_or(|after| *org > after);
        self.audit.keys().map(|(org, _)| org).find(later).cloned()
    }

    pub(super) fn prune_audit(&mut self, org: &OrgId, before: Timestamp, limit: usize) -> usize {
        let rows = self.audit.range((org.clone(), Revision::ZERO)..);
        let rows = rows.take_while(|((of, _), row)| of == org && row.at < before).take(limit);
        let gone: Vec<_> = rows.map(|(key, _)| key.clone()).collect();
        for key in &gone {
            let Some(removed) = self.audit.remove(key) else { continue };
            self.heads.entry(org.clone()).or_default().pruned = AuditLink::of(&removed);
        }
        gone.len()
    }

    pub(super) fn prune_history(&mut self, org: &OrgId, before: Timestamp, limit: usize) -> usize {
        let mut gone = 0;
        for ((_, of, _), versions) in &mut self.versions {
            if of != org {
                continue;
            }
            let replaced = versions.iter().skip(1).take_while(|next| next.updated_at < before);
            let count = replaced.count().min(limit - gone);
            for version in versions.drain(..count) {
                self.feed.remove(&version.revision);
            }
            gone += count;
        }
        gone
    }

    pub(super) fn holder(&self, handle: &str) -> Option<Holder> {
        let (kind, org, id) = self.handles.holder(handle)?.clone();
        Some(Holder { org, kind, id })
    }

    fn last(&self, name: &Name) -> Option<&Arc<Record>> {
        self.versions.get(name)?.last()
    }

    fn present_after(&self, from: Bound<Name>) -> impl Iterator<Item = &Arc<Record>> {
        self.versions
            .range((from, Bound::Unbounded))
            .filter_map(|(_, versions)| versions.last())
            .filter(|record| !record.deleted)
    }

    /// Works out every change before the first is made, so that a refused write leaves nothing.
    fn plan(&self, write: &Write) -> Result<Vec<Planned>> {
        let mut planned: Vec<Planned> = Vec::with_capacity(write.changes.len());
        let mut latest: BTreeMap<Name, Arc<Record>> = BTreeMap::new();
        let mut taken = self.handles.plan();
        let mut revision = self.last_revision();
        for change in &write.changes {
            let name = name_of(&change.record);
            let before = latest.get(&name).or_else(|| self.last(&name)).cloned();
            let live = before.as_deref().filter(|record| !record.deleted);
            check(change, live)?;
            let handles = handles(change);
            if let Some(handles) = &handles {
                taken.set(&name, handles)?;
            }
            revision = Revision(revision.0 + 1);
            let record = Arc::new(next_version(change, before.as_deref(), revision, write.now));
            let audit = AuditEntry::of_change(write, change, live, &record);
            latest.insert(name, Arc::clone(&record));
            planned.push(Planned { record, audit, handles });
        }
        Ok(planned)
    }

    fn insert(&mut self, Planned { record, audit, handles }: Planned) {
        if let Some(handles) = handles {
            self.handles.set(name_of(&record), handles);
        }
        self.append(record.org.clone(), audit);
        self.feed.insert(record.revision, Arc::clone(&record));
        self.versions.entry(name_of(&record)).or_default().push(record);
    }
}

struct Planned {
    record: Arc<Record>,
    audit: AuditEntry,
    /// What the resource is found by from now on, where that is said.
    handles: Option<Vec<String>>,
}

impl State {
    fn write(&mut self, write: &Write) -> Result<Vec<Record>> {
        let planned = self.resources.plan(write)?;
        let records = planned.iter().map(|plan| (*plan.record).clone()).collect();
        planned.into_iter().for_each(|plan| self.resources.insert(plan));
        for change in &write.changes {
            for effect in &change.effects {
                self.apply(&change.record.org, effect, write.now);
            }
        }
        Ok(records)
    }

    fn apply(&mut self, org: &OrgId, effect: &Effect, now: Timestamp) {
        match effect {
            Effect::Lanes { integration, max_in_flight, paused } => {
                self.deliveries.configure(org, integration, *max_in_flight, *paused, now);
            }
            Effect::Rules { integration, rules } => {
                self.deliveries.rule(org, integration, *rules, now);
            }
            Effect::Pause { integration, paused } => {
                self.deliveries.pause(org, integration.as_ref(), *paused, now);
            }
            Effect::Weight { weight } => self.deliveries.weigh(org, *weight),
            // Set with the resource itself.
            Effect::Handles { .. } => {}
        }
    }
}

/// By what the resource is found once the change is made; nothing where that stays as it is.
fn handles(change: &Change) -> Option<Vec<String>> {
    if change.record.deleted {
        return Some(Vec::new());
    }
    change.effects.iter().rev().find_map(|effect| match effect {
        Effect::Handles { handles } => Some(handles.clone()),
        _ => None,
    })
}

fn check(change: &Change, live: Option<&Record>) -> Result<()> {
    let record = &change.record;
    let missing = || {
        let message = format!("there is no {} `{}`", record.kind, record.id);
        Error::new(Code::ResourceNotFound, message)
    };
    match (change.expect, live) {
        (Expect::Absent, Some(_)) => Err(Error::new(
            Code::ResourceExists,
            format!("{} `{}` exists already", record.kind, record.id),
        )),
        (Expect::Revision(expected), Some(live)) if live.revision != expected => Err(Error::new(
            Code::RevisionConflict,
            format!(
                "{} `{}` is at revision {}, not {expected}; read it again",
                record.kind, record.id, live.revision
            ),
        )),
        (Expect::Revision(_) | Expect::Present, None) => Err(missing()),
        (Expect::Absent | Expect::Any, None) if record.deleted => Err(missing()),
        _ => Ok(()),
    }
}

fn next_version(
    change: &Change,
    before: Option<&Record>,
    revision: Revision,
    now: Timestamp,
) -> Record {
    let mut record = change.record.clone();
    record.revision = revision;
    record.version = before.map_or(1, |before| before.version + 1);
    record.created_at = before.map_or(now, |before| before.created_at);
    record.updated_at = now;
    if let Some(before) = before.filter(|_| record.deleted) {
        record.spec = before.spec.clone();
        record.status = before.status.clone();
    }
    record
}

fn name_of(record: &Record) -> Name {
    (Arc::clone(&record.kind), record.org.clone(), record.id.clone())
}

fn has_labels(record: &Record, labels: &[(String, String)]) -> bool {
    labels.iter().all(|(key, value)| record.labels.get(key) == Some(value))
}

#[async_trait]
impl ResourceStore for MemoryStore {
    async fn write(&self, write: Write) -> Result<Vec<Record>> {
        self.lock().write(&write)
    }

    async fn resource(&self, org: &OrgId, kind: &str, id: &ResourceId) -> Result<Option<Record>> {
        let state = self.lock();
        let last = state.resources.last(&(kind.into(), org.clone(), id.clone()));
        Ok(last.filter(|record| !record.deleted).map(|record| (**record).clone()))
    }

    async fn resources(&self, org: &OrgId, kind: &str, query: &ListQuery) -> Result<Page<Record>> {
        let state = self.lock();
        let limit = query.page.limit;
        let from = match &query.page.after {
            Some(id) => Bound::Excluded((kind.into(), org.clone(), id.clone())),
            None => Bound::Included((kind.into(), org.clone(), ResourceId::new(LOWEST)?)),
        };
        let items = state
            .resources
            .present_after(from)
            .take_while(|record| *record.kind == *kind && record.org == *org)
            .filter(|record| has_labels(record, &query.labels))
            .take(limit + 1)
            .map(|record| (**record).clone())
            .collect();
        Ok(Page::cut(items, limit))
    }

    async fn resources_of_all(
        &self,
        kind: &str,
        after: Option<(OrgId, ResourceId)>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let state = self.lock();
        let from = match after {
            Some((org, id)) => Bound::Excluded((kind.into(), org, id)),
            None => Bound::Included((kind.into(), OrgId::new(LOWEST)?, ResourceId::new(LOWEST)?)),
        };
        Ok(state
            .resources
            .present_after(from)
            .take_while(|record| *record.kind == *kind)
            .take(limit)
            .map(|record| (**record).clone())
            .collect())
    }

    async fn history(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let state = self.lock();
        let versions = state.resources.versions.get(&(kind.into(), org.clone(), id.clone()));
        Ok(versions
            .into_iter()
            .flatten()
            .rev()
            .filter(|record| before.is_none_or(|before| record.revision < before))
            .take(limit)
            .map(|record| (**record).clone())
            .collect())
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Record>> {
        let state = self.lock();
        let later = state.resources.feed.range((Bound::Excluded(after), Bound::Unbounded));
        Ok(later.take(limit).map(|(_, record)| (**record).clone()).collect())
    }

    async fn head(&self) -> Result<Revision> {
        Ok(self.lock().resources.head())
    }

    async fn audit_log(&self, org: &OrgId, query: &AuditQuery) -> Result<Page<AuditEntry>> {
        let state = self.lock();
        let limit = query.page.limit;
        let first = (org.clone(), Revision::ZERO);
        let end = (org.clone(), query.page.after.unwrap_or(Revision(u64::MAX)));
        let items = state
            .resources
            .audit
            .range(first..end)
            .rev()
            .map(|(_, entry)| entry)
            .filter(|entry| query.takes(entry))
            .take(limit + 1)
            .cloned()
            .collect();
        Ok(Page::cut(items, limit))
    }

    async fn audit_head(&self, org: &OrgId) -> Result<Option<AuditHead>> {
        Ok(self.lock().resources.heads.get(org).cloned())
    }
}

#[async_trait]
impl NoteStore for MemoryStore {
    async fn note(&self, note: Note) -> Result<Revision> {
        Ok(self.lock().resources.note(&note))
    }
}
