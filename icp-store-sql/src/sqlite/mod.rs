//! The SQLite store: one file in WAL mode, one writer, a few readers.
//!
//! ```no_run
//! # async fn run() -> icp_core::Result<()> {
//! use icp_store_sql::sqlite::SqliteStore;
//!
//! let store = SqliteStore::open("icp.db").await?;
//! # Ok(()) }
//! ```

mod access;
mod aside;
mod audit;
mod cancel;
mod claim;
mod config;
mod delivery;
mod erasure;
mod error;
mod event;
mod health;
mod ingest;
mod lane;
mod letter;
mod meter;
mod migrate;
mod note;
mod outbox;
#[cfg(test)]
mod plan;
mod replay;
mod rescue;
mod resource;
mod rest;
mod retention;
mod row;
mod settle;
mod sight;
mod statement;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::store::{Store, StoreInfo};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, MutexGuard, Notify};

pub use config::{Builder, Synchronous};
pub use outbox::publish_in;

use error::Failure;

/// A store in one SQLite file.
///
/// Several processes may open the same file. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct SqliteStore(Arc<Shared>);

struct Shared {
    writer: Mutex<SqliteConnection>,
    options: SqliteConnectOptions,
    readers: SqlitePool,
    hint: Notify,
    /// Whether lanes in bad health were settled of late: a hint to look at their health first.
    ill: AtomicBool,
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

    /// Tells the engine of this process that a host transaction with outbox rows was committed.
    ///
    /// Never needed for correctness: without it the rows are found by the next poll.
    pub fn hint(&self) {
        self.0.hint.notify_one();
    }

    /// Closes all connections, after the write under way.
    ///
    /// # Errors
    ///
    /// Where the last checkpoint fails; what was committed stays committed.
    pub async fn close(&self) -> Result<()> {
        self.0.readers.close().await;
        let mut writer = self.0.writer.lock().await;
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *writer).await;
        checkpoint.map(drop).map_err(|error| error::classify(error).during("close"))
    }

    /// The writer, outside of any transaction.
    ///
    /// Where the disk is full, SQLite itself may end a transaction; the driver's roll-back then
    /// fails and leaves it counting one as open, so that a fresh connection has to take over.
    async fn writer(&self) -> Result<MutexGuard<'_, SqliteConnection>, sqlx::Error> {
        let mut writer = self.0.writer.lock().await;
        if writer.is_in_transaction() {
            // A roll-back of a call that was dropped may still be on its way.
            let answers = writer.ping().await;
            if answers.is_err() || writer.is_in_transaction() {
                *writer = self.0.options.connect().await?;
            }
        }
        Ok(writer)
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, Failure> {
        Ok(self.0.readers.acquire().await?)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("sqlite", true, true)
    }

    async fn ping(&self) -> Result<()> {
        let done = async {
            let mut writer = self.writer().await?;
            writer.begin_with("BEGIN IMMEDIATE").await?.rollback().await
        }
        .await;
        done.map_err(|error| error::classify(error).during("ping"))
    }

    async fn wakeup(&self) {
        self.0.hint.notified().await;
    }
}

/// Runs `$body` within one write transaction `$tx`; dropped half-way, it is rolled back.
macro_rules! commit {
    ($store:expr, $operation:literal, |$tx:ident| $body:expr) => {{
        let outcome: Result<_, $crate::sqlite::error::Failure> = async {
            let mut writer = $store.writer().await?;
            let mut guard = sqlx::Connection::begin_with(&mut *writer, "BEGIN IMMEDIATE").await?;
            let $tx = &mut *guard;
            let answer = $body?;
            guard.commit().await?;
            Ok(answer)
        }
        .await;
        outcome.map_err(|failure| icp_core::Error::from(failure).during($operation))
    }};
}

/// Runs `$body` within one write transaction `$tx`; where it answers nothing, what it wrote is
/// undone.
macro_rules! attempt {
    ($store:expr, $operation:literal, |$tx:ident| $body:expr) => {{
        let outcome: Result<_, $crate::sqlite::error::Failure> = async {
            let mut writer = $store.writer().await?;
            let mut guard = sqlx::Connection::begin_with(&mut *writer, "BEGIN IMMEDIATE").await?;
            let $tx = &mut *guard;
            let answer = $body?;
            if answer.is_some() {
                guard.commit().await?;
            } else {
                guard.rollback().await?;
            }
            Ok(answer)
        }
        .await;
        outcome.map_err(|failure| icp_core::Error::from(failure).during($operation))
    }};
}

/// Runs `$body` on a connection `$conn` that only reads.
macro_rules! read {
    ($store:expr, $operation:literal, |$conn:ident| $body:expr) => {{
        let outcome: Result<_, $crate::sqlite::error::Failure> = async {
            let mut reader = $store.reader().await?;
            let $conn = &mut *reader;
            Ok($body?)
        }
        .await;
        outcome.map_err(|failure| icp_core::Error::from(failure).during($operation))
    }};
}

pub(crate) use {attempt, commit, read};
