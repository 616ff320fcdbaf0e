use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Resources;
use crate::error::{Code, Result};
use crate::id::{OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::resource::{Actor, Change, Document, Expect, Spec, Violations};

/// The most integrations of one bulk operation.
pub const MAX_BULK: usize = 100;

/// What is done to each of many integrations.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BulkAction {
    /// It is switched on.
    Enable,
    /// It is switched off: it matches nothing, and what was made before waits.
    Disable,
    /// It is deleted, and its deliveries are called off.
    Delete,
}

/// What became of one of many integrations.
#[derive(Clone, Debug)]
pub struct BulkItem {
    /// The integration.
    pub id: ResourceId,
    /// The integration as it is now, `None` once deleted; or why nothing was done to it.
    pub outcome: Result<Option<Document>>,
}

impl Resources {
    /// Switches on, switches off or deletes up to [`MAX_BULK`] integrations, one after the
    /// other and each in a transaction of its own: one that fails keeps no other from it. The
    /// answer has one item for each id, in order. One that is already as asked for is left as it
    /// is; of an id that is there twice, the second finds what the first left.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] for no ids or too many; nothing was done. All else is told
    /// item by item.
    ///
    /// # Cancellation
    ///
    /// What was done before stays done.
    pub async fn bulk(
        &self,
        org: &OrgId,
        action: BulkAction,
        ids: &[ResourceId],
        actor: &Actor,
    ) -> Result<Vec<BulkItem>> {
        if ids.is_empty() || ids.len() > MAX_BULK {
            let mut violations = Violations::default();
            violations.add("/ids", "out_of_range", format!("use 1 to {MAX_BULK} ids"));
            return Err(violations.into_error());
        }
        let mut items = Vec::with_capacity(ids.len());
        for id in ids {
            let outcome = match action {
                BulkAction::Enable => self.enable(org, id, actor).await.map(Some),
                BulkAction::Disable => self.disable(org, id, actor).await.map(Some),
                BulkAction::Delete => {
                    let (kind, expect) = (IntegrationSpec::KIND, Expect::Present);
                    self.delete(org, kind, id, expect, actor).await.map(|()| None)
                }
            };
            items.push(BulkItem { id: id.clone(), outcome });
        }
        Ok(items)
    }

    /// By way of a patch, so that what is switched on is checked once more.
    async fn enable(&self, org: &OrgId, id: &ResourceId, actor: &Actor) -> Result<Document> {
        let kind = IntegrationSpec::KIND;
        loop {
            let document = self.get(org, kind, id).await?;
            if document.spec.get("enabled") == Some(&Value::Bool(true)) {
                return Ok(document);
            }
            let patch = json!({ "spec": { "enabled": true } });
            let expect = Expect::Revision(document.revision);
            match self.merge_patch(org, kind, id, &patch, expect, actor).await {
                Err(error) if error.code() == Code::RevisionConflict => {}
                other => return other,
            }
        }
    }

    /// Without a check: what cannot be used any more can still be switched off.
    async fn disable(&self, org: &OrgId, id: &ResourceId, actor: &Actor) -> Result<Document> {
        let kind = self.kinds.get(IntegrationSpec::KIND)?;
        loop {
            let mut record = self.present(org, kind, id).await?;
            match record.spec.get_mut("enabled") {
                Some(enabled) if *enabled != Value::Bool(false) => *enabled = Value::Bool(false),
                _ => return Document::of(&**kind, record),
            }
            let effects = kind.effects(id, &record.spec)?;
            let expect = Expect::Revision(record.revision);
            let change = Change { record, expect, action: "update".into(), effects };
            match self.write(change, actor).await {
                Err(error) if error.code() == Code::RevisionConflict => {}
                other => return Document::of(&**kind, other?),
            }
        }
    }
}
