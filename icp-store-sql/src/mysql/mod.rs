//! The MySQL or MariaDB store: a pool of connections, any number of nodes.
//!
//! ```no_run
//! # async fn run() -> icp_core::Result<()> {
//! use icp_store_sql::mysql::MySqlStore;
//!
//! let store = MySqlStore::connect("mysql://app@localhost/app").await?;
//! # Ok(()) }
//! ```

mod config;
pub(crate) mod error;
pub(crate) mod link;
mod migrate;
#[cfg(test)]
mod plan;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::event::Event;
use icp_core::id::EventId;
use icp_core::store::{Store, StoreInfo};
use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlConnection, MySqlPool};

pub use config::Builder;

use crate::SqlStore;
use crate::error::{Failure, overloaded};
use crate::held::Limit;
use crate::link::{Reader, Writer};
use crate::names::Names;
use crate::scope::Scope;
use crate::store::Backend;

/// A store in a MySQL or MariaDB database.
///
/// Cloning is cheap and shares the connections.
pub type MySqlStore = SqlStore<MySql>;

// Not generic, so that this crate holds the compiled store, and not each program that links it.
impl From<MySqlStore> for Arc<dyn Store> {
    fn from(store: MySqlStore) -> Self {
        Arc::new(store)
    }
}

impl MySqlStore {
    /// Connects to the database at `url` with the defaults of [`MySqlStore::builder`] and brings
    /// its tables up to date.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).open().await
    }

    /// The settings of a store at `url`, as in `mysql://user:password@host:3306/database`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// A store on a pool of the host's own, with the defaults of
    /// [`MySqlStore::builder_with_pool`].
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub async fn with_pool(pool: MySqlPool) -> Result<Self> {
        Self::builder_with_pool(pool).open().await
    }

    /// The settings of a store on a pool of the host's own, whose SQL mode must be strict.
    ///
    /// Its connections keep their settings: each transaction of the store asks for
    /// `READ COMMITTED` for itself. Closing the store closes the pool.
    pub fn builder_with_pool(pool: MySqlPool) -> Builder {
        Builder::with_pool(pool)
    }
}

/// As [`MySqlStore::publish_in`] for tables of the default names, where no store is at hand.
///
/// # Errors
///
/// As [`MySqlStore::publish_in`].
pub async fn publish_in(tx: &mut MySqlConnection, event: &Event) -> Result<EventId> {
    crate::outbox::publish_in::<MySql>(tx, event).await
}

/// The connections to one database.
struct Server {
    pool: MySqlPool,
    names: Names,
    /// Whether each connection is set up as the store needs it.
    own: bool,
    limit: Limit,
}

/// A connection; where none comes in time, tells whether all are taken or none can be made.
async fn acquire(pool: &MySqlPool) -> Result<PoolConnection<MySql>, Failure> {
    let error = match pool.acquire().await {
        Ok(conn) => return Ok(conn),
        Err(error) => error,
    };
    let late = matches!(error, sqlx::Error::PoolTimedOut);
    if late && pool.size() >= pool.options().get_max_connections() {
        return Err(overloaded().into());
    }
    let unanswered = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    Err(error::refused(if late { unanswered() } else { error }).into())
}

#[async_trait]
impl Backend for Server {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("mysql", true, true)
    }

    fn names(&self) -> Names {
        self.names.clone()
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, Failure> {
        let (conn, names) = (acquire(&self.pool).await?.into(), self.names.clone());
        Ok(Box::new(link::Writer { conn, names, own: self.own, limit: self.limit }))
    }

    async fn reader(&self, _: Scope<'_>) -> Result<Box<dyn Reader>, Failure> {
        Ok(Box::new(link::Reader(
            acquire(&self.pool).await?.into(),
            self.names.clone(),
            self.limit,
        )))
    }

    fn is_walled(&self) -> bool {
        false
    }

    async fn hinted(&self) {
        std::future::pending::<()>().await;
    }

    async fn announce(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Failure> {
        self.pool.close().await;
        Ok(())
    }
}
