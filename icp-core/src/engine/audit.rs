use super::Engine;
use crate::error::Result;
use crate::id::OrgId;
use crate::resource::{AuditCheck, verify_audit};

impl Engine {
    /// Looks at every audit row of an organization and says whether each is the one that was
    /// written. It reads page by page and holds nothing up; rows that are written meanwhile are
    /// left to the next look.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn verify_audit(&self, org: &OrgId) -> Result<AuditCheck> {
        verify_audit(&*self.core.store, org).await
    }
}
