//! Databases of a test's own, within the servers that `scripts/services up` starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use icp::store::Store;
use icp::store_sql::mysql::MySqlStore;
use icp::store_sql::postgres::PostgresStore;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// An empty database, which goes when this does.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    name: String,
    server: Server,
}

/// A server, with the variable that tells where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Postgres,
    MySql,
}

impl Server {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("postgres", "ICP_TEST_POSTGRES_URL"),
            Self::MySql => ("mariadb", "ICP_TEST_MYSQL_URL"),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "tests are told by it where servers are")]
    fn url(self) -> String {
        let (service, variable) = self.names();
        std::env::var(variable).unwrap_or_else(|_| {
            panic!(
                "{variable} is not set; run `scripts/services up {service}`, then \
                 `eval \"$(scripts/services env)\"`"
            )
        })
    }

    async fn run(self, sql: String) {
        let (url, sql) = (self.url(), AssertSqlSafe(sql));
        let done = match self {
            Self::Postgres => match PgConnection::connect(&url).await {
                Ok(mut admin) => admin.execute(sql).await.map(drop),
                Err(error) => Err(error),
            },
            Self::MySql => match MySqlConnection::connect(&url).await {
                Ok(mut admin) => admin.execute(sql).await.map(drop),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = done {
            panic!("{error}; is it there? run `scripts/services up {}`", self.names().0);
        }
    }
}

impl Database {
    pub(crate) async fn create(server: Server) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("icp_{}_{count}", std::process::id());
        server.run(format!("CREATE DATABASE {name}")).await;
        let url = server.url();
        let (host, _) = url.rsplit_once('/').unwrap();
        Self { url: format!("{host}/{name}"), name, server }
    }
}

/// A store in the database at `url`.
pub(crate) async fn connect(url: &str) -> Arc<dyn Store> {
    match url.split_once(':') {
        Some(("postgres", _)) => Arc::new(PostgresStore::connect(url).await.unwrap()),
        Some(("mysql", _)) => Arc::new(MySqlStore::connect(url).await.unwrap()),
        _ => panic!("there is no store for {url}"),
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let force = match self.server {
            Server::Postgres => " WITH (FORCE)",
            Server::MySql => "",
        };
        let (server, sql) = (self.server, format!("DROP DATABASE {}{force}", self.name));
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(server.run(sql)));
    }
}
