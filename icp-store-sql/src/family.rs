use async_trait::async_trait;
use icp_core::error::Result;
use sqlx::Database;

use crate::Dialect;
use crate::outbox::OutboxInsert;

/// A kind of database that a [`SqlStore`](crate::SqlStore) can be in.
///
/// Implemented for sqlx's databases, by feature; not for others.
#[async_trait]
pub trait Family: Database + sealed::Sealed {
    /// What it speaks.
    const DIALECT: Dialect;

    /// Runs `insert` on a host's own connection.
    ///
    /// # Errors
    ///
    /// As for the host's own statements, as in [`StoreLocked`](icp_core::Code::StoreLocked).
    async fn put(conn: &mut Self::Connection, insert: OutboxInsert) -> Result<()>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}
