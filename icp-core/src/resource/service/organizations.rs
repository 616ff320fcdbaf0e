//! Many organizations at once, for operators.

use std::collections::HashSet;

use serde_json::Value;

use super::batch::{Planned, refuse_more, refused, twice};
use super::{By, How, ORGANIZATION, Outcome, Report, Resources, StepResult, Task};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Draft};

impl Resources {
    /// Makes, imports, replaces or deletes up to [`MAX_STEPS`](super::MAX_STEPS) organizations, each
    /// in a write of its own: what becomes of one keeps no other from it. With [`How::NotYet`] they
    /// are checked only.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] for too many; [`Code::Unsupported`] for [`How::Together`]. All else
    /// is told one by one.
    ///
    /// # Cancellation
    ///
    /// What was done before stays done.
    pub async fn batch_organizations(
        &self,
        tasks: &[Task],
        how: How,
        actor: &Actor,
    ) -> Result<Report> {
        self.whole()?;
        refuse_more(tasks.len())?;
        if how == How::Together {
            let message = "organizations are written each by itself";
            return Err(Error::new(Code::Unsupported, message));
        }
        let applied = how == How::EachAlone;
        let (mut seen, mut results) = (HashSet::new(), Vec::with_capacity(tasks.len()));
        for task in tasks {
            let done = match applied {
                true => self.one_organization(task, actor).await,
                false => self.foresee_organization(task, &mut seen, actor).await,
            };
            let (id, outcome) = match done {
                Ok((id, outcome)) => (Some(id), Ok(outcome)),
                Err(error) => (task.id(), Err(error)),
            };
            results.push(StepResult { id, outcome });
        }
        Ok(Report { applied, results })
    }

    async fn one_organization(&self, task: &Task, actor: &Actor) -> Result<(ResourceId, Outcome)> {
        loop {
            let planned = self.plan_organization(task, By::alone(actor)).await?;
            if let Some(done) = self.carry_out(planned, actor).await? {
                return Ok(done);
            }
        }
    }

    async fn foresee_organization(
        &self,
        task: &Task,
        seen: &mut HashSet<ResourceId>,
        actor: &Actor,
    ) -> Result<(ResourceId, Outcome)> {
        let (id, outcome) = self.plan_organization(task, By::alone(actor)).await?.foreseen();
        if seen.insert(id.clone()) { Ok((id, outcome)) } else { Err(twice(&id)) }
    }

    async fn plan_organization(&self, task: &Task, by: By<'_>) -> Result<Planned> {
        let kind = self.kinds.get(ORGANIZATION)?;
        match task {
            Task::Create(document) => {
                let (org, _, draft) = draft_of(document)?;
                self.plan_creation(&org, &**kind, draft, by).await
            }
            Task::Replace(document) => {
                let (org, id, draft) = draft_of(document)?;
                let present = self.present(&org, kind, &id).await?;
                self.plan_version(&**kind, present, draft, by).await
            }
            Task::Import(document, existing) => {
                let (org, id, draft) = draft_of(document)?;
                match self.seen(&org, &**kind, &id).await? {
                    None => self.plan_creation(&org, &**kind, draft, by).await,
                    Some(present) => {
                        self.plan_meeting(&**kind, present, draft, *existing, by).await
                    }
                }
            }
            Task::Delete(id) => {
                let org = OrgId::new(id.as_str())?;
                let present = self.present(&org, kind, id).await?;
                self.refuse_while_used(&org).await?;
                self.guard(&**kind, &present, by).await?;
                Ok(Planned::deletion(&**kind, present))
            }
            Task::Enable(_) | Task::Disable(_) => {
                let message = "an organization is not switched on or off; set its `status`";
                Err(refused("", "not_switchable", message))
            }
        }
    }
}

/// The draft, and the organization that it names.
fn draft_of(document: &Value) -> Result<(OrgId, ResourceId, Draft)> {
    let draft = Draft::read(document)?;
    match &draft.id {
        Some(id) => Ok((OrgId::new(id.as_str())?, ResourceId::new(id.as_str())?, draft)),
        None => Err(refused("/id", "required", "name the organization")),
    }
}
