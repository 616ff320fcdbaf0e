use serde_json::Value;

use super::Within;
use crate::error::Result;
use crate::id::ResourceId;
use crate::resource::{Actor, Spec};
use crate::source::{SourceProgress, SourceSpec};

impl Within {
    /// As [`Engine::source_progress`](crate::Engine::source_progress).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn source_progress(&self, id: &ResourceId) -> Result<SourceProgress> {
        self.resources.get(&self.org, SourceSpec::KIND, id).await?;
        self.engine.source_progress(&self.org, id).await
    }

    /// As [`Engine::move_source`](crate::Engine::move_source).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn move_source(
        &self,
        id: &ResourceId,
        checkpoint: Option<Value>,
        actor: &Actor,
    ) -> Result<SourceProgress> {
        self.resources.get(&self.org, SourceSpec::KIND, id).await?;
        self.engine.move_source(&self.org, id, checkpoint, actor).await
    }
}
