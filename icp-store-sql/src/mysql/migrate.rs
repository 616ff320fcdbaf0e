//! The server commits after each change of a table, so a step is noted before it begins and
//! again when it is through, and each of its statements can be run twice.

use async_trait::async_trait;
use icp_core::error::{Code, Error};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, MySqlPool, Row as _};

use super::{acquire, server};
use crate::error::Failure;
use crate::held::Held;
use crate::migrate::{Entry, Found, Ledger, Migration, pending};
use crate::names::Names;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../migrations/mysql/0001_init.sql"),
    compatible: false,
}];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS icp_migration (
    version BIGINT NOT NULL PRIMARY KEY,
    checksum BINARY(32) NOT NULL,
    compatible BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    applied_at BIGINT
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC";

const ENTRIES: &str = "SELECT version, checksum, compatible, applied_at IS NOT NULL \
     FROM icp_migration ORDER BY version";

const BEGIN: &str = "INSERT INTO icp_migration (version, checksum, compatible, started_at) \
     VALUES (?, ?, ?, unix_timestamp() * 1000) ON DUPLICATE KEY UPDATE version = VALUES(version)";

const END: &str = "UPDATE icp_migration SET applied_at = unix_timestamp() * 1000 WHERE version = ?";

/// One node at a time for each database and prefix; the lock ends with the connection.
const LOCK: &str = "SELECT get_lock(concat('icp.', sha1(concat(database(), '.', ?))), 300)";

const TABLES: &str = "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
     WHERE table_schema = database() AND left(table_name, ?) = ?";

/// The ledger in one database.
pub(super) struct Database {
    pool: MySqlPool,
    names: Names,
    known: &'static [Migration],
}

impl Database {
    pub(super) fn new(pool: MySqlPool, names: Names) -> Self {
        Self { pool, names, known: MIGRATIONS }
    }

    fn say(&self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.names.put(sql.to_owned()))
    }

    async fn look(&self, conn: &mut MySqlConnection) -> Result<Found, Failure> {
        let prefix = self.names.prefix();
        let tables: Vec<String> = sqlx::query_scalar(TABLES)
            .bind(i64::try_from(prefix.len()).unwrap_or(i64::MAX))
            .bind(prefix)
            .fetch_all(&mut *conn)
            .await?;
        if !tables.contains(&self.names.put("icp_migration".to_owned())) {
            return Ok(Found { entries: Vec::new(), tables });
        }
        let rows = sqlx::query(self.say(ENTRIES)).fetch_all(conn).await?;
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Found { entries, tables })
    }

    async fn steps(&self, conn: &mut MySqlConnection) -> Result<(), Failure> {
        let locked: Option<i64> =
            sqlx::query_scalar(LOCK).bind(self.names.prefix()).fetch_one(&mut *conn).await?;
        if locked != Some(1) {
            let message = "another node has been migrating for long; wait for it, or end it";
            return Err(Error::new(Code::StoreLocked, message).into());
        }
        let found = self.look(conn).await?;
        for step in pending(self.known, &found, &self.names)? {
            conn.execute(self.say(LEDGER)).await?;
            sqlx::query(self.say(BEGIN))
                .bind(step.version)
                .bind(step.checksum())
                .bind(step.compatible)
                .execute(&mut *conn)
                .await?;
            for sql in statements(step.sql) {
                conn.execute(sqlx::raw_sql(self.say(sql))).await?;
            }
            sqlx::query(self.say(END)).bind(step.version).execute(&mut *conn).await?;
        }
        Ok(())
    }
}

fn entry(row: &MySqlRow) -> Result<Entry, sqlx::Error> {
    Ok(Entry {
        version: u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX),
        checksum: row.try_get(1)?,
        compatible: row.try_get::<i64, _>(2)? != 0,
        finished: row.try_get::<i64, _>(3)? != 0,
    })
}

#[async_trait]
impl Ledger for Database {
    fn known(&self) -> &[Migration] {
        self.known
    }

    fn names(&self) -> &Names {
        &self.names
    }

    async fn find(&self) -> Result<Found, Failure> {
        let mut conn = Held::from(acquire(&self.pool).await?);
        server::check(&mut conn).await?;
        self.look(&mut conn).await
    }

    async fn apply(&self) -> Result<(), Failure> {
        // Not given back before its lock is.
        let mut conn = acquire(&self.pool).await?.detach();
        self.steps(&mut conn).await?;
        Ok(conn.close().await?)
    }
}

fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}
