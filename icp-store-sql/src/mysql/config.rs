use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use icp_core::error::{Code, Error, Result};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{ConnectOptions as _, Executor as _, MySqlPool};

use super::migrate::Database;
use super::{MySqlStore, Server};
use crate::error::above_zero;
use crate::held::{Limit, PATIENCE, is_alive};
use crate::migrate::{Migrations, prepare};
use crate::names::Names;

/// How each connection of an own pool is set. Transactions are short, so that one that waits for a
/// lock any longer waits for somebody else; and one that stands still is ended, where the server can
/// (only MariaDB reads `M!`), because it keeps lanes locked.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION sql_mode = concat(@@sql_mode, ',STRICT_TRANS_TABLES'), \
     SESSION innodb_lock_wait_timeout = 10, \
     SESSION group_concat_max_len = 67108864 \
     /*M! , SESSION idle_transaction_timeout = 5 */";

/// Settings of a [`MySqlStore`].
#[derive(Clone)]
#[must_use = "a store is made by `open`"]
pub struct Builder {
    origin: Origin,
    prefix: String,
    max_connections: u32,
    acquire_timeout: Duration,
    answer_timeout: Duration,
    migrate: bool,
}

#[derive(Clone)]
enum Origin {
    Url(String),
    Pool(MySqlPool),
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        Self::from(Origin::Url(url.to_owned()))
    }

    pub(super) fn with_pool(pool: MySqlPool) -> Self {
        Self::from(Origin::Pool(pool))
    }

    fn from(origin: Origin) -> Self {
        Self {
            origin,
            prefix: Names::default().prefix().to_owned(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            answer_timeout: PATIENCE,
            migrate: true,
        }
    }

    /// What the tables' names begin with, so that several stores fit into one database. Default
    /// `icp_`.
    ///
    /// It is of 1 to 24 lower-case ASCII letters, digits and underscores.
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How many connections there are at most, at least one. Default 10. Without effect on a pool
    /// of the host's.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long a call waits for a connection. Default 5 s. Without effect on a pool of the
    /// host's.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long the server may take to answer a statement before its connection is given up, at
    /// least a second. Default 30 s.
    ///
    /// It tells a server or a network that has fallen silent from one that is slow; what was asked
    /// for may have been done all the same, and the error says that it can be tried again. Checks of
    /// the whole database, and migrations, take the time they need.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout.max(Duration::from_secs(1));
        self
    }

    /// Whether [`open`](Self::open) applies pending migrations. Default: yes.
    ///
    /// Where it does not, they are applied by [`Migrations::apply`], for example by another user
    /// before the deployment, and `open` answers [`StoreOutdated`](Code::StoreOutdated) until
    /// they are.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// The migrations of the store, to look at them or to apply them apart.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where the address or the prefix is malformed.
    pub fn migrations(&self) -> Result<Migrations> {
        let ledger = self.pool().and_then(|pool| Ok(Database::new(pool, self.names()?)));
        ledger.map(Migrations::new).map_err(|error| error.during("migrate"))
    }

    /// Connects and brings the tables up to date.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where the address or the prefix is malformed or a
    /// host's pool is not strict, [`Unsupported`](Code::Unsupported) where the server is too old,
    /// [`StoreUnavailable`](Code::StoreUnavailable), [`StoreDenied`](Code::StoreDenied),
    /// [`StoreReadOnly`](Code::StoreReadOnly), [`StoreForeign`](Code::StoreForeign),
    /// [`StoreOutdated`](Code::StoreOutdated), or [`StoreTooNew`](Code::StoreTooNew) where a
    /// newer version of this library made the tables.
    pub async fn open(self) -> Result<MySqlStore> {
        self.connecting().await.map_err(|error| error.during("open the store"))
    }

    /// Boxed, so that it is compiled with this crate, and not again with each program.
    fn connecting(self) -> BoxFuture<'static, Result<MySqlStore>> {
        Box::pin(self.connect())
    }

    async fn connect(self) -> Result<MySqlStore> {
        let (pool, names) = (self.pool()?, self.names()?);
        prepare(&Database::new(pool.clone(), names.clone()), self.migrate).await?;
        let own = matches!(self.origin, Origin::Url(_));
        let limit = Limit(Some(self.answer_timeout));
        Ok(MySqlStore::new(Server { pool, names, own, limit }))
    }

    fn names(&self) -> Result<Names> {
        Names::new(None, &self.prefix)
    }

    fn pool(&self) -> Result<MySqlPool> {
        let url = match &self.origin {
            Origin::Pool(pool) => return Ok(pool.clone()),
            Origin::Url(url) => url,
        };
        above_zero("acquire_timeout", self.acquire_timeout)?;
        // The fault is left out, as it may quote the password.
        let named = ["mysql://", "mariadb://"].iter().any(|scheme| url.starts_with(scheme));
        let options: Option<MySqlConnectOptions> = url.parse().ok().filter(|_| named);
        let options = options.ok_or_else(|| {
            let message = "the address of the database is not of the form \
                 mysql://user:password@host:3306/database; correct it";
            Error::new(Code::ConfigInvalid, message)
        })?;
        let set = MySqlPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|conn, meta| Box::pin(is_alive(conn, meta)))
            .after_connect(|conn, _| Box::pin(async { conn.execute(SESSION).await.map(drop) }));
        let options = options.statement_cache_capacity(256).disable_statement_logging();
        Ok(set.connect_lazy_with(options))
    }
}

/// Without the address, which may hold a password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("prefix", &self.prefix)
            .field("max_connections", &self.max_connections)
            .field("migrate", &self.migrate)
            .finish_non_exhaustive()
    }
}
