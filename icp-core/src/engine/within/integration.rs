use super::Within;
use crate::error::Result;
use crate::id::ResourceId;
use crate::integration::IntegrationSpec;
use crate::resource::{Actor, Document, Spec};
use crate::trial::{CurlCommand, Sample, TestOf, TestReport};

impl Within {
    /// As [`Engine::pause_integration`](crate::Engine::pause_integration).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pause_integration(
        &self,
        id: &ResourceId,
        why: &str,
        actor: &Actor,
    ) -> Result<Document> {
        self.resources.pause_integration(&self.org, id, why, actor).await
    }

    /// As [`Engine::resume_integration`](crate::Engine::resume_integration).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn resume_integration(&self, id: &ResourceId, actor: &Actor) -> Result<Document> {
        let document = self.resources.resume_integration(&self.org, id, actor).await?;
        self.engine.core.due.notify_one();
        Ok(document)
    }

    /// As [`Engine::test_delivery`](crate::Engine::test_delivery) of an integration that is saved.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn test_saved(&self, id: ResourceId, sample: Sample) -> Result<TestReport> {
        self.integration(&id).await?;
        self.engine.test_delivery(&self.org, TestOf::Saved(id), sample).await
    }

    /// As [`Engine::integration_curl`](crate::Engine::integration_curl) of an integration that is
    /// saved.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn saved_curl(&self, id: ResourceId, sample: Sample) -> Result<CurlCommand> {
        self.integration(&id).await?;
        self.engine.integration_curl(&self.org, TestOf::Saved(id), sample).await
    }

    /// Fails as a read of the integration does where it is beyond reach.
    async fn integration(&self, id: &ResourceId) -> Result<()> {
        if self.reach.is_whole() {
            return Ok(());
        }
        self.resources.get(&self.org, IntegrationSpec::KIND, id).await.map(drop)
    }

    /// Whether an integration is there and within reach.
    pub(super) async fn has_integration(&self, id: &ResourceId) -> Result<bool> {
        if self.reach.is_whole() {
            return Ok(true);
        }
        let view = self.engine.core.org(&self.org).await?;
        let known = view.matching.integration(id).and_then(|known| known.as_ref().ok());
        Ok(known.is_some_and(|known| self.reach.covers(known.unit.as_ref())))
    }
}
