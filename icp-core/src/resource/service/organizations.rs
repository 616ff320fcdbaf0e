//! Many organizations at once, for operators.

use serde_json::Value;

use super::batch::refused;
use super::{MAX_STEPS, ORGANIZATION, Outcome, Report, Resources, StepResult, Task};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Draft, Expect, Violations};

impl Resources {
    /// Makes, replaces or deletes up to [`MAX_STEPS`] organizations, each in a write of its own: what becomes of one keeps no other from it.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`](crate::Code::ResourceInvalid) for too many. All else is told one
    /// by one.
    ///
    /// # Cancellation
    ///
    /// What was done before stays done.
    pub async fn batch_organizations(&self, tasks: &[Task], actor: &Actor) -> Result<Report> {
        self.whole()?;
        if tasks.len() > MAX_STEPS {
            let mut violations = Violations::default();
            violations.add("", "max_items", format!("use at most {MAX_STEPS} at once"));
            return Err(violations.into_error());
        }
        let mut results = Vec::with_capacity(tasks.len());
        for task in tasks {
            let (id, outcome) = match self.one_organization(task, actor).await {
                Ok((id, outcome)) => (Some(id), Ok(outcome)),
                Err(error) => (task.id(), Err(error)),
            };
            results.push(StepResult { id, outcome });
        }
        Ok(Report { applied: true, results })
    }

    async fn one_organization(&self, task: &Task, actor: &Actor) -> Result<(ResourceId, Outcome)> {
        match task {
            Task::Create(document) => {
                let (org, draft) = draft_of(document)?;
                let made = self.create(&org, ORGANIZATION, draft, actor).await?;
                Ok((made.id.clone(), Outcome::Created(Some(made))))
            }
            Task::Replace(document) => {
                let (org, draft) = draft_of(document)?;
                let id = ResourceId::new(org.as_str())?;
                let expect = Expect::Present;
                let made = self.replace(&org, ORGANIZATION, &id, draft, expect, actor).await?;
                Ok((id, Outcome::Updated(Some(made))))
            }
            Task::Delete(id) => {
                let org = OrgId::new(id.as_str())?;
                self.delete(&org, ORGANIZATION, id, Expect::Present, actor).await?;
                Ok((id.clone(), Outcome::Deleted))
            }
            Task::Enable(_) | Task::Disable(_) => {
                let message = "an organization is not switched on or off; set its `status`";
                Err(refused("", "not_switchable", message))
            }
            Task::Import(..) => {
                let message = "organizations are not in the files of one; make them in bulk";
                Err(refused("/kind", "organization", message))
            }
        }
    }
}

/// The draft, and the organization that it names.
fn draft_of(document: &Value) -> Result<(OrgId, Draft)> {
    let draft = Draft::read(document)?;
    match &draft.id {
        Some(id) => Ok((OrgId::new(id.as_str())?, draft)),
        None => Err(refused("/id", "required", "name the organization")),
    }
}
