use async_trait::async_trait;

use super::MemoryStore;
use crate::access::{AccessStore, Holder};
use crate::error::Result;

#[async_trait]
impl AccessStore for MemoryStore {
    async fn holder(&self, handle: &str) -> Result<Option<Holder>> {
        Ok(self.lock().resources.holder(handle))
    }
}
