use serde_json::Value;

use super::Engine;
use crate::error::{Code, Error, Fault, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Note, Spec};
use crate::source::{ProgressSlot, SourceProgress, SourceSpec, check_checkpoint};

/// How often a checkpoint is moved anew that somebody else writes at the same time.
const TRIES: usize = 10;

impl Engine {
    /// How far an event source has been read, and how that goes.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], and those of the store.
    pub async fn source_progress(&self, org: &OrgId, id: &ResourceId) -> Result<SourceProgress> {
        Ok(self.source_slot(org, id).await?.progress)
    }

    /// Has an event source go on from `checkpoint`, or begin anew where there is none. Whoever reads
    /// it stops, and begins again from there; what it published before and gives again is published
    /// once all the same, within the engine's window for idempotency keys.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`], [`Code::ResourceInvalid`] where the checkpoint has more than
    /// 64 KiB, [`Code::RevisionConflict`] where it is being written all the time, and those of the
    /// store: then it may have been moved all the same.
    ///
    /// # Cancellation
    ///
    /// A call that is dropped may move it, and leave no audit row.
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
            let mut slot = match self.source_slot(org, id).await {
                Err(error) if error.code() == Code::StoreCorrupt => {
                    ProgressSlot::clear(&*self.core().store, org, id).await?;
                    continue;
                }
                found => found?,
            };
            let from = std::mem::replace(&mut slot.progress.checkpoint, checkpoint.clone());
            slot.progress.holder = None;
            slot.progress.failing = None;
            slot.progress.advanced_at = Some(self.now());
            if self.write_surely(&mut slot).await? {
                let note = Note {
                    org: org.clone(),
                    actor: actor.clone(),
                    action: "move_checkpoint".to_owned(),
                    kind: SourceSpec::KIND.to_owned(),
                    id: id.clone(),
                    note: Some(format!("from {} to {}", shown(&from), shown(&checkpoint))),
                    now: self.now(),
                };
                self.core().store.note(note).await?;
                return Ok(slot.progress);
            }
        }
        let message = "the checkpoint is being written all the time; switch the source off first";
        Err(Error::new(Code::RevisionConflict, message))
    }

    /// Writes once more where it is not known whether it was written, which finds out.
    async fn write_surely(&self, slot: &mut ProgressSlot) -> Result<bool> {
        let (store, now) = (&*self.core().store, self.now());
        match slot.write(store, now).await {
            Err(error) if error.fault() == Fault::Transient => slot.write(store, now).await,
            written => written,
        }
    }

    async fn source_slot(&self, org: &OrgId, id: &ResourceId) -> Result<ProgressSlot> {
        let store = &*self.core().store;
        let found = store.resource(org, SourceSpec::KIND, id).await?;
        let missing =
            || Error::new(Code::ResourceNotFound, format!("there is no event source `{id}`"));
        let version = found.ok_or_else(missing)?.version;
        ProgressSlot::read(store, (org, id, version), self.now()).await
    }
}

/// A checkpoint as the audit log has it.
fn shown(checkpoint: &Option<Value>) -> String {
    const MOST: usize = 200;
    let text = checkpoint.as_ref().map_or_else(|| "none".to_owned(), Value::to_string);
    text.chars().take(MOST).collect()
}
