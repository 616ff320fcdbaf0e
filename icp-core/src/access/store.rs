use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::{OrgId, ResourceId};

/// Finds resources by their handles.
#[async_trait]
pub trait AccessStore: Debug + Send + Sync + 'static {
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
