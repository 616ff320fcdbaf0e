use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryStore;
use crate::access::{AccessStore, ApiKeyRecord, Holder};
use crate::error::Result;
use crate::id::ApiKeyId;

#[derive(Debug, Default)]
pub(super) struct Access {
    keys: BTreeMap<ApiKeyId, ApiKeyRecord>,
}

#[async_trait]
impl AccessStore for MemoryStore {
    async fn bootstrap_key(&self, key: ApiKeyRecord) -> Result<bool> {
        let keys = &mut self.lock().access.keys;
        if !keys.is_empty() {
            return Ok(false);
        }
        keys.insert(key.id, key);
        Ok(true)
    }

    async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        Ok(self.lock().access.keys.get(&id).cloned())
    }

    async fn holder(&self, handle: &str) -> Result<Option<Holder>> {
        Ok(self.lock().resources.holder(handle))
    }
}
