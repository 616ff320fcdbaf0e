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
mod version;

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::event::Event;
use icp_core::id::EventId;
use icp_core::store::StoreInfo;
use sqlx::{MySql, MySqlConnection, MySqlPool};

pub use config::Builder;

use crate::SqlStore;
use crate::error::Failure;
use crate::link::{Link, Writer};
use crate::store::Backend;

/// A store in a MySQL or MariaDB database.
///
/// Cloning is cheap and shares the connections.
pub type MySqlStore = SqlStore<MySql>;

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

    /// A store on a host's own connections, which must be to a database with a strict SQL mode;
    /// brings its tables up to date.
    ///
    /// Every transaction of the store asks for `READ COMMITTED` by itself.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub async fn with_pool(pool: MySqlPool) -> Result<Self> {
        config::open(pool, false).await.map_err(|error| error.during("open the store"))
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
    /// Whether each connection is set up as the store needs it.
    own: bool,
}

#[async_trait]
impl Backend for Server {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("mysql", true, true)
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, Failure> {
        let conn = self.pool.acquire().await?;
        Ok(Box::new(link::Writer { conn, own: self.own }))
    }

    async fn reader(&self) -> Result<Box<dyn Link>, Failure> {
        Ok(Box::new(link::Reader(self.pool.acquire().await?)))
    }

    async fn close(&self) -> Result<(), Failure> {
        self.pool.close().await;
        Ok(())
    }
}
