use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Around, By, ORGANIZATION, Resources, amend, pause, reach};
use crate::access::{Authority, Operation, Permission};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::resource::document::merge;
use crate::resource::{
    Actor, Change, Document, Draft, Effect, Expect, Kind, OrgEntry, Record, Revision, Violations,
};

/// The most steps of one batch.
pub const MAX_STEPS: usize = 1_000;

/// How often the steps are gone through, so that some may refer to later ones.
const MAX_PASSES: usize = 3;

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
    /// A resource is made of a [`Draft`], given as JSON.
    Create(Value),
    /// A whole new version is put in place of the present one, whose id the [`Draft`] names.
    Replace(Value),
    /// A resource is made of a [`Draft`], or what is there under its id is treated as said.
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

impl<'a> By<'a> {
    fn expecting(self, expect: Expect) -> Around<'a> {
        Around { expect, actor: self.actor, beside: self.beside }
    }
}

/// What a step comes to.
enum Planned {
    Write(Box<Change>),
    Keep(ResourceId, Box<Outcome>),
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

    /// Refuses what is there where another revision of it is expected.
    fn hold_to_revision(&self, present: Option<&Record>) -> Result<()> {
        match (self.expect, present) {
            (Some(expected), Some(record)) if record.revision != expected => {
                let message = format!("the resource has revision {} by now", record.revision);
                Err(Error::new(Code::RevisionConflict, message))
            }
            _ => Ok(()),
        }
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
    /// [`Code::ResourceInvalid`] for too many steps; [`Code::RevisionConflict`] where others kept
    /// changing the same resources; and those of the store. All else is told step by step.
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
        if steps.len() > MAX_STEPS {
            let mut violations = Violations::default();
            violations.add("", "max_items", format!("use at most {MAX_STEPS} at once"));
            return Err(violations.into_error());
        }
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
            let change = match self.plan(org, step, By { actor, beside: None }).await? {
                Planned::Keep(id, outcome) => return Ok((id, *outcome)),
                Planned::Write(change) => change,
            };
            let create = change.expect == Expect::Absent;
            match self.write(*change, actor).await {
                Err(error) if error.code() == Code::RevisionConflict => {}
                Err(error) => return Err(error),
                Ok(record) => {
                    let id = record.id.clone();
                    return Ok((id, self.outcome(record, create)?));
                }
            }
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

    /// Plans every step, each as if those that can be done were done; a step that refers to what a
    /// later one makes is planned once more after it.
    async fn plan_all(
        &self,
        org: &OrgId,
        steps: &[Step],
        actor: &Actor,
    ) -> Result<(Vec<StepResult>, Vec<(usize, Change)>)> {
        let mut beside = self.known(org).await?.map(|entry| OrgEntry::clone(&entry));
        let (mut seen, mut changes) = (HashSet::new(), Vec::new());
        let mut results: Vec<Option<StepResult>> = steps.iter().map(|_| None).collect();
        for pass in 1.. {
            let before = changes.len();
            for (index, (step, result)) in steps.iter().zip(&mut results).enumerate() {
                if result.as_ref().is_some_and(|result| result.outcome.is_ok()) {
                    continue;
                }
                let by = By { actor, beside: beside.as_ref() };
                let planned = match self.plan(org, step, by).await {
                    Ok(planned) if !seen.insert((&*step.kind, planned.id().clone())) => {
                        Err(twice(planned.id()))
                    }
                    other => other,
                };
                let (id, outcome) = match planned {
                    Ok(Planned::Keep(id, outcome)) => (Some(id), Ok(*outcome)),
                    Ok(Planned::Write(change)) => {
                        if let Some(beside) = &mut beside {
                            beside.foresee(change.record.clone(), &self.index);
                        }
                        let told = (Some(change.record.id.clone()), Ok(foreseen(&change)));
                        changes.push((index, *change));
                        told
                    }
                    Err(error) => (step.task.id(), Err(error)),
                };
                *result = Some(StepResult { id, outcome });
            }
            let refused = results.iter().flatten().any(|result| result.outcome.is_err());
            if !refused || changes.len() == before || pass == MAX_PASSES {
                break;
            }
        }
        changes.sort_by_key(|(index, _)| *index);
        Ok((results.into_iter().flatten().collect(), changes))
    }

    async fn plan(&self, org: &OrgId, step: &Step, by: By<'_>) -> Result<Planned> {
        let kind = &**self.kinds.get(&step.kind)?;
        if kind.name() == ORGANIZATION {
            let message = "organizations are made and changed one by one, by their own routes";
            return Err(refused("/kind", "organization", message));
        }
        self.permit(kind, &step.task, by.actor)?;
        let named = step.task.id();
        let present = match &named {
            Some(id) => self.seen(org, kind, id).await?,
            None => None,
        };
        step.hold_to_revision(present.as_ref())?;
        let there = |present: Option<Record>| {
            let unnamed = || refused("/id", "required", "name the resource");
            present.ok_or_else(|| named.as_ref().map_or_else(unnamed, |id| missing(kind, id)))
        };
        match &step.task {
            Task::Create(document) => {
                self.plan_creation(org, kind, Draft::read(document)?, by).await
            }
            Task::Replace(document) => {
                let draft = Draft::read(document)?;
                self.plan_version(kind, there(present)?, draft, by).await
            }
            Task::Import(document, existing) => {
                let draft = Draft::read(document)?;
                match (present, existing) {
                    (None, _) => self.plan_creation(org, kind, draft, by).await,
                    (Some(present), OnExisting::Update) => {
                        self.plan_version(kind, present, draft, by).await
                    }
                    (Some(present), OnExisting::Skip) => {
                        Ok(Planned::Keep(present.id, Box::new(Outcome::Skipped)))
                    }
                    (Some(present), OnExisting::Fail) => Err(exists(kind, &present.id)),
                }
            }
            Task::Enable(_) => self.plan_enabling(kind, there(present), by).await,
            Task::Disable(_) => self.plan_disabling(kind, there(present), by).await,
            Task::Delete(_) => {
                let present = there(present)?;
                self.permit_deletion(kind, &present, by.actor)?;
                self.guard(kind, &present, by).await?;
                Ok(deletion(kind, present))
            }
        }
    }

    async fn plan_creation(
        &self,
        org: &OrgId,
        kind: &dyn Kind,
        draft: Draft,
        by: By<'_>,
    ) -> Result<Planned> {
        let record = self.fresh(org, kind, &draft).await?;
        if self.store.resource(org, kind.name(), &record.id).await?.is_some() {
            return Err(exists(kind, &record.id));
        }
        let change = self.prepare(kind, record, draft, None, by.expecting(Expect::Absent)).await?;
        Ok(Planned::Write(Box::new(change)))
    }

    async fn plan_version(
        &self,
        kind: &dyn Kind,
        present: Record,
        draft: Draft,
        by: By<'_>,
    ) -> Result<Planned> {
        let expect = amend::exact(Expect::Present, present.revision);
        let previous = present.spec.clone();
        let around = by.expecting(expect);
        let change = self.prepare(kind, present, draft, Some(&previous), around).await?;
        Ok(Planned::Write(Box::new(change)))
    }

    async fn plan_enabling(
        &self,
        kind: &dyn Kind,
        present: Result<Record>,
        by: By<'_>,
    ) -> Result<Planned> {
        let present = switchable(kind, present)?;
        let mut spec = kind.mask(&present.spec)?;
        if spec.get("enabled") == Some(&Value::Bool(true)) {
            return unchanged(kind, present);
        }
        merge(&mut spec, &json!({ "enabled": true }));
        let (name, labels) = (present.name.clone(), present.labels.clone());
        let draft = Draft { id: None, name, labels, spec };
        self.plan_version(kind, present, draft, by).await
    }

    async fn plan_disabling(
        &self,
        kind: &dyn Kind,
        present: Result<Record>,
        by: By<'_>,
    ) -> Result<Planned> {
        let mut record = switchable(kind, present)?;
        self.guard(kind, &record, by).await?;
        match record.spec.get_mut("enabled") {
            Some(enabled) if *enabled != Value::Bool(false) => *enabled = Value::Bool(false),
            _ => return unchanged(kind, record),
        }
        let effects = kind.effects(&record.id, &record.spec)?;
        let expect = Expect::Revision(record.revision);
        let change = Change { record, expect, action: "update".into(), effects };
        Ok(Planned::Write(Box::new(change)))
    }

    /// A batch may be about several kinds, each with permissions of its own. Where the author
    /// reaches some units only, their resources are those it may write.
    fn permit(&self, kind: &dyn Kind, task: &Task, actor: &Actor) -> Result<()> {
        let operation = match task {
            Task::Delete(_) => Operation::Delete,
            _ => Operation::Write,
        };
        let permission = Permission::new(kind.area(), operation);
        let has = |authority: &Authority| {
            let in_units = authority.in_units.iter().any(|(_, may)| may.has(permission));
            authority.here.has(permission) || (in_units && !self.reach.is_whole())
        };
        if actor.may.as_ref().is_none_or(has) { Ok(()) } else { Err(denied(permission)) }
    }

    /// Who may write in a unit may not delete there by that.
    fn permit_deletion(&self, kind: &dyn Kind, present: &Record, actor: &Actor) -> Result<()> {
        let permission = Permission::new(kind.area(), Operation::Delete);
        let unit = reach::unit(kind, &present.spec);
        let has =
            |authority: &Authority| authority.has(permission, unit.as_ref(), self.reach.tree());
        if actor.may.as_ref().is_none_or(has) { Ok(()) } else { Err(denied(permission)) }
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

impl Planned {
    fn id(&self) -> &ResourceId {
        match self {
            Self::Write(change) => &change.record.id,
            Self::Keep(id, _) => id,
        }
    }
}

fn denied(permission: Permission) -> Error {
    let message = format!("ask for a role that has `{permission}` in this organization");
    Error::new(Code::PermissionDenied, message)
}

/// What is there, where its kind can be switched on and off.
fn switchable(kind: &dyn Kind, present: Result<Record>) -> Result<Record> {
    if kind.schema().pointer("/properties/enabled").is_none() {
        let message = format!("a {} is not switched on or off", kind.name());
        return Err(refused("", "not_switchable", message));
    }
    present
}

fn unchanged(kind: &dyn Kind, record: Record) -> Result<Planned> {
    let (id, document) = (record.id.clone(), Document::of(kind, record)?);
    Ok(Planned::Keep(id, Box::new(Outcome::Unchanged(Some(document)))))
}

/// The deletion of what is there.
pub(super) fn removal(kind: &dyn Kind, mut record: Record, expect: Expect) -> Change {
    // A spec that cannot be read any more can still be deleted.
    let mut effects = kind.effects(&record.id, &record.spec).unwrap_or_default();
    effects.extend(pause::effect(&record));
    let effects = effects.into_iter().map(Effect::of_deletion).collect();
    record.deleted = true;
    Change { record, expect, action: "delete".into(), effects }
}

fn deletion(kind: &dyn Kind, record: Record) -> Planned {
    let expect = Expect::Revision(record.revision);
    Planned::Write(Box::new(removal(kind, record, expect)))
}

fn foreseen(change: &Change) -> Outcome {
    match change.expect {
        _ if change.record.deleted => Outcome::Deleted,
        Expect::Absent => Outcome::Created(None),
        _ => Outcome::Updated(None),
    }
}

/// Whether the write failed by what another caller did meanwhile, and is to be planned anew.
fn may_pass(error: &Error) -> bool {
    matches!(error.code(), Code::ResourceExists | Code::ResourceNotFound | Code::RevisionConflict)
}

fn exists(kind: &dyn Kind, id: &ResourceId) -> Error {
    Error::new(Code::ResourceExists, format!("{} `{id}` exists already", kind.name()))
}

pub(super) fn missing(kind: &dyn Kind, id: &ResourceId) -> Error {
    Error::new(Code::ResourceNotFound, format!("there is no {} `{id}`", kind.name()))
}

fn twice(id: &ResourceId) -> Error {
    refused("/id", "twice", format!("`{id}` is named twice; name it once"))
}

pub(super) fn refused(pointer: &str, rule: &str, message: impl Into<String>) -> Error {
    Error::violations(Code::ResourceInvalid, vec![Violation::new(pointer, rule, message)])
}
