use async_trait::async_trait;
use icp_core::access::{AccessStore, Holder};
use icp_core::error::Result;
use sqlx::Database;

use crate::handle;
use crate::scope::Scope;
use crate::store::{SqlStore, read};

#[async_trait]
impl<D: Database> AccessStore for SqlStore<D> {
    async fn holder(&self, handle: &str) -> Result<Option<Holder>> {
        read!(self, Scope::Node, "find who holds a handle", |conn| {
            handle::holder(conn, handle).await
        })
    }
}
