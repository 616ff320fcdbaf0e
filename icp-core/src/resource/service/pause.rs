use serde_json::{Value, json};

use super::{ORGANIZATION, Resources, set_status};
use crate::access::OrganizationSpec;
use crate::error::{Code, Result};
use crate::id::{OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::resource::{Actor, Change, Document, Effect, Expect, Record, Spec};

const PAUSED: &str = "paused";
const MAX_REASON: usize = 500;

impl Resources {
    /// Pauses an integration: it goes on to collect deliveries, and none of them starts, until it
    /// is [resumed](Self::resume_integration). What is under way ends. Nothing burns a try, but
    /// an event's expiry and a retry policy's deadline go on to count.
    ///
    /// Who paused it, why (the first 500 characters) and when are noted in its status. Where it
    /// is paused already, nothing changes. An engine's own
    /// [`pause_integration`](crate::Engine::pause_integration) is the same.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], and those of the store.
    pub async fn pause_integration(
        &self,
        org: &OrgId,
        id: &ResourceId,
        why: &str,
        actor: &Actor,
    ) -> Result<Document> {
        self.set_pause(org, IntegrationSpec::KIND, id, Some(why), actor).await
    }

    /// Ends the pause of an integration: what has collected is delivered, each lane in its
    /// order. Where it is not paused, nothing changes; where it is off, or its organization is
    /// paused, its deliveries wait on.
    ///
    /// # Errors
    ///
    /// As [`pause_integration`](Self::pause_integration).
    pub async fn resume_integration(
        &self,
        org: &OrgId,
        id: &ResourceId,
        actor: &Actor,
    ) -> Result<Document> {
        self.set_pause(org, IntegrationSpec::KIND, id, None, actor).await
    }

    /// Pauses a whole organization: it goes on to take events, and none of its deliveries
    /// starts. The pauses of its integrations stand beside it, each for itself.
    ///
    /// # Errors
    ///
    /// As [`pause_integration`](Self::pause_integration).
    pub async fn pause_organization(
        &self,
        org: &OrgId,
        why: &str,
        actor: &Actor,
    ) -> Result<Document> {
        let id = ResourceId::new(org.as_str())?;
        self.set_pause(org, OrganizationSpec::KIND, &id, Some(why), actor).await
    }

    /// Ends the pause of an organization; integrations that are paused themselves stay so.
    ///
    /// # Errors
    ///
    /// As [`pause_integration`](Self::pause_integration).
    pub async fn resume_organization(&self, org: &OrgId, actor: &Actor) -> Result<Document> {
        let id = ResourceId::new(org.as_str())?;
        self.set_pause(org, OrganizationSpec::KIND, &id, None, actor).await
    }

    async fn set_pause(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        why: Option<&str>,
        actor: &Actor,
    ) -> Result<Document> {
        let kind = self.kinds.get(kind)?;
        loop {
            let mut record = self.present(org, kind, id).await?;
            if is_paused(&record) == why.is_some() {
                return Document::of(&**kind, record);
            }
            let status = why.map(|why| self.note_of(why, actor));
            set_status(&mut record, PAUSED, status);
            let paused = why.is_some();
            let effects = vec![Effect::Pause { integration: integration(&record), paused }];
            let action = if paused { "pause" } else { "resume" };
            let expect = Expect::Revision(record.revision);
            let change = Change { record, expect, action: action.into(), effects };
            match self.write(change, actor).await {
                Err(error) if error.code() == Code::RevisionConflict => {}
                other => return Document::of(&**kind, other?),
            }
        }
    }

    fn note_of(&self, why: &str, actor: &Actor) -> Value {
        let why: String = why.chars().take(MAX_REASON).collect();
        json!({ "by": actor.name, "reason": why, "at": self.clock.now() })
    }
}

/// What stands for the pause of a resource in the records of work, where it is paused.
pub(super) fn effect(record: &Record) -> Option<Effect> {
    is_paused(record).then(|| Effect::Pause { integration: integration(record), paused: true })
}

fn is_paused(record: &Record) -> bool {
    record.status.get(PAUSED).is_some()
}

/// The integration whose lanes are meant; none for those of the whole organization.
fn integration(record: &Record) -> Option<ResourceId> {
    (&*record.kind != ORGANIZATION).then(|| record.id.clone())
}
