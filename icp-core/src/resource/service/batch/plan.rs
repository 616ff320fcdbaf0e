//! What the steps of a batch come to, before anything is written.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{OnExisting, Outcome, Step, StepResult, Task};
use crate::access::{Authority, Operation, Permission};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::resource::document::merge;
use crate::resource::service::{By, ORGANIZATION, Resources, amend, pause, reach};
use crate::resource::{Actor, Change, Document, Draft, Effect, Expect, Kind, OrgEntry, Record};

/// How often the steps are gone through, so that some may refer to later ones.
const MAX_PASSES: usize = 3;

/// What a step comes to.
pub(in crate::resource::service) enum Planned {
    Write(Box<Change>),
    Keep(ResourceId, Box<Outcome>),
}

impl Resources {
    /// Plans every step, each as if those that can be done were done; a step that refers to what a
    /// later one makes is planned once more after it.
    pub(super) async fn plan_all(
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

    pub(super) async fn plan(&self, org: &OrgId, step: &Step, by: By<'_>) -> Result<Planned> {
        let kind = &**self.kinds.get(&step.kind)?;
        if kind.name() == ORGANIZATION {
            let message = "organizations are made and changed one by one, by their own routes";
            return Err(refused("/kind", "organization", message));
        }
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
                match present {
                    None => self.plan_creation(org, kind, draft, by).await,
                    Some(present) => self.plan_meeting(kind, present, draft, *existing, by).await,
                }
            }
            Task::Enable(_) => self.plan_enabling(kind, there(present), by).await,
            Task::Disable(_) => self.plan_disabling(kind, there(present), by).await,
            Task::Delete(_) => {
                let present = there(present)?;
                self.permit_deletion(kind, &present, by.actor)?;
                self.guard(kind, &present, by).await?;
                Ok(Planned::deletion(kind, present))
            }
        }
    }

    pub(in crate::resource::service) async fn plan_creation(
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

    /// What becomes of an imported draft and the resource that is there under its id.
    pub(in crate::resource::service) async fn plan_meeting(
        &self,
        kind: &dyn Kind,
        present: Record,
        draft: Draft,
        existing: OnExisting,
        by: By<'_>,
    ) -> Result<Planned> {
        match existing {
            OnExisting::Update => self.plan_version(kind, present, draft, by).await,
            OnExisting::Skip => Ok(Planned::Keep(present.id, Box::new(Outcome::Skipped))),
            OnExisting::Fail => Err(exists(kind, &present.id)),
        }
    }

    pub(in crate::resource::service) async fn plan_version(
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
    /// reaches some units only, each resource is judged by its unit.
    pub(super) fn permit(&self, steps: &[Step], actor: &Actor) -> Result<()> {
        let Some(authority) = &actor.may else { return Ok(()) };
        let has = |permission| {
            let in_units = authority.in_units.iter().any(|(_, may)| may.has(permission));
            authority.here.has(permission) || (in_units && !self.reach.is_whole())
        };
        for step in steps {
            // One that is not known is told step by step.
            let Ok(kind) = self.kinds.get(&step.kind) else { continue };
            let operation = match step.task {
                Task::Delete(_) if !self.reach.is_whole() => continue,
                Task::Delete(_) => Operation::Delete,
                _ => Operation::Write,
            };
            let permission = Permission::new(kind.area(), operation);
            if kind.name() != ORGANIZATION && !has(permission) {
                return Err(denied(permission));
            }
        }
        Ok(())
    }

    /// Who may write in a unit may not delete there by that.
    fn permit_deletion(&self, kind: &dyn Kind, present: &Record, actor: &Actor) -> Result<()> {
        let permission = Permission::new(kind.area(), Operation::Delete);
        let unit = reach::unit(kind, &present.spec);
        let has =
            |authority: &Authority| authority.has(permission, unit.as_ref(), self.reach.tree());
        if actor.may.as_ref().is_none_or(has) { Ok(()) } else { Err(denied(permission)) }
    }
}

impl Step {
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

impl Planned {
    /// The deletion of what is there.
    pub(in crate::resource::service) fn deletion(kind: &dyn Kind, record: Record) -> Self {
        let expect = Expect::Revision(record.revision);
        Self::Write(Box::new(removal(kind, record, expect)))
    }

    /// What it would come to.
    pub(in crate::resource::service) fn foreseen(self) -> (ResourceId, Outcome) {
        match self {
            Self::Write(change) => (change.record.id.clone(), foreseen(&change)),
            Self::Keep(id, outcome) => (id, *outcome),
        }
    }

    pub(in crate::resource::service) fn id(&self) -> &ResourceId {
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
pub(in crate::resource::service) fn removal(
    kind: &dyn Kind,
    mut record: Record,
    expect: Expect,
) -> Change {
    // A spec that cannot be read any more can still be deleted.
    let mut effects = kind.effects(&record.id, &record.spec).unwrap_or_default();
    effects.extend(pause::effect(&record));
    let effects = effects.into_iter().map(Effect::of_deletion).collect();
    record.deleted = true;
    Change { record, expect, action: "delete".into(), effects }
}

fn foreseen(change: &Change) -> Outcome {
    match change.expect {
        _ if change.record.deleted => Outcome::Deleted,
        Expect::Absent => Outcome::Created(None),
        _ => Outcome::Updated(None),
    }
}

fn exists(kind: &dyn Kind, id: &ResourceId) -> Error {
    Error::new(Code::ResourceExists, format!("{} `{id}` exists already", kind.name()))
}

pub(in crate::resource::service) fn missing(kind: &dyn Kind, id: &ResourceId) -> Error {
    Error::new(Code::ResourceNotFound, format!("there is no {} `{id}`", kind.name()))
}

pub(in crate::resource::service) fn twice(id: &ResourceId) -> Error {
    refused("/id", "twice", format!("`{id}` is named twice; name it once"))
}

pub(in crate::resource::service) fn refused(
    pointer: &str,
    rule: &str,
    message: impl Into<String>,
) -> Error {
    Error::violations(Code::ResourceInvalid, vec![Violation::new(pointer, rule, message)])
}
