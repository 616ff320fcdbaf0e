use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::time::Duration;

use futures_util::future::BoxFuture;
use icp_core::error::{Code, Error, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::Mutex;

use super::{File, SqliteStore, migrate};
use crate::error;
use crate::migrate::{Migrations, prepare};

/// When a commit is on disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Synchronous {
    /// Before the call returns.
    #[default]
    Full,
    /// At the next checkpoint: about ten times as fast for single events. The last commits may
    /// be lost when the machine loses power, but not when the process is killed.
    Normal,
}

/// Settings of a [`SqliteStore`].
#[derive(Clone, Debug)]
#[must_use = "a store is made by `open`"]
pub struct Builder {
    path: PathBuf,
    synchronous: Synchronous,
    busy_timeout: Duration,
    cache_size: u32,
    readers: u32,
    max_pages: Option<u32>,
    migrate: bool,
}

impl Builder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            cache_size: 16 << 10,
            readers: 2,
            max_pages: None,
            migrate: true,
        }
    }

    /// When a commit is on disk. Default [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long a write waits for another process or connection. Default 5 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// The writer's page cache in KiB. Default 16 MiB.
    pub fn cache_size(mut self, kib: u32) -> Self {
        self.cache_size = kib;
        self
    }

    /// How many connections read, at least one. Default 2.
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// The most pages of 4 KiB the file may have; writes beyond answer
    /// [`StoreFull`](Code::StoreFull) and change nothing. Default: as many as the disk holds.
    ///
    /// A file that is larger already grows no more.
    pub fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }

    /// Whether [`open`](Self::open) applies pending migrations. Default: yes.
    ///
    /// Where it does not, it answers [`StoreOutdated`](Code::StoreOutdated) until
    /// [`Migrations::apply`] has done it.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// The migrations of the store, to look at them or to apply them apart.
    pub fn migrations(&self) -> Migrations {
        Migrations::new(migrate::File::at(self.writing().create_if_missing(true)))
    }

    /// Opens the database, makes it where it is missing, and brings its tables up to date.
    ///
    /// A new file can be read and written by its owner only.
    ///
    /// # Errors
    ///
    /// [`StoreUnavailable`](Code::StoreUnavailable), [`StoreReadOnly`](Code::StoreReadOnly),
    /// [`StoreCorrupt`](Code::StoreCorrupt), [`StoreLocked`](Code::StoreLocked),
    /// [`StoreFull`](Code::StoreFull), [`StoreForeign`](Code::StoreForeign),
    /// [`StoreOutdated`](Code::StoreOutdated), or [`StoreTooNew`](Code::StoreTooNew) where a newer
    /// version of this library made the tables.
    pub async fn open(self) -> Result<SqliteStore> {
        self.connecting().await.map_err(|error| error.during("open the store"))
    }

    /// Boxed, so that it is compiled with this crate, and not again with each program.
    fn connecting(self) -> BoxFuture<'static, Result<SqliteStore>> {
        Box::pin(self.connect())
    }

    async fn connect(self) -> Result<SqliteStore> {
        create(&self.path)?;
        let writer = Arc::new(Mutex::new(self.writer().await?));
        prepare(&migrate::File::new(&writer), self.migrate).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(self.readers)
            .test_before_acquire(false)
            .connect_with(self.options().read_only(true))
            .await
            .map_err(error::classify)?;
        Ok(SqliteStore::new(File { writer, options: self.writing(), readers }))
    }

    /// Switching a new file to WAL does not wait for another process that does the same, so it
    /// is tried again for as long as `busy_timeout` says.
    async fn writer(&self) -> Result<SqliteConnection> {
        let pause = Duration::from_millis(10);
        let mut left = self.busy_timeout;
        loop {
            let error = match self.writing().connect().await {
                Ok(writer) => return Ok(writer),
                Err(error) => error::classify(error),
            };
            if error.code() != Code::StoreLocked || left.is_zero() {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            left = left.saturating_sub(pause);
        }
    }

    fn writing(&self) -> SqliteConnectOptions {
        match self.max_pages {
            Some(pages) => self.options().pragma("max_page_count", pages.to_string()),
            None => self.options(),
        }
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match self.synchronous {
                Synchronous::Full => SqliteSynchronous::Full,
                Synchronous::Normal => SqliteSynchronous::Normal,
            })
            .busy_timeout(self.busy_timeout)
            .pragma("cache_size", format!("-{}", self.cache_size))
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", "4000")
            .row_buffer_size(1_024)
            .statement_cache_capacity(256)
            .disable_statement_logging()
    }
}

fn create(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(fault) => Err(Error::new(
            Code::StoreUnavailable,
            "the database file cannot be made; check that its directory exists and is writable",
        )
        .caused_by(fault)),
    }
}
