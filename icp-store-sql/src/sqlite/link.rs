use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Executor as _, Row as _, Sqlite,
    SqliteConnection,
};
use tokio::sync::OwnedMutexGuard;

use crate::Family;
use crate::dialect::Dialect;
use crate::error;
use crate::error::Failure;
use crate::family::sealed::Sealed;
use crate::link::{self, Link, Row, Transaction};
use crate::outbox::OutboxInsert;
use crate::scope::Scope;
use crate::statement::Script;
use crate::value::Value;
use icp_core::Error;

/// A connection that only reads.
pub(super) struct Reader(pub(super) PoolConnection<Sqlite>);

/// The one connection that writes.
pub(super) struct Writer(pub(super) OwnedMutexGuard<SqliteConnection>);

struct Writing<'a>(sqlx::Transaction<'a, Sqlite>);

#[async_trait]
impl link::Reader for Reader {
    async fn end(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl link::Writer for Writer {
    async fn begin<'a>(&'a mut self, _: Scope<'_>) -> Result<Box<dyn Transaction + 'a>, Failure> {
        Ok(Box::new(Writing(self.0.begin_with("BEGIN IMMEDIATE").await?)))
    }
}

#[async_trait]
impl Transaction for Writing<'_> {
    async fn commit(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.0.commit().await?)
    }

    async fn rollback(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.0.rollback().await?)
    }
}

macro_rules! link {
    ($link:ty) => {
        #[async_trait]
        impl Link for $link {
            fn dialect(&self) -> Dialect {
                Dialect::Sqlite
            }

            fn take_time(&mut self) {}

            async fn execute(&mut self, script: Script) -> Result<u64, Failure> {
                let done = self.0.execute(statement(script)?).await?;
                Ok(done.rows_affected())
            }

            async fn fetch(&mut self, script: Script) -> Result<Vec<Row>, Failure> {
                let rows = self.0.fetch_all(statement(script)?).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
        }
    };
}

link!(Writing<'_>);
link!(Reader);

impl Sealed for Sqlite {}

#[async_trait]
impl Family for Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;

    async fn put(conn: &mut SqliteConnection, insert: OutboxInsert) -> Result<(), Error> {
        let OutboxInsert { sql, values } = insert;
        let arguments = arguments(values).map_err(error::classify)?;
        let done = conn.execute(sqlx::query_with(AssertSqlSafe(sql), arguments)).await;
        done.map(drop).map_err(error::classify)
    }
}

/// The whole script as one text: the driver runs its statements one after the other, on the
/// connection's thread, to which each sending costs a wake-up and each answer another.
fn statement(
    script: Script,
) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
    let (sql, values) = script.into_parts();
    debug_assert!(!sql.contains("LIMIT ?"), "planned anew each time: {sql}");
    Ok(sqlx::query_with(AssertSqlSafe(sql), arguments(values)?))
}

fn arguments(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Int(int) => arguments.add(int),
            Value::Text(text) => arguments.add(text),
            Value::Blob(blob) => arguments.add(blob),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

pub(crate) fn int(row: &SqliteRow, at: usize) -> Result<Option<i64>, sqlx::Error> {
    row.try_get(at)
}

pub(crate) fn text(row: &SqliteRow, at: usize) -> Result<Option<&str>, sqlx::Error> {
    row.try_get(at)
}

pub(crate) fn blob(row: &SqliteRow, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    row.try_get(at)
}
