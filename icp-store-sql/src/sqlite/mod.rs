//! The SQLite store: one file in WAL mode, one writer, a few readers.
//!
//! ```no_run
//! # async fn run() -> icp_core::Result<()> {
//! use icp_store_sql::sqlite::SqliteStore;
//!
//! let store = SqliteStore::open("icp.db").await?;
//! # Ok(()) }
//! ```

mod config;
pub(crate) mod error;
pub(crate) mod link;
mod migrate;
#[cfg(test)]
mod plan;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::event::Event;
use icp_core::id::EventId;
use icp_core::store::{Store, StoreInfo};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use config::{Builder, Synchronous};

use crate::SqlStore;
use crate::error::{Failure, overloaded};
use crate::link::{Reader, Writer};
use crate::names::Names;
use crate::scope::Scope;
use crate::store::Backend;

/// A store in one SQLite file.
///
/// Several processes may open the same file. Cloning is cheap and shares the connections.
pub type SqliteStore = SqlStore<Sqlite>;

// Not generic, so that this crate holds the compiled store, and not each program that links it.
impl From<SqliteStore> for Arc<dyn Store> {
    fn from(store: SqliteStore) -> Self {
        Arc::new(store)
    }
}

impl SqliteStore {
    /// Opens the file at `path` with the defaults of [`SqliteStore::builder`], and makes it
    /// where it is missing.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// The settings of a store at `path`.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }
}

/// As [`SqliteStore::publish_in`], where no store is at hand.
///
/// # Errors
///
/// As [`SqliteStore::publish_in`].
pub async fn publish_in(tx: &mut SqliteConnection, event: &Event) -> Result<EventId> {
    crate::outbox::publish_in::<Sqlite>(tx, event).await
}

/// The connections to one file.
struct File {
    writer: Arc<Mutex<SqliteConnection>>,
    options: SqliteConnectOptions,
    readers: SqlitePool,
}

impl File {
    /// The writer, outside of any transaction.
    ///
    /// Where the disk is full, SQLite itself may end a transaction; the driver's roll-back then
    /// fails and leaves it counting one as open, so that a fresh connection has to take over.
    async fn free_writer(&self) -> Result<OwnedMutexGuard<SqliteConnection>, sqlx::Error> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        if writer.is_in_transaction() {
            // A roll-back of a call that was dropped may still be on its way.
            let answers = writer.ping().await;
            if answers.is_err() || writer.is_in_transaction() {
                *writer = self.options.connect().await?;
            }
        }
        Ok(writer)
    }
}

#[async_trait]
impl Backend for File {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("sqlite", true, true)
    }

    fn names(&self) -> Names {
        Names::default()
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, Failure> {
        Ok(Box::new(link::Writer(self.free_writer().await?)))
    }

    async fn reader(&self, _: Scope<'_>) -> Result<Box<dyn Reader>, Failure> {
        match self.readers.acquire().await {
            Ok(conn) => Ok(Box::new(link::Reader(conn))),
            Err(sqlx::Error::PoolTimedOut) => Err(overloaded().into()),
            Err(error) => Err(error.into()),
        }
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
        self.readers.close().await;
        let mut writer = self.writer.lock().await;
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *writer).await?;
        Ok(())
    }
}
