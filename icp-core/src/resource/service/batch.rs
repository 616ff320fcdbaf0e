mod plan;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::plan::{Planned, missing, refused, removal, twice};
use super::{By, Resources};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Document, Expect, Record, Revision, Violations};

/// The most steps of one batch.
pub const MAX_STEPS: usize = 1_000;

/// How often a batch is checked anew because somebody else changed what it is about.
const MAX_ROUNDS: usize = 5;

/// One of many changes.
#[derive(Clone, Debug)]
pub struct Step {
    /// The kind of the resource.
    pub kind: String,
    /// What is done.
    pub task: Task,
    /// The revision that the resource must have, where that counts; the step is refused with
    /// [`Code::RevisionConflict`] where it has another by now.
    pub expect: Option<Revision>,
}

/// What is done to one of many resources.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Task {
    /// A resource is made of a [`Draft`](crate::resource::Draft), given as JSON.
    Create(Value),
    /// A whole new version is put in place of the present one, whose id the
    /// [`Draft`](crate::resource::Draft) names.
    Replace(Value),
    /// A resource is made of a [`Draft`](crate::resource::Draft), or what is there under its id is
    /// treated as said.
    Import(Value, OnExisting),
    /// `enabled` becomes true; the resource is checked as for any change.
    Enable(ResourceId),
    /// `enabled` becomes false, without a check: what cannot be used any more is switched off.
    Disable(ResourceId),
    /// The resource is deleted.
    Delete(ResourceId),
}

/// What becomes of a resource that an import finds under the id of one of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExisting {
    /// The row is refused.
    #[default]
    Fail,
    /// It stays as it is.
    Skip,
    /// It is replaced; masked secrets stay as they are.
    Update,
}

/// How steps are made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum How {
    /// All in one write, or none.
    #[default]
    Together,
    /// Each by itself and in order, whatever becomes of the others.
    EachAlone,
    /// Not at all: they are checked only, as for [`Together`](Self::Together).
    NotYet,
}

/// What became of many changes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Whether what is told was done; not where it was only checked, or one of all was refused.
    pub applied: bool,
    /// One result for each step, in order.
    pub results: Vec<StepResult>,
}

/// What became of one step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepResult {
    /// The id of the resource, where it is known.
    pub id: Option<ResourceId>,
    /// What was done, or would be; or why it cannot be.
    pub outcome: Result<Outcome>,
}

/// What was done to one resource, or would be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was made.
    Created(Option<Document>),
    /// It has a new version.
    Updated(Option<Document>),
    /// It is as it should be already.
    Unchanged(Option<Document>),
    /// It was there already, and was left alone.
    Skipped,
    /// It is gone.
    Deleted,
}

impl Step {
    /// A step that asks for no revision.
    pub fn new(kind: impl Into<String>, task: Task) -> Self {
        Self { kind: kind.into(), task, expect: None }
    }

    /// Only where the resource has this revision.
    #[must_use]
    pub fn if_revision(mut self, revision: Revision) -> Self {
        self.expect = Some(revision);
        self
    }
}

impl StepResult {
    /// The result of a step that could not be read.
    #[must_use]
    pub fn refused(error: Error) -> Self {
        Self { id: None, outcome: Err(error) }
    }
}

impl Report {
    /// How many steps were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.results.iter().filter(|result| result.outcome.is_err()).count()
    }
}

impl Resources {
    /// Makes up to [`MAX_STEPS`] changes of an organization's resources. Nothing but
    /// [`How::EachAlone`] leaves a part of them done.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] for too many steps; [`Code::PermissionDenied`] where one is of a
    /// kind that the author may not change so; [`Code::RevisionConflict`] where others kept changing the same resources; and those of the store. All else is told step by step.
    ///
    /// # Cancellation
    ///
    /// Of [`How::EachAlone`], what was done before stays done.
    pub async fn batch(
        &self,
        org: &OrgId,
        steps: &[Step],
        how: How,
        actor: &Actor,
    ) -> Result<Report> {
        refuse_more(steps.len())?;
        self.permit(steps, actor)?;
        if how == How::EachAlone {
            let mut results = Vec::with_capacity(steps.len());
            for step in steps {
                let (id, outcome) = match self.alone(org, step, actor).await {
                    Ok((id, outcome)) => (Some(id), Ok(outcome)),
                    Err(error) => (step.task.id(), Err(error)),
                };
                results.push(StepResult { id, outcome });
            }
            return Ok(Report { applied: true, results });
        }
        let mut rounds = 0;
        loop {
            rounds += 1;
            match self.together(org, steps, how, actor).await {
                Err(error) if may_pass(&error) && rounds < MAX_ROUNDS => {}
                other => return other,
            }
        }
    }

    async fn alone(
        &self,
        org: &OrgId,
        step: &Step,
        actor: &Actor,
    ) -> Result<(ResourceId, Outcome)> {
        loop {
            let planned = self.plan(org, step, By::alone(actor)).await?;
            if let Some(done) = self.carry_out(planned, actor).await? {
                return Ok(done);
            }
        }
    }

    /// Does what was planned; nothing where it is to be planned anew, because somebody else changed
    /// the resource meanwhile.
    pub(super) async fn carry_out(
        &self,
        planned: Planned,
        actor: &Actor,
    ) -> Result<Option<(ResourceId, Outcome)>> {
        let change = match planned {
            Planned::Keep(id, outcome) => return Ok(Some((id, *outcome))),
            Planned::Write(change) => change,
        };
        let create = change.expect == Expect::Absent;
        match self.write(*change, actor).await {
            Err(error) if error.code() == Code::RevisionConflict => Ok(None),
            Err(error) => Err(error),
            Ok(record) => Ok(Some((record.id.clone(), self.outcome(record, create)?))),
        }
    }

    async fn together(
        &self,
        org: &OrgId,
        steps: &[Step],
        how: How,
        actor: &Actor,
    ) -> Result<Report> {
        let (results, changes) = self.plan_all(org, steps, actor).await?;
        let mut report = Report { applied: false, results };
        if how == How::NotYet || report.refused() > 0 {
            return Ok(report);
        }
        let (places, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        if !changes.is_empty() {
            let created: Vec<_> = changes.iter().map(|c| c.expect == Expect::Absent).collect();
            let written = self.write_all(changes, actor).await?;
            for ((place, created), record) in places.into_iter().zip(created).zip(written) {
                if let Some(result) = report.results.get_mut(place) {
                    result.outcome = Ok(self.outcome(record, created)?);
                }
            }
        }
        report.applied = true;
        Ok(report)
    }

    fn outcome(&self, record: Record, created: bool) -> Result<Outcome> {
        if record.deleted {
            return Ok(Outcome::Deleted);
        }
        let kind = &**self.kinds.get(&record.kind)?;
        let document = Some(Document::of(kind, record)?);
        Ok(if created { Outcome::Created(document) } else { Outcome::Updated(document) })
    }
}

impl Task {
    /// The id that it names.
    pub(super) fn id(&self) -> Option<ResourceId> {
        match self {
            Self::Create(document) | Self::Replace(document) | Self::Import(document, _) => {
                ResourceId::new(document.get("id")?.as_str()?).ok()
            }
            Self::Enable(id) | Self::Disable(id) | Self::Delete(id) => Some(id.clone()),
        }
    }
}

/// Refuses more steps than one batch may have.
pub(super) fn refuse_more(steps: usize) -> Result<()> {
    if steps <= MAX_STEPS {
        return Ok(());
    }
    let mut violations = Violations::default();
    violations.add("", "max_items", format!("use at most {MAX_STEPS} at once"));
    Err(violations.into_error())
}

/// Whether the write failed by what another caller did meanwhile, and is to be planned anew.
fn may_pass(error: &Error) -> bool {
    matches!(error.code(), Code::ResourceExists | Code::ResourceNotFound | Code::RevisionConflict)
}
