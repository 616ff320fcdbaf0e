use async_trait::async_trait;
use icp_core::Error;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Connection as _, Executor as _, PgConnection,
    Postgres, Row as _, TypeInfo as _,
};

use super::wall;
use crate::dialect::Dialect;
use crate::error::{self, Failure};
use crate::family::Family;
use crate::family::sealed::Sealed;
use crate::held::{Held, Limit};
use crate::link::{self, Link, Row, Transaction};
use crate::names::Names;
use crate::outbox::OutboxInsert;
use crate::scope::Scope;
use crate::statement::Script;
use crate::value::Value;

/// How statements are put before they are sent.
#[derive(Clone, Debug)]
pub(super) struct Wording {
    pub(super) names: Names,
    /// Whether row-level security holds each transaction to its scope.
    pub(super) walled: bool,
}

impl Wording {
    fn put(&self, sql: &str) -> String {
        let walled = self.walled.then(|| wall::say(sql));
        self.names.put(Dialect::Postgres.say(walled.as_deref().unwrap_or(sql)))
    }
}

/// A connection that only reads, within a transaction where there is a wall.
pub(super) struct Reader {
    conn: Held<Postgres>,
    wording: Wording,
    limit: Limit,
    open: bool,
}

impl Reader {
    pub(super) async fn begin(
        conn: Held<Postgres>,
        wording: Wording,
        limit: Limit,
        scope: Scope<'_>,
    ) -> Result<Self, Failure> {
        let open = wording.walled;
        let mut reader = Self { conn, wording, limit, open };
        if open {
            let begin = sqlx::raw_sql(wall::begin("BEGIN READ ONLY", scope));
            limit.on(reader.conn.execute(begin)).await?;
        }
        Ok(reader)
    }
}

#[async_trait]
impl link::Reader for Reader {
    async fn end(mut self: Box<Self>) -> Result<(), Failure> {
        if self.open {
            self.limit.on(self.conn.execute("COMMIT")).await?;
            self.open = false;
        }
        Ok(())
    }
}

/// The driver does not know of the transaction, which must not get into the pool.
impl Drop for Reader {
    fn drop(&mut self) {
        if self.open {
            self.conn.spoil();
        }
    }
}

/// A connection that writes.
pub(super) struct Writer {
    conn: Held<Postgres>,
    wording: Wording,
    limit: Limit,
    beginning: bool,
}

impl Writer {
    pub(super) fn new(conn: Held<Postgres>, wording: Wording, limit: Limit) -> Self {
        Self { conn, wording, limit, beginning: false }
    }
}

#[async_trait]
impl link::Writer for Writer {
    async fn begin<'a>(
        &'a mut self,
        scope: Scope<'_>,
    ) -> Result<Box<dyn Transaction + 'a>, Failure> {
        let (conn, limit) = (&mut self.conn, self.limit);
        let begun = if self.wording.walled {
            self.beginning = true;
            let begun = limit.on(conn.begin_with(wall::begin("BEGIN", scope))).await?;
            self.beginning = false;
            begun
        } else {
            limit.on(conn.begin()).await?
        };
        Ok(Box::new(Writing { conn: begun, wording: self.wording.clone(), limit }))
    }
}

/// The driver does not roll back what was cut short while it began.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.beginning {
            self.conn.spoil();
        }
    }
}

struct Writing<'a> {
    conn: sqlx::Transaction<'a, Postgres>,
    wording: Wording,
    limit: Limit,
}

#[async_trait]
impl Transaction for Writing<'_> {
    async fn commit(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.limit.on(self.conn.commit()).await?)
    }

    async fn rollback(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.limit.on(self.conn.rollback()).await?)
    }
}

macro_rules! link {
    ($link:ty) => {
        #[async_trait]
        impl Link for $link {
            fn dialect(&self) -> Dialect {
                Dialect::Postgres
            }

            fn take_time(&mut self) {
                self.limit = Limit(None);
            }

            async fn execute(&mut self, script: Script) -> Result<u64, Failure> {
                let mut changed = 0;
                for (sql, values) in script.statements() {
                    let statement = statement(&self.wording, sql, values)?;
                    let done = self.limit.on(self.conn.execute(statement)).await?;
                    changed += done.rows_affected();
                }
                Ok(changed)
            }

            async fn fetch(&mut self, script: Script) -> Result<Vec<Row>, Failure> {
                let statement = statement(&self.wording, script.sql(), script.values())?;
                let rows = self.limit.on(self.conn.fetch_all(statement)).await?;
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
    wording: &Wording,
    sql: &str,
    values: &[Value],
) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
    Ok(sqlx::query_with(AssertSqlSafe(wording.put(sql)), arguments(values)?))
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
