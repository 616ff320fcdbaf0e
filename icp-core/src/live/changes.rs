use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::{LASTS, Live, LiveEnd, Seat};
use crate::engine::core::Core;
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::{Record, Revision};
use crate::time::Timestamp;

/// How often the store is asked where nothing says that it has something.
const POLL: Duration = Duration::from_secs(1);

/// How many changes of all organizations are read at once.
const BATCH: usize = 200;

/// That a resource was made, changed or removed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LiveChange {
    /// The number of the write; a stream is resumed after it.
    pub revision: Revision,
    /// The kind of resource, as in `integration`.
    pub kind: String,
    /// The id of the resource.
    pub id: ResourceId,
    /// Its version.
    pub version: u64,
    /// Whether it was removed.
    pub deleted: bool,
    /// When.
    pub at: Timestamp,
}

impl From<Record> for LiveChange {
    fn from(record: Record) -> Self {
        Self {
            revision: record.revision,
            kind: record.kind.to_string(),
            id: record.id,
            version: record.version,
            deleted: record.deleted,
            at: record.updated_at,
        }
    }
}

/// The changes of an organization's resources as they are made, each once and in order, those of
/// other nodes included.
#[derive(Debug)]
pub struct LiveChanges {
    core: Arc<Core>,
    org: OrgId,
    after: Revision,
    found: VecDeque<LiveChange>,
    until: Instant,
    seat: Seat,
}

impl LiveChanges {
    pub(crate) async fn open(
        core: &Arc<Core>,
        org: &OrgId,
        after: Option<Revision>,
    ) -> Result<Self> {
        let seat = core.live.admit()?;
        let after = match after {
            Some(after) => after,
            None => core.store.head().await?,
        };
        Ok(Self {
            core: Arc::clone(core),
            org: org.clone(),
            after,
            found: VecDeque::new(),
            until: Instant::now() + LASTS,
            seat,
        })
    }

    /// The next change; waits for it. Nothing once the stream has ended.
    ///
    /// # Cancellation
    ///
    /// Dropping the call loses no change.
    pub async fn next(&mut self) -> Option<Live<LiveChange>> {
        if self.seat.ended {
            return None;
        }
        loop {
            if let Some(change) = self.found.pop_front() {
                return Some(Live::Item(change));
            }
            let closing = self.seat.closing.clone();
            if closing.is_cancelled() {
                return self.seat.end(LiveEnd::Shutdown);
            }
            if !self.read().await {
                return self.seat.end(LiveEnd::Store);
            }
            if !self.found.is_empty() {
                continue;
            }
            let next = Revision(self.after.0 + 1);
            tokio::select! {
                () = closing.cancelled() => {}
                () = sleep_until(self.until) => return self.seat.end(LiveEnd::Age),
                () = self.core.index.at_least(next) => {}
                () = sleep(POLL) => {}
            }
        }
    }

    /// Reads on in the feed of all organizations; answers whether the store did.
    async fn read(&mut self) -> bool {
        loop {
            let changes = match self.core.store.changes(self.after, BATCH).await {
                Ok(changes) => changes,
                Err(error) => {
                    tracing::warn!(
                        icp.error = error.code().as_str(),
                        "a live stream ends, as the feed cannot be read: {error}"
                    );
                    return false;
                }
            };
            let whole = changes.len() == BATCH;
            self.after = changes.last().map_or(self.after, |last| last.revision);
            let own = changes.into_iter().filter(|record| record.org == self.org);
            self.found.extend(own.map(LiveChange::from));
            if !whole || !self.found.is_empty() {
                return true;
            }
        }
    }
}
