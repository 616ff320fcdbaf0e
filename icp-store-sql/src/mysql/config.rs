use std::time::Duration;

use icp_core::error::{Code, Error, Result};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{ConnectOptions as _, Executor as _, MySqlPool};

use super::{MySqlStore, Server, migrate, version};
use crate::error;

/// How each connection of an own pool is set. Transactions are short, so that one that waits for a
/// lock any longer waits for somebody else.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION innodb_lock_wait_timeout = 10";

/// Settings of a [`MySqlStore`].
#[derive(Clone, Debug)]
#[must_use = "a store is made by `open`"]
pub struct Builder {
    url: String,
    max_connections: u32,
    acquire_timeout: Duration,
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        let acquire_timeout = Duration::from_secs(5);
        Self { url: url.to_owned(), max_connections: 10, acquire_timeout }
    }

    /// How many connections there are at most, at least two. Default 10.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(2);
        self
    }

    /// How long an operation waits for a connection, a lost one included. Default 5 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// Connects to the server and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where the url cannot be read,
    /// [`Unsupported`](Code::Unsupported) where the server is too old,
    /// [`StoreUnavailable`](Code::StoreUnavailable) where it gives no answer or refuses the login,
    /// [`StoreReadOnly`](Code::StoreReadOnly), [`StoreFull`](Code::StoreFull), or
    /// [`StoreTooNew`](Code::StoreTooNew) where a newer version of this library made the tables.
    pub async fn open(self) -> Result<MySqlStore> {
        self.connect().await.map_err(|error| error.during("open the store"))
    }

    async fn connect(self) -> Result<MySqlStore> {
        let options: MySqlConnectOptions = self.url.parse().map_err(|fault: sqlx::Error| {
            let message = "the url cannot be read; use mysql://user:password@host:3306/database";
            // The fault may quote the password.
            let _ = fault;
            Error::new(Code::ConfigInvalid, message)
        })?;
        let pool = MySqlPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            .after_connect(|conn, _| Box::pin(async move { conn.execute(SESSION).await.map(drop) }))
            .connect_with(options.disable_statement_logging())
            .await
            .map_err(error::classify)?;
        open(pool, true).await
    }
}

/// A store on the connections of `pool`.
pub(super) async fn open(pool: MySqlPool, own: bool) -> Result<MySqlStore> {
    let mut conn = pool.acquire().await.map_err(error::classify)?;
    version::check(&mut conn).await?;
    migrate::run(&mut conn).await?;
    drop(conn);
    Ok(MySqlStore::new(Server { pool, own }))
}
