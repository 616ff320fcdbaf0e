//! Configuration as people use it: documents by kind, checked, sealed and masked.

mod amend;
mod audit;
mod batch;
mod bulk;
mod duplicate;
mod found;
mod organizations;
mod pause;
mod reach;
mod recent;
mod search;
mod units;
mod versions;
mod writing;

pub use audit::AuditDetail;
pub use batch::{How, MAX_STEPS, OnExisting, Outcome, Report, Step, StepResult, Task};
pub use bulk::{BulkAction, BulkItem, MAX_BULK};
pub use duplicate::{CopiedKey, Duplicate};
pub use units::PlacedUnit;
pub use versions::Difference;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::document::merge;
use super::{
    Actor, AuditEntry, AuditQuery, Change, Document, Draft, Effect, Expect, Index, Kind,
    KindRegistry, ListQuery, OrgEntry, Record, Resource, Revision, Services, Spec, SpecContext,
    Violations, Write,
};
use crate::access::{OrganizationSpec, Reach};
use crate::error::{Code, Error, Result};
use crate::id::{IdSource, OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::store::{Page, PageQuery, Store};
use crate::time::Clock;

pub(crate) use amend::Editing;
use recent::Recent;
pub use recent::Shown;

/// The kind whose resource is the organization itself, with the organization's id as its own.
const ORGANIZATION: &str = OrganizationSpec::KIND;
const SWITCHED_OFF: &str = "switched_off";

/// Who makes a change, and beside which others.
#[derive(Clone, Copy)]
struct By<'a> {
    actor: &'a Actor,
    /// The organization as other changes of the same write leave it; as this node knows it by
    /// default.
    beside: Option<&'a OrgEntry>,
}

/// What a new version is checked under.
#[derive(Clone, Copy)]
struct Around<'a> {
    expect: Expect,
    by: By<'a>,
}

impl<'a> By<'a> {
    /// Somebody who changes nothing else in the same write.
    fn alone(actor: &'a Actor) -> Self {
        Self { actor, beside: None }
    }

    fn expecting(self, expect: Expect) -> Around<'a> {
        Around { expect, by: self }
    }
}

/// Reads and changes resources of every registered kind.
#[derive(Clone, Debug)]
pub struct Resources {
    store: Arc<dyn Store>,
    kinds: Arc<KindRegistry>,
    services: Services,
    index: Arc<Index>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    recent: Arc<Recent>,
    reach: Reach,
}

impl Resources {
    /// The resources in `store`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        kinds: Arc<KindRegistry>,
        services: Services,
        index: Arc<Index>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        let (recent, reach) = (Arc::default(), Reach::WHOLE);
        Self { store, kinds, services, index, clock, ids, recent, reach }
    }

    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// The registered kinds.
    #[must_use]
    pub fn kinds(&self) -> &KindRegistry {
        &self.kinds
    }

    /// Makes a new resource. The organization must exist, unless it is what is made: then its
    /// id is `org`.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`], [`Code::OrganizationUnknown`], [`Code::ResourceInvalid`],
    /// [`Code::ResourceExists`], and those of the store.
    pub async fn create(
        &self,
        org: &OrgId,
        kind: &str,
        draft: Draft,
        actor: &Actor,
    ) -> Result<Document> {
        let kind = self.kinds.get(kind)?;
        let record = self.fresh(org, &**kind, &draft).await?;
        self.put(kind, record, draft, None, Expect::Absent, actor).await
    }

    /// What is to become a new resource of `draft`.
    async fn fresh(&self, org: &OrgId, kind: &dyn Kind, draft: &Draft) -> Result<Record> {
        let own = ResourceId::new(org.as_str())?;
        let id = if kind.name() == ORGANIZATION {
            if draft.id.as_ref().is_some_and(|id| *id != own) {
                let mut violations = Violations::default();
                violations.add("/id", "organization_id", "use the id of the organization itself");
                return Err(violations.into_error());
            }
            own
        } else {
            if self.store.resource(org, ORGANIZATION, &own).await?.is_none() {
                return Err(Error::new(
                    Code::OrganizationUnknown,
                    format!("there is no organization `{org}`; create it first"),
                ));
            }
            draft.id.clone().unwrap_or_else(|| ResourceId::generate(&*self.ids))
        };
        Ok(self.blank(org, kind, Some(id)))
    }

    /// A record that holds nothing yet.
    fn blank(&self, org: &OrgId, kind: &dyn Kind, id: Option<ResourceId>) -> Record {
        let now = self.clock.now();
        Record {
            org: org.clone(),
            kind: kind.name().into(),
            id: id.unwrap_or_else(|| ResourceId::generate(&*self.ids)),
            name: None,
            labels: BTreeMap::new(),
            spec: Value::Null,
            status: Value::Null,
            revision: Revision::ZERO,
            version: 0,
            created_at: now,
            updated_at: now,
            deleted: false,
        }
    }

    /// The present version of a resource.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`], [`Code::ResourceNotFound`], and those of the store.
    pub async fn get(&self, org: &OrgId, kind: &str, id: &ResourceId) -> Result<Document> {
        let kind = self.kinds.get(kind)?;
        let record = self.present(org, kind, id).await?;
        self.shown(&**kind, record).map(Shown::into_document)
    }

    /// The same for who only looks: where this node keeps up with the change feed, a version that it
    /// showed before is not read again. It may be as old as the feed's interval, and 2 seconds at
    /// most; what this node wrote is seen at once.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn look_at(&self, org: &OrgId, kind: &str, id: &ResourceId) -> Result<Arc<Shown>> {
        let kind = self.kinds.get(kind)?;
        // What is kept does not say how far somebody reaches.
        if self.reach.is_whole()
            && let Some(recent) = self.recent(org, &**kind, id).await
        {
            return Ok(recent);
        }
        let record = self.present(org, kind, id).await?;
        self.shown(&**kind, record)
    }

    /// The present version of a resource with its spec typed, the secrets masked.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_typed<S: Spec>(&self, org: &OrgId, id: &ResourceId) -> Result<Resource<S>> {
        let kind = self.kinds.get(S::KIND)?;
        let mut record = self.present(org, kind, id).await?;
        record.spec = kind.mask(&record.spec)?;
        Resource::from_record(&record)
    }

    /// The present resources of a kind, ordered by id.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`], and those of the store.
    pub async fn list(&self, org: &OrgId, kind: &str, query: &ListQuery) -> Result<Page<Document>> {
        let kind = self.kinds.get(kind)?;
        if !self.reach.is_whole() {
            return self.list_in_reach(org, kind.name(), query).await;
        }
        let page = self.store.resources(org, kind.name(), query).await?;
        let items = page.items.into_iter().map(|record| Document::of(&**kind, record));
        Ok(Page { items: items.collect::<Result<_>>()?, more: page.more })
    }

    /// Puts a whole new version in place of the present one; masked secrets stay as they are.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), [`Code::ResourceInvalid`] and [`Code::RevisionConflict`].
    pub async fn replace(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        draft: Draft,
        expect: Expect,
        actor: &Actor,
    ) -> Result<Document> {
        let kind = self.kinds.get(kind)?;
        let record = self.present(org, kind, id).await?;
        self.change(kind, record, draft, expect, actor).await
    }

    /// Changes a resource by an RFC 7396 merge patch of `name`, `labels` and `spec`.
    ///
    /// The patch is applied to the version read here, so a change made meanwhile is a conflict.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub async fn merge_patch(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        patch: &Value,
        expect: Expect,
        actor: &Actor,
    ) -> Result<Document> {
        let kind = self.kinds.get(kind)?;
        let record = self.present(org, kind, id).await?;
        let mut target = serde_json::json!({
            "name": record.name, "labels": record.labels, "spec": kind.mask(&record.spec)?,
        });
        merge(&mut target, patch);
        let draft = Draft::read(&target)?;
        self.change(kind, record, draft, expect, actor).await
    }

    /// Deletes a resource. An organization can be deleted only when nothing else is left in it;
    /// what another caller makes in it at the same moment stays behind, out of use, until the
    /// organization is made again.
    ///
    /// The deliveries of a deleted integration are called off, even where it was switched off.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`], [`Code::ResourceNotFound`], [`Code::RevisionConflict`],
    /// [`Code::OrganizationNotEmpty`].
    pub async fn delete(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        expect: Expect,
        actor: &Actor,
    ) -> Result<()> {
        let kind = self.kinds.get(kind)?;
        let record = self.present(org, kind, id).await?;
        if kind.name() == ORGANIZATION {
            self.refuse_while_used(org).await?;
        }
        self.guard(&**kind, &record, By::alone(actor)).await?;
        self.write(batch::removal(&**kind, record, expect), actor).await.map(drop)
    }

    /// The versions of a resource, newest first, before revision `before` where it is given.
    /// Deletions are left out.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`], and those of the store.
    pub async fn history(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Document>> {
        let kind = self.kinds.get(kind)?;
        let mut kept = Vec::new();
        let mut before = before;
        if !self.reaches_history(org, &**kind, id).await? {
            return Ok(kept);
        }
        while kept.len() < limit {
            let wanted = limit - kept.len();
            let versions = self.store.history(org, kind.name(), id, before, wanted).await?;
            let end = versions.len() < wanted;
            before = versions.last().map(|record| record.revision).or(before);
            let seen = |record: &Record| !record.deleted && self.sees(&**kind, record);
            for record in versions.into_iter().filter(seen) {
                kept.push(Document::of(&**kind, record)?);
            }
            if end {
                break;
            }
        }
        Ok(kept)
    }

    /// All organizations, ordered by id, after `after` where it is given. For operators.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn organizations(&self, page: &PageQuery<OrgId>) -> Result<Page<Document>> {
        self.whole()?;
        let kind = self.kinds.get(ORGANIZATION)?;
        let after = match &page.after {
            Some(org) => Some((org.clone(), ResourceId::new(org.as_str())?)),
            None => None,
        };
        let found = self.store.resources_of_all(ORGANIZATION, after, page.limit + 1).await?;
        let found = Page::cut(found, page.limit);
        let items = found.items.into_iter().map(|record| Document::of(&**kind, record));
        Ok(Page { items: items.collect::<Result<_>>()?, more: found.more })
    }

    /// Who changed what in an organization, newest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn audit_log(&self, org: &OrgId, query: &AuditQuery) -> Result<Page<AuditEntry>> {
        self.whole()?;
        self.store.audit_log(org, query).await
    }

    /// Switches an integration off on the engine's own account and notes why; nothing changes
    /// where it is off or gone already.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn switch_off(&self, org: &OrgId, id: &ResourceId, reason: &str) -> Result<()> {
        self.switch_off_while(org, id, reason, |_| true).await
    }

    /// As [`switch_off`](Self::switch_off), where `meant` takes the stored spec; one that was
    /// changed meanwhile is asked about again.
    pub(crate) async fn switch_off_while(
        &self,
        org: &OrgId,
        id: &ResourceId,
        reason: &str,
        meant: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Result<()> {
        let kind = self.kinds.get(IntegrationSpec::KIND)?;
        loop {
            let Some(mut record) = self.store.resource(org, kind.name(), id).await? else {
                return Ok(());
            };
            if !meant(&record.spec) {
                return Ok(());
            }
            match record.spec.get_mut("enabled") {
                Some(enabled) if *enabled != Value::Bool(false) => *enabled = Value::Bool(false),
                _ => return Ok(()),
            }
            let why = serde_json::json!({ "reason": reason, "at": self.clock.now() });
            set_status(&mut record, SWITCHED_OFF, Some(why));
            let effects = kind.effects(id, &record.spec)?;
            let expect = Expect::Revision(record.revision);
            let change = Change { record, expect, action: "switch_off".into(), effects };
            match self.write(change, &Actor::engine()).await {
                Err(error)
                    if matches!(error.code(), Code::RevisionConflict | Code::ResourceNotFound) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Writes an entry of a resource's status on the engine's own account, or takes it out.
    ///
    /// # Errors
    ///
    /// [`Code::RevisionConflict`] where `record` is not the present version, and those of the
    /// store.
    pub(crate) async fn note(
        &self,
        mut record: Record,
        entry: &str,
        value: Option<Value>,
        action: &str,
    ) -> Result<()> {
        let mut status = match record.status {
            Value::Object(status) => status,
            _ => Map::new(),
        };
        match value {
            Some(value) => status.insert(entry.to_owned(), value),
            None => status.remove(entry),
        };
        record.status = if status.is_empty() { Value::Null } else { status.into() };
        let expect = Expect::Revision(record.revision);
        let change = Change { record, expect, action: action.into(), effects: Vec::new() };
        self.write(change, &Actor::engine()).await.map(drop)
    }

    async fn refuse_while_used(&self, org: &OrgId) -> Result<()> {
        let one = ListQuery { labels: Vec::new(), page: PageQuery { after: None, limit: 1 } };
        for kind in self.kinds.iter().filter(|kind| kind.name() != ORGANIZATION) {
            let found = self.store.resources(org, kind.name(), &one).await?;
            if let Some(record) = found.items.first() {
                let message = format!(
                    "the organization still has the {} `{}`; delete its {} first",
                    kind.name(),
                    record.id,
                    kind.plural(),
                );
                return Err(Error::new(Code::OrganizationNotEmpty, message));
            }
        }
        Ok(())
    }

    async fn present(&self, org: &OrgId, kind: &Arc<dyn Kind>, id: &ResourceId) -> Result<Record> {
        self.seen(org, &**kind, id).await?.ok_or_else(|| batch::missing(&**kind, id))
    }
}

/// Notes something about a resource, or forgets it; the rest of its status stays.
fn set_status(record: &mut Record, key: &str, value: Option<Value>) {
    let mut status = match std::mem::take(&mut record.status) {
        Value::Object(status) => status,
        _ => Map::new(),
    };
    match value {
        Some(value) => drop(status.insert(key.to_owned(), value)),
        None => drop(status.remove(key)),
    }
    if !status.is_empty() {
        record.status = Value::Object(status);
    }
}

#[cfg(test)]
mod tests;
