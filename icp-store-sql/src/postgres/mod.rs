//! The PostgreSQL store: a pool of connections, any number of nodes.
//!
//! ```no_run
//! # async fn run() -> icp_core::Result<()> {
//! use icp_store_sql::postgres::PostgresStore;
//!
//! let store = PostgresStore::connect("postgres://app@localhost/app").await?;
//! # Ok(()) }
//! ```

mod config;
pub(crate) mod error;
pub(crate) mod link;
mod listen;
mod migrate;
#[cfg(test)]
mod plan;
mod wall;

use std::sync::Arc;

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::event::Event;
use icp_core::id::EventId;
use icp_core::store::{Store, StoreInfo};
use sqlx::{PgConnection, PgPool, Postgres};

pub use config::Builder;
pub use wall::RowSecurity;

use crate::SqlStore;
use crate::error::{Failure, overloaded};
use crate::held::{Held, Limit};
use crate::link::{Reader, Writer};
use crate::names::Names;
use crate::scope::Scope;
use crate::store::Backend;
use link::Wording;
use listen::Ear;

/// A store in a PostgreSQL database.
///
/// Cloning is cheap and shares the connections.
pub type PostgresStore = SqlStore<Postgres>;

// Not generic, so that this crate holds the compiled store, and not each program that links it.
impl From<PostgresStore> for Arc<dyn Store> {
    fn from(store: PostgresStore) -> Self {
        Arc::new(store)
    }
}

impl PostgresStore {
    /// Connects to the database at `url` with the defaults of [`PostgresStore::builder`], and
    /// brings its tables up to date.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).open().await
    }

    /// The settings of a store in the database at `url`, as in
    /// `postgres://user:password@host:5432/database?sslmode=verify-full`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// A store on a pool of the host's own, with the defaults of
    /// [`PostgresStore::builder_with_pool`].
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub async fn with_pool(pool: PgPool) -> Result<Self> {
        Self::builder_with_pool(pool).open().await
    }

    /// The settings of a store on a pool of the host's own.
    ///
    /// Its connections keep their settings. Closing the store closes the pool.
    pub fn builder_with_pool(pool: PgPool) -> Builder {
        Builder::with_pool(pool)
    }
}

/// As [`PostgresStore::publish_in`] for tables of the default names, where no store is at hand.
///
/// # Errors
///
/// As [`PostgresStore::publish_in`].
pub async fn publish_in(tx: &mut PgConnection, event: &Event) -> Result<EventId> {
    crate::outbox::publish_in::<Postgres>(tx, event).await
}

/// The connections to one database.
struct Server {
    pool: PgPool,
    wording: Wording,
    limit: Limit,
    ear: Option<Ear>,
}

impl Server {
    /// A connection; where none comes in time, tells whether all are taken or none can be made.
    async fn acquire(&self) -> Result<Held<Postgres>, Failure> {
        let error = match self.pool.acquire().await {
            Ok(conn) => return Ok(conn.into()),
            Err(error) => error,
        };
        if matches!(error, sqlx::Error::PoolTimedOut)
            && self.pool.size() >= self.pool.options().get_max_connections()
        {
            return Err(overloaded().into());
        }
        let error = match error {
            sqlx::Error::PoolTimedOut => sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
            other => other,
        };
        Err(error::refused(error).into())
    }
}

#[async_trait]
impl Backend for Server {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("postgres", true, true)
    }

    fn names(&self) -> Names {
        self.wording.names.clone()
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, Failure> {
        let (conn, wording) = (self.acquire().await?, self.wording.clone());
        Ok(Box::new(link::Writer::new(conn, wording, self.limit)))
    }

    async fn reader(&self, scope: Scope<'_>) -> Result<Box<dyn Reader>, Failure> {
        let (conn, wording) = (self.acquire().await?, self.wording.clone());
        Ok(Box::new(link::Reader::begin(conn, wording, self.limit, scope).await?))
    }

    fn is_walled(&self) -> bool {
        self.wording.walled
    }

    async fn hinted(&self) {
        match &self.ear {
            Some(ear) => ear.hint().await,
            None => std::future::pending().await,
        }
    }

    fn hears(&self) -> bool {
        self.ear.as_ref().is_some_and(Ear::hears)
    }

    async fn announce(&self) -> Result<(), Failure> {
        Ok(listen::announce(&self.pool, &self.wording.names).await?)
    }

    async fn close(&self) -> Result<(), Failure> {
        if let Some(ear) = &self.ear {
            ear.close().await;
        }
        self.pool.close().await;
        Ok(())
    }
}
