use serde_json::Value;

use super::Engine;
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Note, Spec};
use crate::source::{Held, SourceProgress, SourceSpec, check_checkpoint};

/// How often a checkpoint is moved anew that somebody else writes at the same time.
const TRIES: usize = 10;

impl Engine {
    /// How far an event source has been read, and how that goes.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], and those of the store.
    pub async fn source_progress(&self, org: &OrgId, id: &ResourceId) -> Result<SourceProgress> {
        Ok(self.held_source(org, id).await?.progress)
    }

    /// Has an event source go on from `checkpoint`, or begin anew where there is none. Whoever reads
    /// it stops, and begins again from there; what it published before and gives again is published
    /// once all the same, within the engine's window for idempotency keys.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], [`Code::ResourceInvalid`] where the checkpoint has more than
    /// 64 KiB, [`Code::RevisionConflict`] where it is being written all the time, and those of the
    /// store.
    pub async fn move_source(
        &self,
        org: &OrgId,
        id: &ResourceId,
        checkpoint: Option<Value>,
        actor: &Actor,
    ) -> Result<SourceProgress> {
        if let Some(checkpoint) = &checkpoint {
            check_checkpoint(checkpoint)?;
        }
        for _ in 0..TRIES {
            let mut held = match self.held_source(org, id).await {
                Err(error) if error.code() == Code::StoreCorrupt => {
                    Held::clear(&*self.core().store, org, id).await?;
                    continue;
                }
                held => held?,
            };
            held.progress.checkpoint.clone_from(&checkpoint);
            held.progress.holder = None;
            held.progress.failing = None;
            if held.write(&*self.core().store, self.now()).await? {
                let note = Note {
                    org: org.clone(),
                    actor: actor.clone(),
                    action: "move_checkpoint".to_owned(),
                    kind: SourceSpec::KIND.to_owned(),
                    id: id.clone(),
                    note: None,
                    now: self.now(),
                };
                self.core().store.note(note).await?;
                return Ok(held.progress);
            }
        }
        let message = "the checkpoint is being written all the time; switch the source off first";
        Err(Error::new(Code::RevisionConflict, message))
    }

    async fn held_source(&self, org: &OrgId, id: &ResourceId) -> Result<Held> {
        let store = &*self.core().store;
        let found = store.resource(org, SourceSpec::KIND, id).await?;
        let missing =
            || Error::new(Code::ResourceNotFound, format!("there is no event source `{id}`"));
        let version = found.ok_or_else(missing)?.version;
        Held::read(store, (org, id, version), self.now()).await
    }
}
