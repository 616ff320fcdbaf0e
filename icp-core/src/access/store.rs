use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::{ApiKeyId, OrgId, ResourceId};
use crate::time::Timestamp;

/// Keeps API keys, of which only a hash is known, and finds resources by their handles.
#[async_trait]
pub trait AccessStore: Debug + Send + Sync + 'static {
    /// Stores the first key, where there is none yet; answers whether it did.
    async fn bootstrap_key(&self, key: ApiKeyRecord) -> Result<bool>;

    /// A key by its id.
    async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>>;

    /// The resource that is found by `handle`, whichever organization it belongs to; resources
    /// take their handles by [`Effect::Handles`](crate::resource::Effect::Handles).
    ///
    /// For finding out who makes a request, which happens before it is known whose it is. Handles
    /// are compared byte by byte.
    async fn holder(&self, handle: &str) -> Result<Option<Holder>>;
}

/// The resource that is found by a handle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// The organization it belongs to.
    pub org: OrgId,
    /// The name of its kind.
    pub kind: Arc<str>,
    /// Its id within organization and kind.
    pub id: ResourceId,
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
