use std::any::Any;
use std::sync::Arc;

use serde_json::Value;

use super::{Change, Document, Expect, Resources, Revision, Spec, SpecContext};
use crate::error::{Result, unwound};
use crate::id::{IdSource, OrgId, ResourceId};
use crate::resource::entry::typed;
use crate::resource::kind::{refuse_weaker, stored, to_value};
use crate::resource::{Actor, OrgEntry, Violations};
use crate::secret::{Previous, SealAll};
use crate::time::Timestamp;

/// What an edit of a stored spec may use.
#[derive(Debug)]
pub(crate) struct Editing<'a> {
    pub(crate) context: SpecContext<'a>,
    pub(crate) ids: &'a dyn IdSource,
    pub(crate) now: Timestamp,
}

impl Resources {
    /// Changes a stored spec in place, its other secrets sealed as they are; plain secrets that
    /// `edit` puts in are sealed. What `edit` leaves is written as it is: it breaks no rule.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace), and those of `edit`: then nothing is written.
    pub(crate) async fn amend<S: Spec, T: Send>(
        &self,
        org: &OrgId,
        id: &ResourceId,
        (action, expect): (&str, Expect),
        actor: &Actor,
        edit: impl FnOnce(&mut S, &Editing<'_>) -> Result<T> + Send,
    ) -> Result<(Document, T)> {
        let kind = self.kinds.get(S::KIND)?;
        let mut record = self.present(org, kind, id).await?;
        let expect = exact(expect, record.revision);
        let services = &self.services;
        let context = SpecContext {
            org,
            kind: kind.name(),
            id,
            name: None,
            services,
            within: None,
            grantor: None,
        };
        let mut spec = stored::<S>(&record.spec)?;
        let editing = Editing { context, ids: self.ids.as_ref(), now: self.clock.now() };
        let answer = edit(&mut spec, &editing)?;
        let sealer = &self.services.sealer;
        spec.visit_secrets(&mut SealAll::new(sealer, context.owner(), Previous::default()))?;
        record.spec = to_value(&spec)?;
        let effects = spec.effects(id);
        let change = Change { record, expect, action: action.to_owned(), effects };
        Ok((Document::of(&**kind, self.write(change, actor).await?)?, answer))
    }

    /// As [`amend`](Self::amend), for a principal: its author may do all that the principal may.
    ///
    /// # Errors
    ///
    /// [`Code::PrincipalStronger`](crate::Code::PrincipalStronger) where the author may not.
    pub(crate) async fn amend_principal<S: Spec, T: Send>(
        &self,
        org: &OrgId,
        id: &ResourceId,
        how: (&str, Expect),
        actor: &Actor,
        edit: impl FnOnce(&mut S, &Editing<'_>) -> Result<T> + Send,
    ) -> Result<(Document, T)> {
        let within = self.known(org).await?;
        let grantor = actor.may.as_ref();
        self.amend(org, id, how, actor, |spec: &mut S, editing| {
            let within = within.as_deref();
            let context = SpecContext { within, grantor, ..editing.context };
            refuse_weaker(Some(&*spec), &context)?;
            let answer = edit(spec, editing)?;
            let mut violations = Violations::at("/spec");
            spec.validate(&context, &mut violations);
            violations.into_result()?;
            Ok(answer)
        })
        .await
    }

    /// A spec that is not saved, checked and compiled as if it were: for one use.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`](crate::Code::ResourceInvalid) with everything that is wrong,
    /// those of [`check_plans`](Self::check_plans), and those of [`Spec::compile`].
    pub(crate) async fn compile_draft<S: Spec, T: Any + Send + Sync>(
        &self,
        within: &OrgEntry,
        id: &ResourceId,
        spec: &Value,
    ) -> Result<Arc<T>> {
        let kind = self.kinds.get(S::KIND)?;
        let (org, services) = (within.org(), &self.services);
        let within = Some(within);
        let context =
            SpecContext { org, kind: kind.name(), id, name: None, services, within, grantor: None };
        let admitted = kind.admit(&context, spec, None)?;
        self.check_plans(org, &admitted.plans).await?;
        typed(&unwound("compile the resource", || kind.compile(&context, &admitted.spec))?)
    }
}

/// What is written over was read here, so a change made since must not be lost.
pub(super) fn exact(expect: Expect, present: Revision) -> Expect {
    match expect {
        Expect::Present | Expect::Any => Expect::Revision(present),
        Expect::Absent | Expect::Revision(_) => expect,
    }
}
