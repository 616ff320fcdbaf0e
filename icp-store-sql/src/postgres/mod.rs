//! The PostgreSQL store: a pool of connections, any number of nodes.
//!
//! ```no_run
//! # async fn run() -> icp_core::Result<()> {
//! use icp_store_sql::postgres::PostgresStore;
//!
//! let store = PostgresStore::connect("postgres://app@localhost/app").await?;
//! # Ok(()) }
//! ```

pub(crate) mod error;
pub(crate) mod link;
mod migrate;

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::event::Event;
use icp_core::id::EventId;
use icp_core::store::StoreInfo;
use sqlx::{PgConnection, PgPool, Postgres};

use crate::SqlStore;
use crate::error::Failure;
use crate::link::{Link, Writer};
use crate::store::Backend;

/// A store in a PostgreSQL database.
///
/// Cloning is cheap and shares the connections.
pub type PostgresStore = SqlStore<Postgres>;

impl PostgresStore {
    /// Connects to the database at `url` and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`StoreUnavailable`](icp_core::Code::StoreUnavailable) where there is no answer.
    pub async fn connect(url: &str) -> Result<Self> {
        let pool = PgPool::connect(url).await.map_err(crate::error::classify)?;
        migrate::run(&pool).await?;
        Ok(Self::new(Server { pool }))
    }
}

/// As [`PostgresStore::publish_in`], where no store is at hand.
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
}

#[async_trait]
impl Backend for Server {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("postgres", true, true)
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, Failure> {
        Ok(Box::new(link::Writer(self.pool.acquire().await?)))
    }

    async fn reader(&self) -> Result<Box<dyn Link>, Failure> {
        Ok(Box::new(link::Reader(self.pool.acquire().await?)))
    }

    async fn close(&self) -> Result<(), Failure> {
        self.pool.close().await;
        Ok(())
    }
}
