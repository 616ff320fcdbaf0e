use super::Engine;
use crate::error::Result;
use crate::id::OrgId;
use crate::live::{AttemptCursor, LiveAttempts, LiveChanges};
use crate::resource::Revision;

impl Engine {
    /// Follows the attempts of an organization, those included that other nodes make; from `after`
    /// on, or from now.
    ///
    /// # Errors
    ///
    /// [`Code::Overloaded`](crate::Code::Overloaded) where
    /// [`MOST_STREAMS`](crate::live::MOST_STREAMS) are open, and those of the store.
    pub async fn live_attempts(
        &self,
        org: &OrgId,
        after: Option<AttemptCursor>,
    ) -> Result<LiveAttempts> {
        LiveAttempts::open(&self.core, org, after).await
    }

    /// Follows the changes of an organization's resources; from `after` on, or from now. Nothing
    /// is lost in between for as long as versions are kept.
    ///
    /// # Errors
    ///
    /// As [`live_attempts`](Self::live_attempts).
    pub async fn live_changes(&self, org: &OrgId, after: Option<Revision>) -> Result<LiveChanges> {
        LiveChanges::open(&self.core, org, after).await
    }

    /// Ends every live stream, for a host that waits for its connections before it shuts the
    /// engine down.
    pub fn close_streams(&self) {
        self.core.live.close();
    }
}
