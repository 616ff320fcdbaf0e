use async_trait::async_trait;
use icp_core::access::{AccessStore, Holder};
use icp_core::error::Result;

use super::error::told;
use super::handle;
use super::store::MongoStore;

#[async_trait]
impl AccessStore for MongoStore {
    async fn holder(&self, handle: &str) -> Result<Option<Holder>> {
        told("find who holds a handle", handle::holder(self, handle).await)
    }
}
