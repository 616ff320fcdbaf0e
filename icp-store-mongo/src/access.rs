use async_trait::async_trait;
use icp_core::access::{AccessStore, ApiKeyRecord, Holder};
use icp_core::error::Result;
use icp_core::id::ApiKeyId;
use mongodb::bson::{Document, doc};

use super::error::{Failure, corrupt, told};
use super::row::{Fields, bin, blob, ms};
use super::store::{ACCESS, MongoStore};
use super::{batch, handle};

#[async_trait]
impl AccessStore for MongoStore {
    async fn bootstrap_key(&self, key: ApiKeyRecord) -> Result<bool> {
        told("store the first api key", bootstrap(self, &key).await)
    }

    async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        told("read an api key", api_key(self, id).await)
    }

    async fn holder(&self, handle: &str) -> Result<Option<Holder>> {
        told("find who holds a handle", handle::holder(self, handle).await)
    }
}

/// The place of the first key; of several nodes that store one, one wins it.
const FIRST: &str = "first";

async fn bootstrap(store: &MongoStore, key: &ApiKeyRecord) -> Result<bool, Failure> {
    let document = doc! {
        "_id": FIRST,
        "key": bin(key.id.to_bytes()),
        "hash": blob(key.hash.to_vec()),
        "created_at": ms(key.created_at),
    };
    Ok(batch::insert(store.lasting(ACCESS), &[document]).await?.is_empty())
}

async fn api_key(store: &MongoStore, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, Failure> {
    let filter = doc! { "_id": FIRST, "key": bin(id.to_bytes()) };
    let found = store.light(ACCESS).find_one(filter).await?;
    Ok(found.as_ref().map(record).transpose()?)
}

fn record(found: &Document) -> Result<ApiKeyRecord> {
    let hash = found.bytes("hash")?.try_into();
    Ok(ApiKeyRecord {
        id: ApiKeyId::from_bytes(found.id("key")?),
        hash: hash.map_err(|_| corrupt("a key's hash has not 32 bytes"))?,
        created_at: found.time("created_at")?,
    })
}
