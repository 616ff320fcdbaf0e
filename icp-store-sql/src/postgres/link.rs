use async_trait::async_trait;
use icp_core::Error;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Connection as _, Executor as _, PgConnection,
    Postgres, Row as _, TypeInfo as _,
};

use crate::dialect::Dialect;
use crate::error::{self, Failure};
use crate::family::Family;
use crate::family::sealed::Sealed;
use crate::link::{self, Link, Row, Transaction};
use crate::names::Names;
use crate::outbox::OutboxInsert;
use crate::statement::Script;
use crate::value::Value;

/// A connection that only reads.
pub(super) struct Reader(pub(super) PoolConnection<Postgres>, pub(super) Names);

/// A connection that writes.
pub(super) struct Writer(pub(super) PoolConnection<Postgres>, pub(super) Names);

struct Writing<'a>(sqlx::Transaction<'a, Postgres>, Names);

#[async_trait]
impl link::Writer for Writer {
    async fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, Failure> {
        Ok(Box::new(Writing(self.0.begin().await?, self.1.clone())))
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
                Dialect::Postgres
            }

            async fn execute(&mut self, script: &Script) -> Result<u64, Failure> {
                let mut changed = 0;
                for (sql, values) in script.statements() {
                    let done = self.0.execute(statement(&self.1, sql, values)?).await?;
                    changed += done.rows_affected();
                }
                Ok(changed)
            }

            async fn fetch(&mut self, script: &Script) -> Result<Vec<Row>, Failure> {
                let statement = statement(&self.1, script.sql(), script.values())?;
                let rows = self.0.fetch_all(statement).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    };
}

link!(Writing<'_>);
link!(Reader);

impl Sealed for Postgres {}

#[async_trait]
impl Family for Postgres {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn put(conn: &mut PgConnection, insert: OutboxInsert) -> Result<(), Error> {
        let OutboxInsert { sql, values } = insert;
        let arguments = arguments(&values).map_err(error::classify)?;
        let done = conn.execute(sqlx::query_with(AssertSqlSafe(sql), arguments)).await;
        done.map(drop).map_err(error::classify)
    }
}

fn statement(
    names: &Names,
    sql: &str,
    values: &[Value],
) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
    let sql = names.put(Dialect::Postgres.say(sql));
    Ok(sqlx::query_with(AssertSqlSafe(sql), arguments(values)?))
}

pub(super) fn arguments(values: &[Value]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Int(int) => arguments.add(*int),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Blob(blob) => arguments.add(blob.as_deref()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

pub(crate) fn int(row: &PgRow, at: usize) -> Result<Option<i64>, sqlx::Error> {
    match row.try_column(at)?.type_info().name() {
        "BOOL" => Ok(row.try_get::<Option<bool>, _>(at)?.map(i64::from)),
        "INT4" => Ok(row.try_get::<Option<i32>, _>(at)?.map(i64::from)),
        "INT2" => Ok(row.try_get::<Option<i16>, _>(at)?.map(i64::from)),
        _ => row.try_get(at),
    }
}

/// Json comes as its text, which the driver would not read as such by itself.
pub(crate) fn text(row: &PgRow, at: usize) -> Result<Option<&str>, sqlx::Error> {
    row.try_get_unchecked(at)
}

pub(crate) fn blob(row: &PgRow, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    row.try_get(at)
}
