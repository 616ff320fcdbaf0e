use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::ApiKeyId;
use crate::time::Timestamp;

/// Keeps API keys, of which only a hash is known.
#[async_trait]
pub trait AccessStore: Debug + Send + Sync + 'static {
    /// Stores the first key, where there is none yet; answers whether it did.
    async fn bootstrap_key(&self, key: ApiKeyRecord) -> Result<bool>;

    /// A key by its id.
    async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>>;
}

/// An API key as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKeyRecord {
    /// The id, part of the key's text.
    pub id: ApiKeyId,
    /// SHA-256 of the key's random part.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
}
