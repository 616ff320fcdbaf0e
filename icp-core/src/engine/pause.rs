use super::Engine;
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Document};

impl Engine {
    /// Pauses an integration: it goes on to collect deliveries, and none of them starts. What is
    /// under way ends, and nothing burns a try. See
    /// [`Resources::pause_integration`](crate::resource::Resources::pause_integration).
    ///
    /// # Errors
    ///
    /// [`ResourceNotFound`](crate::Code::ResourceNotFound), and those of the store.
    pub async fn pause_integration(
        &self,
        org: &OrgId,
        id: &ResourceId,
        why: &str,
        actor: &Actor,
    ) -> Result<Document> {
        self.resources().pause_integration(org, id, why, actor).await
    }

    /// Ends the pause of an integration; this node takes up at once what has collected, and
    /// others within their `feed`.
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
        let document = self.resources().resume_integration(org, id, actor).await?;
        self.core().due.notify_one();
        Ok(document)
    }

    /// Pauses an organization: it goes on to take events, and none of its deliveries starts.
    /// That is the other way round for one that is suspended.
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
        self.resources().pause_organization(org, why, actor).await
    }

    /// Ends the pause of an organization; integrations that are paused themselves stay so.
    ///
    /// # Errors
    ///
    /// As [`pause_integration`](Self::pause_integration).
    pub async fn resume_organization(&self, org: &OrgId, actor: &Actor) -> Result<Document> {
        let document = self.resources().resume_organization(org, actor).await?;
        self.core().due.notify_one();
        Ok(document)
    }
}
