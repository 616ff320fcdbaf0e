//! A host with tables of its own in the database, one for each family of drivers.

use std::collections::BTreeSet;
use std::path::Path;

use async_trait::async_trait;
use icp::event::Event;
use icp::store_sql::sqlite::publish_in;
use sqlx::{Connection, SqliteConnection};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Commit,
    Rollback,
}

/// What a host does in its own transactions.
#[async_trait]
pub(crate) trait Host: Send {
    /// Makes the table, where it is not there.
    async fn prepare(&mut self);

    /// Begins, writes an order and the event of it, and ends as it is told.
    async fn order(&mut self, number: u64, event: &Event, end: End);

    /// The orders that were committed.
    async fn orders(&mut self) -> BTreeSet<u64>;
}

/// A host on SQLite.
#[derive(Debug)]
pub(crate) struct SqliteHost(SqliteConnection);

impl SqliteHost {
    pub(crate) async fn open(path: &Path) -> Self {
        let url = format!("sqlite://{}", path.display());
        Self(SqliteConnection::connect(&url).await.unwrap())
    }
}

#[async_trait]
impl Host for SqliteHost {
    async fn prepare(&mut self) {
        let table = "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY)";
        sqlx::query(table).execute(&mut self.0).await.unwrap();
    }

    async fn order(&mut self, number: u64, event: &Event, end: End) {
        let mut tx = self.0.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let order = sqlx::query("INSERT INTO orders VALUES (?)").bind(number.cast_signed());
        order.execute(&mut *tx).await.unwrap();
        publish_in(&mut tx, event).await.unwrap();
        match end {
            End::Commit => tx.commit().await.unwrap(),
            End::Rollback => tx.rollback().await.unwrap(),
        }
    }

    async fn orders(&mut self) -> BTreeSet<u64> {
        let rows = sqlx::query_scalar::<_, i64>("SELECT number FROM orders");
        rows.fetch_all(&mut self.0).await.unwrap().into_iter().map(i64::cast_unsigned).collect()
    }
}
