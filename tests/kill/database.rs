//! The databases that the processes share, one line for each kind.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use icp::store::Store;
use icp::store_sql::sqlite::SqliteStore;
use tempfile::TempDir;

use crate::host::{Host, MongoHost, MySqlHost, PostgresHost, SqliteHost};
use crate::servers::{self, Server};

/// A kind of database.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MySql,
    MongoDb,
}

impl Kind {
    /// Those that this build has stores for.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Sqlite, Self::Postgres, Self::MySql, Self::MongoDb].into_iter()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::MongoDb => "mongodb",
        })
    }
}

/// An empty database of its own for one scenario.
#[derive(Debug)]
pub(crate) struct Database {
    /// What a process is told to open it.
    pub(crate) url: String,
    _kept: Kept,
}

/// What goes with the database.
#[derive(Debug)]
enum Kept {
    Folder { _folder: TempDir },
    Server { _database: servers::Database },
}

impl Database {
    pub(crate) async fn fresh(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("icp.db").display());
                Self { url, _kept: Kept::Folder { _folder: folder } }
            }
            Kind::Postgres => Self::on(Server::Postgres).await,
            Kind::MySql => Self::on(Server::MySql).await,
            Kind::MongoDb => Self::on(Server::MongoDb).await,
        }
    }

    async fn on(server: Server) -> Self {
        let database = servers::Database::create(server).await;
        Self { url: database.url.clone(), _kept: Kept::Server { _database: database } }
    }
}

/// A store on the database.
pub(crate) async fn open(url: &str) -> Arc<dyn Store> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Arc::new(SqliteStore::open(Path::new(path)).await.unwrap()),
        _ => servers::connect(url).await,
    }
}

/// A host whose own tables are in the database.
pub(crate) async fn host(url: &str) -> Box<dyn Host> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Box::new(SqliteHost::open(&format!("sqlite://{path}")).await),
        Some(("postgres", _)) => Box::new(PostgresHost::open(url).await),
        Some(("mysql", _)) => Box::new(MySqlHost::open(url).await),
        Some(("mongodb", _)) => Box::new(MongoHost::open(url).await),
        _ => panic!("there is no host for {url}"),
    }
}
