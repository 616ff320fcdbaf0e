use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use icp_core::error::{Code, Error, Result};
use sqlx::ConnectOptions as _;
use sqlx::Executor as _;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::error::refused;
use super::link::Wording;
use super::listen::Ear;
use super::migrate::{Schema, Source};
use super::wall::{self, RowSecurity};
use super::{PostgresStore, Server};
use crate::error::above_zero;
use crate::held::{Limit, PATIENCE, is_alive};
use crate::migrate::{Migrations, prepare};
use crate::names::Names;

/// Lets the server end a transaction whose node says nothing more for 5 s. A process that stands
/// still within one keeps lanes locked, which no other node could take over.
const FROZEN: &str = "SET idle_in_transaction_session_timeout = 5000";

/// Settings of a [`PostgresStore`].
#[derive(Clone)]
#[must_use = "a store is made by `open`"]
pub struct Builder {
    origin: Origin,
    schema: Option<String>,
    prefix: String,
    max_connections: u32,
    acquire_timeout: Duration,
    answer_timeout: Duration,
    statement_timeout: Option<Duration>,
    application_name: String,
    listen: bool,
    migrate: bool,
    row_level_security: bool,
}

#[derive(Clone)]
enum Origin {
    Url(String),
    Pool(PgPool),
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        Self::from(Origin::Url(url.to_owned()))
    }

    pub(super) fn with_pool(pool: PgPool) -> Self {
        Self::from(Origin::Pool(pool))
    }

    fn from(origin: Origin) -> Self {
        Self {
            origin,
            schema: None,
            prefix: "icp_".to_owned(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            answer_timeout: PATIENCE,
            statement_timeout: None,
            application_name: "icp".to_owned(),
            listen: true,
            migrate: true,
            row_level_security: false,
        }
    }

    /// The schema of the tables, made where it is missing. Default: the first of the
    /// connection's `search_path`.
    ///
    /// It is of lower-case ASCII letters, digits and underscores.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// What the tables' names begin with, so that several stores fit into one schema. Default
    /// `icp_`.
    ///
    /// It is of 1 to 24 lower-case ASCII letters, digits and underscores.
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How many connections there are at most, at least one; one more listens for hints.
    /// Default 10. Without effect on a pool of the host's.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long a call waits for a connection, at least 1 ms. Default 5 s. Without effect on a
    /// pool of the host's.
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

    /// How long the server works on one statement, in whole milliseconds, at least one. Default:
    /// as it says. Without effect on a pool of the host's.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = Some(timeout);
        self
    }

    /// What the server shows in `pg_stat_activity`. Default `icp`. Without effect on a pool of
    /// the host's.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// Whether one connection listens for hints of other processes. Default: yes.
    ///
    /// Without it, or behind a pooler that hands out connections by transaction, rows that
    /// another process put into the outbox are found by the next poll.
    pub fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }

    /// Whether [`open`](Self::open) applies pending migrations. Default: yes.
    ///
    /// Where it does not, they are applied by [`Migrations::apply`], for example by another role
    /// before the deployment, and `open` answers [`StoreOutdated`](Code::StoreOutdated) until
    /// they are.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Whether the database itself holds each operation to the rows of its organization, as a
    /// second wall behind the store's own statements. Default: no.
    ///
    /// The owner of the tables applies the migrations and the policies before
    /// ([`row_security`](Self::row_security)); the store connects as another role, which
    /// [`open`](Self::open) checks, and applies no migrations itself.
    pub fn row_level_security(mut self, on: bool) -> Self {
        self.row_level_security = on;
        self
    }

    /// The row-level security of the store's tables, for their owner to set up.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where the address or a name is malformed.
    pub fn row_security(&self) -> Result<RowSecurity> {
        let schema = self.ledger();
        schema.map(RowSecurity::new).map_err(|error| error.during("set up row-level security"))
    }

    /// The migrations of the store, to look at them or to apply them apart.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where the address or a name is malformed.
    pub fn migrations(&self) -> Result<Migrations> {
        let ledger = self.ledger();
        ledger.map(Migrations::new).map_err(|error| error.during("migrate"))
    }

    /// Connects and brings the tables up to date.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where the address or a name is malformed,
    /// [`StoreUnavailable`](Code::StoreUnavailable), [`StoreDenied`](Code::StoreDenied),
    /// [`StoreReadOnly`](Code::StoreReadOnly), [`StoreForeign`](Code::StoreForeign),
    /// [`StoreOutdated`](Code::StoreOutdated), [`StoreTooNew`](Code::StoreTooNew) where a newer
    /// version of this library made the tables, or [`StoreUnguarded`](Code::StoreUnguarded) where
    /// row-level security is asked for and would not hold.
    pub async fn open(self) -> Result<PostgresStore> {
        self.connecting().await.map_err(|error| error.during("open the store"))
    }

    /// Boxed, so that it is compiled with this crate, and not again with each program.
    fn connecting(self) -> BoxFuture<'static, Result<PostgresStore>> {
        Box::pin(self.connect())
    }

    async fn connect(self) -> Result<PostgresStore> {
        let ledger = self.ledger()?;
        let walled = self.row_level_security;
        prepare(&ledger, self.migrate && !walled).await?;
        let names = self.names()?;
        if walled {
            ledger.within(wall::check).await?;
        }
        let pool = self.pool()?;
        let ear = self.listen.then(|| Ear::new(&pool, &names));
        let limit = Limit(Some(self.answer_timeout));
        Ok(PostgresStore::new(Server { pool, wording: Wording { names, walled }, limit, ear }))
    }

    fn ledger(&self) -> Result<Schema> {
        let source = match &self.origin {
            Origin::Url(_) => Source::Server(Box::new(self.options()?), self.acquire_timeout),
            Origin::Pool(pool) => Source::Pool(pool.clone()),
        };
        Ok(Schema::new(source, self.names()?))
    }

    fn names(&self) -> Result<Names> {
        Names::new(self.schema.as_deref(), &self.prefix)
    }

    fn pool(&self) -> Result<PgPool> {
        if let Origin::Pool(pool) = &self.origin {
            return Ok(pool.clone());
        }
        let options = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|conn, meta| Box::pin(is_alive(conn, meta)))
            .after_connect(|conn, _| Box::pin(async { conn.execute(FROZEN).await.map(drop) }));
        Ok(options.connect_lazy_with(self.options()?))
    }

    fn options(&self) -> Result<PgConnectOptions> {
        let Origin::Url(url) = &self.origin else {
            return Err(Error::new(Code::Internal, "a pool has no address; report this defect"));
        };
        // The driver takes the address of any server.
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refused(sqlx::Error::Configuration("another scheme".into())));
        }
        above_zero("acquire_timeout", self.acquire_timeout)?;
        if let Some(timeout) = self.statement_timeout {
            above_zero("statement_timeout", timeout)?;
        }
        let options: PgConnectOptions = url.parse().map_err(refused)?;
        let options = options
            .application_name(&self.application_name)
            .statement_cache_capacity(512)
            .disable_statement_logging();
        Ok(match self.statement_timeout {
            Some(timeout) => {
                options.options([("statement_timeout", timeout.as_millis().to_string())])
            }
            None => options,
        })
    }
}

/// Without the address, which may hold a password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("schema", &self.schema)
            .field("prefix", &self.prefix)
            .field("max_connections", &self.max_connections)
            .field("migrate", &self.migrate)
            .finish_non_exhaustive()
    }
}
