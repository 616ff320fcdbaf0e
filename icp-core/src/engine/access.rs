//! Who calls the engine, and how that is proved.

use super::Engine;
use crate::access::{ApiKey, BuiltInRole, Principal};
use crate::error::{Code, Result};
use crate::id::OrgId;

impl Engine {
    /// Who holds `credential`: the text of an API key. None where it proves nothing; why is not
    /// told.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn authenticate(&self, credential: &str) -> Result<Option<Principal>> {
        let Ok(key) = ApiKey::parse(credential) else { return Ok(None) };
        let found = self.core.store.api_key(key.id()).await?;
        let held = found.filter(|record| key.verify(record));
        Ok(held.map(|record| {
            let all = BuiltInRole::SuperAdmin.permissions();
            Principal::new(format!("key:{}", record.id)).granted_everywhere(all)
        }))
    }

    /// Whether the organization is there and suspended.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn is_suspended(&self, org: &OrgId) -> Result<bool> {
        match self.core.index.org(org).await {
            Ok(entry) => Ok(!entry.organization()?.active),
            Err(error) if error.code() == Code::OrganizationUnknown => Ok(false),
            Err(error) => Err(error),
        }
    }
}
