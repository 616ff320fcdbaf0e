//! How far a source has been read, and who reads it: one slot for each source.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SourceSpec;
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::resource::Spec;
use crate::slot::{NewSlot, Slot, SlotExpect};
use crate::store::Store;
use crate::time::Timestamp;

/// How long a checkpoint may be, in bytes of JSON.
pub(crate) const MAX_CHECKPOINT: usize = 64 << 10;

/// How much is kept of what a source says of its failure, in characters.
const MAX_MESSAGE: usize = 1_024;

/// How many versions of a source are looked through for its deletion.
const HISTORY: usize = 1_000;

/// How long a checkpoint is kept after its source was last read or moved.
const KEPT: Duration = Duration::from_secs(400 * 86_400);

/// How far an event source has been read, and how that goes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceProgress {
    /// From where the next poll goes on, in the source's own words; `null` where it was never told.
    #[serde(default)]
    pub checkpoint: Option<Value>,
    /// The run of the engine that reads it; none while nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// How many events were published.
    #[serde(default)]
    pub events: u64,
    /// How many were there already, from before a crash say.
    #[serde(default)]
    pub duplicates: u64,
    /// How many were refused because they can never be published; the audit log names them.
    #[serde(default)]
    pub refused: u64,
    /// When the checkpoint was last kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced_at: Option<Timestamp>,
    /// Why it gets no further, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<SourceFailing>,
}

/// Why a source gets no further.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceFailing {
    /// The stable name of the last failure.
    pub code: String,
    /// What went wrong, for people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// How many polls in a row.
    pub times: u32,
}

impl SourceProgress {
    /// How many polls in a row did not go well.
    pub(super) fn failures(&self) -> u32 {
        self.failing.as_ref().map_or(0, |failing| failing.times)
    }

    /// Notes one more failure.
    pub(super) fn failed(&mut self, code: &str, message: &str, now: Timestamp) {
        let before = self.failing.take();
        self.failing = Some(SourceFailing {
            code: code.to_owned(),
            message: message.chars().take(MAX_MESSAGE).collect(),
            since: before.as_ref().map_or(now, |before| before.since),
            times: before.map_or(0, |before| before.times).saturating_add(1),
        });
    }
}

/// The key of a source's slot.
fn progress_key(org: &OrgId, source: &ResourceId) -> String {
    format!("source/{org}/{source}")
}

/// Refuses a checkpoint that is not kept.
pub(crate) fn check_checkpoint(checkpoint: &Value) -> Result<()> {
    let bytes = checkpoint.to_string().len();
    if bytes <= MAX_CHECKPOINT {
        return Ok(());
    }
    let message = format!("the checkpoint has {bytes} bytes; use at most {MAX_CHECKPOINT}");
    let violation = Violation::new("/checkpoint", "too_large", message);
    Err(Error::violations(Code::ResourceInvalid, vec![violation]))
}

/// What a slot holds.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// The version of the source that it was read by last: one that was deleted since, and made
    /// again, begins anew.
    version: u64,
    /// The version that it was read by first.
    #[serde(default)]
    began_with: u64,
    #[serde(flatten)]
    progress: SourceProgress,
}

/// A progress as it was read or written last. Every write asks for the version of the one before,
/// so of two who write one loses, and knows it.
#[derive(Clone, Debug)]
pub(crate) struct ProgressSlot {
    key: String,
    source_version: u64,
    /// None where there is no slot.
    slot_version: Option<u64>,
    /// The version of the source that began anew last.
    began_with: u64,
    pub(crate) progress: SourceProgress,
}

impl ProgressSlot {
    /// The progress of a source, whose present version is `version`.
    pub(crate) async fn read(
        store: &dyn Store,
        (org, id, version): (&OrgId, &ResourceId, u64),
        now: Timestamp,
    ) -> Result<Self> {
        let key = progress_key(org, id);
        let slot = store.slot(&key, now).await?;
        let (began_with, progress) = match slot.as_ref().map(kept).transpose()? {
            Some(kept) if !deleted_since(store, (org, id, version), kept.version).await? => {
                (kept.began_with, kept.progress)
            }
            _ => (version, SourceProgress::default()),
        };
        let slot_version = slot.map(|slot| slot.version);
        Ok(Self { key, source_version: version, slot_version, began_with, progress })
    }

    /// The version of the slot; none where there is none.
    pub(super) fn slot_version(&self) -> Option<u64> {
        self.slot_version
    }

    /// What tells events of this source from those of one that had its id before.
    pub(super) fn began_with(&self) -> u64 {
        self.began_with
    }

    /// Removes what is kept of a source, whatever it is.
    pub(crate) async fn clear(store: &dyn Store, org: &OrgId, id: &ResourceId) -> Result<()> {
        store.remove_slot(&progress_key(org, id), None).await.map(|_| ())
    }

    /// Removes the slot, where nobody wrote it since.
    pub(crate) async fn remove(self, store: &dyn Store) -> Result<()> {
        store.remove_slot(&self.key, self.slot_version).await.map(|_| ())
    }

    /// Writes the progress, where nobody else has since it was read; answers whether it did. After
    /// an error it may be written all the same: the same call, with the same `now`, finds out.
    pub(crate) async fn write(&mut self, store: &dyn Store, now: Timestamp) -> Result<bool> {
        let kept = Kept {
            version: self.source_version,
            began_with: self.began_with,
            progress: self.progress.clone(),
        };
        let value = serde_json::to_string(&kept).map_err(|error| {
            Error::new(Code::Internal, "a progress has no json form").caused_by(error)
        })?;
        let slot = NewSlot { key: self.key.clone(), value, expires_at: now + KEPT };
        let expect = self.slot_version.map_or(SlotExpect::Absent, SlotExpect::Version);
        let written = store.put_slot(slot, expect, now).await?;
        if written {
            self.slot_version = Some(NewSlot::version(expect, now));
        }
        Ok(written)
    }
}

/// Whether a source was deleted and made again after its version `known`. What is kept of its
/// history no more is taken for changes.
async fn deleted_since(
    store: &dyn Store,
    (org, id, version): (&OrgId, &ResourceId, u64),
    known: u64,
) -> Result<bool> {
    let between = usize::try_from(version.saturating_sub(known)).unwrap_or(usize::MAX);
    if between == 0 {
        return Ok(false);
    }
    let versions = store.history(org, SourceSpec::KIND, id, None, between.min(HISTORY)).await?;
    Ok(versions.iter().any(|one| one.deleted && one.version > known))
}

fn kept(slot: &Slot) -> Result<Kept> {
    serde_json::from_str(&slot.value).map_err(|error| {
        let message = "the progress of an event source cannot be read; move its checkpoint";
        Error::new(Code::StoreCorrupt, message).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::MemoryStore;

    const EARLIER: Timestamp = Timestamp::from_millis(500);
    const NOW: Timestamp = Timestamp::from_millis(1_000);

    async fn read(store: &MemoryStore) -> ProgressSlot {
        let (org, id) = (OrgId::new("acme").unwrap(), ResourceId::new("orders").unwrap());
        ProgressSlot::read(store, (&org, &id, 1), NOW).await.unwrap()
    }

    #[tokio::test]
    async fn of_two_who_write_one_loses() {
        let store = MemoryStore::new();
        let (mut one, mut two) = (read(&store).await, read(&store).await);
        one.progress.holder = Some("one".to_owned());
        two.progress.holder = Some("two".to_owned());
        let mut repeated = one.clone();
        assert!(one.write(&store, NOW).await.unwrap());
        assert!(repeated.write(&store, NOW).await.unwrap());
        assert!(!two.write(&store, NOW).await.unwrap());
        let mut third = read(&store).await;
        assert_eq!(third.progress.holder.as_deref(), Some("one"));
        third.progress.checkpoint = Some(json!(7));
        assert!(third.write(&store, NOW).await.unwrap());
        assert!(!one.write(&store, NOW).await.unwrap());
    }

    #[test]
    fn failures_are_counted_from_the_first() {
        let mut progress = SourceProgress::default();
        progress.failed("timeout", "too late", EARLIER);
        progress.failed("refused", &"no".repeat(MAX_MESSAGE), NOW);
        let failing = progress.failing.unwrap();
        assert_eq!(failing.message.len(), MAX_MESSAGE);
        assert_eq!((failing.code.as_str(), failing.since, failing.times), ("refused", EARLIER, 2));
    }

    #[test]
    fn a_checkpoint_has_a_bound() {
        assert!(check_checkpoint(&json!("x".repeat(MAX_CHECKPOINT - 2))).is_ok());
        let error = check_checkpoint(&json!("x".repeat(MAX_CHECKPOINT - 1))).unwrap_err();
        assert_eq!(error.code(), Code::ResourceInvalid);
    }
}
