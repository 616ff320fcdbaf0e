//! The databases that the processes share, one line for each kind.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use icp::store::Store;
use icp::store_sql::sqlite::SqliteStore;
use tempfile::TempDir;

use crate::host::{Host, SqliteHost};

/// A kind of database.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sqlite,
}

impl Kind {
    /// Those that this build has stores for.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Sqlite].into_iter()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
        })
    }
}

/// An empty database of its own for one scenario.
#[derive(Debug)]
pub(crate) struct Database {
    /// What a process is told to open it.
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Database {
    pub(crate) async fn fresh(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("icp.db").display());
                Self { url, _folder: Some(folder) }
            }
        }
    }
}

/// A store on the database.
pub(crate) async fn open(url: &str) -> Arc<dyn Store> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Arc::new(SqliteStore::open(Path::new(path)).await.unwrap()),
        _ => panic!("there is no store for {url}"),
    }
}

/// A host whose own tables are in the database.
pub(crate) async fn host(url: &str) -> Box<dyn Host> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Box::new(SqliteHost::open(Path::new(path)).await),
        _ => panic!("there is no host for {url}"),
    }
}
