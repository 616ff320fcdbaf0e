use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{How, Outcome, Resources, Step, StepResult, Task};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::resource::{Actor, Document, Spec, Violations};

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
    /// [`Code::ResourceInvalid`](crate::Code::ResourceInvalid) for no ids or too many; nothing was
    /// done. All else is told item by item.
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
        let task = |id: &ResourceId| match action {
            BulkAction::Enable => Task::Enable(id.clone()),
            BulkAction::Disable => Task::Disable(id.clone()),
            BulkAction::Delete => Task::Delete(id.clone()),
        };
        let kind = IntegrationSpec::KIND;
        let steps: Vec<_> = ids.iter().map(|id| Step::new(kind, task(id))).collect();
        let report = self.batch(org, &steps, How::EachAlone, actor).await?;
        let results = report.results.into_iter().zip(ids);
        Ok(results.map(|(result, id)| BulkItem::of(id.clone(), result)).collect())
    }
}

impl BulkItem {
    fn of(id: ResourceId, result: StepResult) -> Self {
        let outcome = result.outcome.map(|outcome| match outcome {
            Outcome::Created(document)
            | Outcome::Updated(document)
            | Outcome::Unchanged(document) => document,
            Outcome::Skipped | Outcome::Deleted => None,
        });
        Self { id, outcome }
    }
}
