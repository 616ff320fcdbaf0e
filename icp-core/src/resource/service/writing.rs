//! How a change is checked and written.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Actor, Around, By, Change, Document, Draft, Effect, Expect, Kind, OrgEntry, Record, Resources,
    SWITCHED_OFF, SpecContext, Violations, Write, amend, set_status,
};
use crate::error::{Code, Error, Result};
use crate::id::OrgId;
use crate::integration::filter;
use crate::notice::FAILING;
use crate::transform::Plan;

impl Resources {
    /// Writes over `present`, which masked secrets stand for: a caller who expects nothing more
    /// than presence still loses against a change made since it was read.
    pub(super) async fn change(
        &self,
        kind: &Arc<dyn Kind>,
        present: Record,
        draft: Draft,
        expect: Expect,
        actor: &Actor,
    ) -> Result<Document> {
        let expect = amend::exact(expect, present.revision);
        let previous = present.spec.clone();
        self.put(kind, present, draft, Some(&previous), expect, actor).await
    }

    pub(super) async fn put(
        &self,
        kind: &Arc<dyn Kind>,
        record: Record,
        draft: Draft,
        previous: Option<&Value>,
        expect: Expect,
        actor: &Actor,
    ) -> Result<Document> {
        let around = By::alone(actor).expecting(expect);
        let change = self.prepare(&**kind, record, draft, previous, around).await?;
        Document::of(&**kind, self.write(change, actor).await?)
    }

    /// Checks a draft of a new version; masked secrets in it are those of `previous`.
    pub(super) async fn prepare(
        &self,
        kind: &dyn Kind,
        mut record: Record,
        draft: Draft,
        previous: Option<&Value>,
        around: Around<'_>,
    ) -> Result<Change> {
        let Around { expect, by: By { actor, beside } } = around;
        let mut violations = Violations::default();
        draft.check(&mut violations);
        if draft.id.as_ref().is_some_and(|id| *id != record.id) {
            violations.add("/id", "id_fixed", "the id of a resource cannot change; leave it out");
        }
        self.check_reach(kind, &draft.spec, &mut violations);
        let org = record.org.clone();
        let id = record.id.clone();
        let known = match kind.asks_organization() && beside.is_none() {
            true => self.known(&org).await?,
            false => None,
        };
        let context = SpecContext {
            org: &org,
            kind: kind.name(),
            id: &id,
            name: draft.name.as_deref(),
            services: &self.services,
            within: beside.or(known.as_deref()),
            grantor: actor.may.as_ref(),
        };
        let present = (record.version > 0).then_some(&record.spec);
        kind.guard(&context, present)?;
        let admitted = match kind.admit(&context, &draft.spec, previous) {
            Err(error) if error.code() == Code::ResourceInvalid => {
                violations.extend("", error.list().iter().cloned());
                return Err(violations.into_error());
            }
            other => other?,
        };
        violations.into_result()?;
        self.check_plans(&org, &admitted.plans).await?;
        record.name = draft.name;
        record.labels = draft.labels;
        record.spec = admitted.spec;
        forget_troubles(&mut record, previous);
        let action = if previous.is_some() { "update" } else { "create" };
        Ok(Change { record, expect, action: action.into(), effects: admitted.effects })
    }

    /// Refuses an author who may do less than what is to be switched off or deleted.
    pub(super) async fn guard(&self, kind: &dyn Kind, present: &Record, by: By<'_>) -> Result<()> {
        let Some(grantor) = &by.actor.may else { return Ok(()) };
        let known = match kind.asks_organization() && by.beside.is_none() {
            true => self.known(&present.org).await?,
            false => None,
        };
        let context = SpecContext {
            org: &present.org,
            kind: kind.name(),
            id: &present.id,
            name: present.name.as_deref(),
            services: &self.services,
            within: by.beside.or(known.as_deref()),
            grantor: Some(grantor),
        };
        kind.guard(&context, Some(&present.spec))
    }

    /// Asks the transformer whether it can run every one of the plans.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] with every program that cannot be run and where it breaks;
    /// [`Code::Overloaded`] where it could not be found out for now.
    pub(crate) async fn check_plans(&self, org: &OrgId, plans: &[Plan]) -> Result<()> {
        let mut violations = Violations::default();
        for plan in plans {
            let Err(found) = self.services.transformer.check(plan, org).await else { continue };
            for error in found {
                if error.retryable {
                    let message = format!("the programs could not be checked: {error}");
                    return Err(Error::new(Code::Overloaded, message));
                }
                let error = filter::told(error, "/spec/filter");
                let pointer = error.pointer.as_deref().unwrap_or_default();
                violations.add(pointer, error.class(), error.to_string());
            }
        }
        violations.into_result()
    }

    /// The organization; none where there is none, which the store refuses by itself.
    pub(super) async fn known(&self, org: &OrgId) -> Result<Option<Arc<OrgEntry>>> {
        match self.index.org(org).await {
            Err(error) if error.code() == Code::OrganizationUnknown => Ok(None),
            found => found.map(Some),
        }
    }

    pub(super) async fn write(&self, change: Change, actor: &Actor) -> Result<Record> {
        let mut written = self.write_all(vec![change], actor).await?;
        written
            .pop()
            .ok_or_else(|| Error::new(Code::Internal, "the store answered a write with no record"))
    }

    /// Makes all changes, or none.
    pub(super) async fn write_all(
        &self,
        mut changes: Vec<Change>,
        actor: &Actor,
    ) -> Result<Vec<Record>> {
        for change in &mut changes {
            self.hold(change);
            change.effects.iter().try_for_each(Effect::check)?;
        }
        let write = Write { changes, actor: actor.clone(), now: self.clock.now() };
        let written = self.store.write(write).await?;
        self.index.apply(&written);
        self.tell_others().await;
        Ok(written)
    }

    /// Nodes that doze learn that something was written.
    async fn tell_others(&self) {
        let now = self.clock.monotonic();
        self.index.doze().stir(now);
        if self.index.doze().tells(now)
            && let Err(error) = self.store.hint_others().await
        {
            tracing::debug!(icp.error = error.code().as_str(), "no hint: {error}");
        }
    }

    /// Has a resource found by its handles; one that is deleted loses them by itself.
    /// What is noted of one whose spec cannot be read leaves them as they are.
    pub(super) fn hold(&self, change: &mut Change) {
        if change.record.deleted {
            return;
        }
        let kind = self.kinds.get(&change.record.kind);
        if let Ok(Some(handles)) = kind.and_then(|kind| kind.handles(&change.record)) {
            change.effects.push(Effect::Handles { handles });
        }
    }
}

/// Why an integration was switched off is over once somebody switched it on again, and so is how
/// long it failed: its time begins anew.
pub(super) fn forget_troubles(record: &mut Record, previous: Option<&Value>) {
    let enabled = |spec: &Value| spec.get("enabled") == Some(&Value::Bool(true));
    if !enabled(&record.spec) {
        return;
    }
    set_status(record, SWITCHED_OFF, None);
    if previous.is_some_and(|previous| !enabled(previous)) {
        set_status(record, FAILING, None);
    }
}
