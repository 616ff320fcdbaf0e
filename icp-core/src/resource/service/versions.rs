use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::writing::forget_troubles;
use super::{By, Resources, amend};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Document, Draft, Expect, Kind, Record, Revision};
use crate::trial::Changes;

/// How many versions are read from the store at once.
const AT_ONCE: usize = 100;

/// What differs between two versions of a resource.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The version it starts from.
    pub from: u64,
    /// The version it leads to.
    pub to: u64,
    /// What makes `name`, `labels` and `spec` of the second version of those of the first. The
    /// secrets of both are masked, so that another secret shows no difference.
    pub changes: Changes,
}

impl Resources {
    /// One version of a resource, as long as it is kept; a deletion is no version.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`], [`Code::VersionNotFound`], and those of the store.
    pub async fn version(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        version: u64,
    ) -> Result<Document> {
        let kind = &**self.kinds.get(kind)?;
        Document::of(kind, self.kept(org, kind, id, version).await?)
    }

    /// What differs between two versions of a resource.
    ///
    /// # Errors
    ///
    /// As [`version`](Self::version).
    pub async fn compare_versions(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        (from, to): (u64, u64),
    ) -> Result<Difference> {
        let shown = |document: Document| json!({ "name": document.name, "labels": document.labels, "spec": document.spec });
        let before = shown(self.version(org, kind, id, from).await?);
        let after = shown(self.version(org, kind, id, to).await?);
        Ok(Difference { from, to, changes: Changes::between(&before, &after) })
    }

    /// Makes name, labels and spec those of an earlier version again, as a new version; its
    /// secrets come back with it. The old version must pass the rules of today.
    ///
    /// # Errors
    ///
    /// As [`version`](Self::version) and [`replace`](Self::replace).
    pub async fn rollback(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        version: u64,
        expect: Expect,
        actor: &Actor,
    ) -> Result<Document> {
        let kind = self.kinds.get(kind)?;
        let present = self.present(org, kind, id).await?;
        let old = self.kept(org, &**kind, id, version).await?;
        let expect = amend::exact(expect, present.revision);
        let before = present.spec.clone();
        let spec = kind.mask(&old.spec)?;
        let draft = Draft { id: None, name: old.name, labels: old.labels, spec };
        let around = By::alone(actor).expecting(expect);
        let mut change = self.prepare(&**kind, present, draft, Some(&old.spec), around).await?;
        forget_troubles(&mut change.record, Some(&before));
        change.action = "rollback".into();
        Document::of(&**kind, self.write(change, actor).await?)
    }

    async fn kept(
        &self,
        org: &OrgId,
        kind: &dyn Kind,
        id: &ResourceId,
        version: u64,
    ) -> Result<Record> {
        if !self.reaches_history(org, kind, id).await? {
            return Err(unknown(kind, id, version));
        }
        let mut before: Option<Revision> = None;
        loop {
            let page = self.store.history(org, kind.name(), id, before, AT_ONCE).await?;
            let end = page.len() < AT_ONCE || page.iter().any(|record| record.version <= version);
            before = page.last().map(|record| record.revision);
            let found = page.into_iter().find(|record| record.version == version);
            match found.filter(|record| !record.deleted && self.sees(kind, record)) {
                Some(record) => return Ok(record),
                None if end => return Err(unknown(kind, id, version)),
                None => {}
            }
        }
    }
}

fn unknown(kind: &dyn Kind, id: &ResourceId, version: u64) -> Error {
    let message = format!(
        "there is no version {version} of {} `{id}`; see its history for those that are kept",
        kind.name()
    );
    Error::new(Code::VersionNotFound, message)
}
