use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::Resources;
use crate::error::{Code, Error, Result};
use crate::id::OrgId;
use crate::resource::{AuditEntry, AuditQuery, Document, Kind, Record, Revision};
use crate::store::PageQuery;
use crate::trial::Changes;

/// An audit row with the documents it tells of, their secrets masked.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[non_exhaustive]
pub struct AuditDetail {
    /// The row.
    pub entry: AuditEntry,
    /// The document before; `None` for a creation, for what changed no document, and where that
    /// version is kept no more.
    pub before: Option<Document>,
    /// The document after; `None` for a deletion, for what changed no document, and where that
    /// version is kept no more.
    pub after: Option<Document>,
    /// What makes `name`, `labels`, `spec` and `status` of the document after of those of the one
    /// before, where both are there. Another secret shows no difference.
    pub changes: Option<Changes>,
}

impl Resources {
    /// One row of the audit log, with the documents before and after.
    ///
    /// # Errors
    ///
    /// [`Code::AuditEntryNotFound`], and those of the store.
    pub async fn audit_entry(&self, org: &OrgId, revision: Revision) -> Result<AuditDetail> {
        self.whole()?;
        let next = Revision(revision.0.saturating_add(1));
        let page = PageQuery { after: Some(next), limit: 1 };
        let found = self.store.audit_log(org, &AuditQuery { page, ..Default::default() }).await?;
        let entry = found.items.into_iter().find(|entry| entry.revision == revision);
        let entry = entry.ok_or_else(|| {
            let message = format!("there is no audit row of revision {revision}, or it is pruned");
            Error::new(Code::AuditEntryNotFound, message)
        })?;
        let (before, after) = match self.kinds.get(&entry.kind) {
            Ok(kind) => self.around(org, &**kind, &entry).await?,
            Err(_) => (None, None),
        };
        let changes = before.as_ref().zip(after.as_ref());
        let changes = changes.map(|(a, b)| Changes::between(&shown(a), &shown(b)));
        Ok(AuditDetail { entry, before, after, changes })
    }

    /// The documents before and after the change that the row tells of.
    async fn around(
        &self,
        org: &OrgId,
        kind: &dyn Kind,
        entry: &AuditEntry,
    ) -> Result<(Option<Document>, Option<Document>)> {
        let until = Some(Revision(entry.revision.0.saturating_add(1)));
        let versions = self.store.history(org, kind.name(), &entry.id, until, 2).await?;
        let mut versions = versions.into_iter();
        let Some(after) = versions.next().filter(|after| after.revision == entry.revision) else {
            return Ok((None, None));
        };
        let document = |record: Option<Record>| {
            let record = record.filter(|record| !record.deleted);
            record.map(|record| Document::of(kind, record)).transpose()
        };
        Ok((document(versions.next())?, document(Some(after))?))
    }
}

fn shown(document: &Document) -> Value {
    let Document { name, labels, spec, status, .. } = document;
    json!({ "name": name, "labels": labels, "spec": spec, "status": status })
}
