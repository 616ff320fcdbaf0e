use async_trait::async_trait;
use icp_core::Error;
use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Connection as _, Executor as _, MySql,
    MySqlConnection, Row as _, TypeInfo as _,
};

use super::error::is_duplicate;
use crate::dialect::Dialect;
use crate::dialect::mysql::{self, Conflict, Said};
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

/// A connection that only reads.
pub(super) struct Reader(pub(super) Held<MySql>, pub(super) Names, pub(super) Limit);

/// A connection that writes.
pub(super) struct Writer {
    pub(super) conn: Held<MySql>,
    pub(super) names: Names,
    /// Whether the isolation is set already.
    pub(super) own: bool,
    pub(super) limit: Limit,
}

/// For the next transaction only.
const ISOLATION: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";

struct Writing<'a>(sqlx::Transaction<'a, MySql>, Names, Limit);

#[async_trait]
impl link::Reader for Reader {
    async fn end(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl link::Writer for Writer {
    async fn begin<'a>(&'a mut self, _: Scope<'_>) -> Result<Box<dyn Transaction + 'a>, Failure> {
        if !self.own {
            self.limit.on(self.conn.execute(ISOLATION)).await?;
        }
        let transaction = self.limit.on(self.conn.begin()).await?;
        Ok(Box::new(Writing(transaction, self.names.clone(), self.limit)))
    }
}

#[async_trait]
impl Transaction for Writing<'_> {
    async fn commit(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.2.on(self.0.commit()).await?)
    }

    async fn rollback(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.2.on(self.0.rollback()).await?)
    }
}

macro_rules! link {
    ($link:ty) => {
        #[async_trait]
        impl Link for $link {
            fn dialect(&self) -> Dialect {
                Dialect::MySql
            }

            fn take_time(&mut self) {
                self.2 = Limit(None);
            }

            async fn execute(&mut self, script: Script) -> Result<u64, Failure> {
                let counted = script.is_counted();
                let conflict = if counted { Conflict::Fail } else { Conflict::Skip };
                let mut changed = 0;
                for (sql, values) in script.statements() {
                    let said = mysql::say(sql, values, conflict);
                    let upserts = said.upserts;
                    let statement = statement(&self.1, said, values)?;
                    match self.2.on(self.0.execute(statement)).await {
                        Ok(done) => changed += upserts.unwrap_or(done.rows_affected()),
                        // A row is there, so that fewer change than are expected.
                        Err(error) if counted && is_duplicate(&error) => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(changed)
            }

            async fn fetch(&mut self, script: Script) -> Result<Vec<Row>, Failure> {
                let said = mysql::say(script.sql(), script.values(), Conflict::Skip);
                let statement = statement(&self.1, said, script.values())?;
                let rows = self.2.on(self.0.fetch_all(statement)).await?;
                Ok(rows.into_iter().map(Row::MySql).collect())
            }
        }
    };
}

link!(Writing<'_>);
link!(Reader);

impl Sealed for MySql {}

#[async_trait]
impl Family for MySql {
    const DIALECT: Dialect = Dialect::MySql;

    async fn put(conn: &mut MySqlConnection, insert: OutboxInsert) -> Result<(), Error> {
        let OutboxInsert { sql, values } = insert;
        let arguments = arguments(values.iter()).map_err(error::classify)?;
        let done = conn.execute(sqlx::query_with(AssertSqlSafe(sql), arguments)).await;
        done.map(drop).map_err(error::classify)
    }
}

fn statement(
    names: &Names,
    said: Said,
    values: &[Value],
) -> Result<sqlx::query::Query<'static, MySql, MySqlArguments>, sqlx::Error> {
    let bound = said.order.iter().filter_map(|at| values.get(*at));
    let arguments = arguments(bound)?;
    Ok(sqlx::query_with(AssertSqlSafe(names.put(said.sql)), arguments))
}

pub(super) fn arguments<'v>(
    values: impl Iterator<Item = &'v Value>,
) -> Result<MySqlArguments, sqlx::Error> {
    let mut arguments = MySqlArguments::default();
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

/// Sums come as decimals, whose text form is what is sent.
pub(crate) fn int(row: &MySqlRow, at: usize) -> Result<Option<i64>, sqlx::Error> {
    let kind = row.try_column(at)?.type_info().name();
    if kind.ends_with("UNSIGNED") {
        return Ok(row.try_get::<Option<u64>, _>(at)?.map(u64::cast_signed));
    }
    if kind == "DECIMAL" {
        let text: Option<&str> = row.try_get_unchecked(at)?;
        let int = text.map(str::parse).transpose();
        return int.map_err(|error| sqlx::Error::Decode(Box::new(error)));
    }
    row.try_get(at)
}

/// Names and keys are kept as bytes, so that they compare as such; the driver would not read
/// them as texts by itself.
pub(crate) fn text(row: &MySqlRow, at: usize) -> Result<Option<&str>, sqlx::Error> {
    row.try_get_unchecked(at)
}

pub(crate) fn blob(row: &MySqlRow, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    row.try_get(at)
}
