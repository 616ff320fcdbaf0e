//! The MySQL or MariaDB store: a pool of connections, any number of nodes.
//!
//! ```no_run
//! # async fn run() -> icp_core::Result<()> {
//! use icp_store_sql::mysql::MySqlStore;
//!
//! let store = MySqlStore::connect("mysql://app@localhost/app").await?;
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
use sqlx::{MySql, MySqlConnection, MySqlPool};

use crate::SqlStore;
use crate::error::Failure;
use crate::link::{Link, Writer};
use crate::names::Names;
use crate::store::Backend;

/// A store in a MySQL or MariaDB database.
///
/// Cloning is cheap and shares the connections.
pub type MySqlStore = SqlStore<MySql>;

impl MySqlStore {
    /// Connects to the database at `url` and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`StoreUnavailable`](icp_core::Code::StoreUnavailable) where there is no answer.
    pub async fn connect(url: &str) -> Result<Self> {
        let pool = MySqlPool::connect(url).await.map_err(crate::error::classify)?;
        migrate::run(&pool).await?;
        Ok(Self::new(Server { pool }))
    }
}

/// As [`MySqlStore::publish_in`], where no store is at hand.
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
}

#[async_trait]
impl Backend for Server {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("mysql", true, true)
    }

    fn names(&self) -> Names {
        Names::default()
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, Failure> {
        Ok(Box::new(link::Writer(self.pool.acquire().await?)))
    }

    async fn reader(&self) -> Result<Box<dyn Link>, Failure> {
        Ok(Box::new(link::Reader(self.pool.acquire().await?)))
    }

    async fn hinted(&self) {
        std::future::pending().await
    }

    async fn announce(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Failure> {
        self.pool.close().await;
        Ok(())
    }
}
