use async_trait::async_trait;
use icp_core::access::{AccessStore, ApiKeyRecord, Holder};
use icp_core::error::Result;
use icp_core::id::ApiKeyId;
use sqlx::Database;

use crate::error::{Failure, corrupt};
use crate::link::Conn;
use crate::scope::Scope;
use crate::statement::statement;
use crate::store::{SqlStore, commit, read};
use crate::{handle, resource, row};

#[async_trait]
impl<D: Database> AccessStore for SqlStore<D> {
    async fn bootstrap_key(&self, key: ApiKeyRecord) -> Result<bool> {
        commit!(self, Scope::Node, "store the first key", |tx| bootstrap(tx, &key).await)
    }

    async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        read!(self, Scope::Node, "read a key", |conn| one(conn, id).await)
    }

    async fn holder(&self, handle: &str) -> Result<Option<Holder>> {
        read!(self, Scope::Node, "find who holds a handle", |conn| {
            handle::holder(conn, handle).await
        })
    }
}

async fn bootstrap(conn: &mut Conn<'_>, key: &ApiKeyRecord) -> Result<bool, Failure> {
    resource::lock(conn).await?;
    let done = statement(
        "INSERT INTO icp_api_key (id, hash, created_at) SELECT ?, ?, ? \
         WHERE NOT EXISTS (SELECT 1 FROM icp_api_key)",
    )
    .bind(key.id.to_bytes().to_vec())
    .bind(key.hash.to_vec())
    .bind(key.created_at.as_millis())
    .execute(conn)
    .await?;
    Ok(done > 0)
}

async fn one(conn: &mut Conn<'_>, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, Failure> {
    let found = statement("SELECT hash, created_at FROM icp_api_key WHERE id = ?")
        .bind(id.to_bytes().to_vec())
        .fetch_optional(conn)
        .await?;
    let Some(found) = found else { return Ok(None) };
    let hash: &[u8] = found.try_get(0)?;
    let hash = hash.try_into().map_err(|_| corrupt("a key's hash has not 32 bytes"))?;
    Ok(Some(ApiKeyRecord { id, hash, created_at: row::time(&found, 1)? }))
}
