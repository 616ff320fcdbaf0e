use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection};
use tokio::sync::Mutex;

use crate::error::Failure;
use crate::migrate::{Entry, Found, Ledger, Migration, pending};
use crate::names::Names;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../migrations/sqlite/0001_init.sql"),
    compatible: false,
}];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS icp_migration (
    version INTEGER PRIMARY KEY,
    checksum BLOB NOT NULL,
    compatible INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL DEFAULT (unixepoch() * 1000),
    applied_at INTEGER) STRICT";

const ENTRIES: &str = "SELECT version, checksum, compatible, applied_at IS NOT NULL
    FROM icp_migration ORDER BY version";

const NOTE: &str = "INSERT INTO icp_migration (version, checksum, compatible, applied_at)
    VALUES (?, ?, ?, unixepoch() * 1000)";

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')
    AND name GLOB 'icp_*'";

/// The ledger in one file.
pub(super) struct File {
    origin: Origin,
    names: Names,
    known: &'static [Migration],
}

enum Origin {
    Open(Arc<Mutex<SqliteConnection>>),
    Path(Box<SqliteConnectOptions>),
}

impl File {
    /// Of a connection that can write.
    pub(super) fn new(writer: &Arc<Mutex<SqliteConnection>>) -> Self {
        let origin = Origin::Open(Arc::clone(writer));
        Self { origin, names: Names::default(), known: MIGRATIONS }
    }

    /// Of a file that is opened for each question.
    pub(super) fn at(options: SqliteConnectOptions) -> Self {
        let origin = Origin::Path(Box::new(options));
        Self { origin, names: Names::default(), known: MIGRATIONS }
    }

    async fn within<T>(
        &self,
        work: impl AsyncFnOnce(&Self, &mut SqliteConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &self.origin {
            Origin::Open(conn) => work(self, &mut *conn.lock().await).await,
            Origin::Path(options) => {
                let mut conn = options.connect().await?;
                let answer = work(self, &mut conn).await?;
                conn.close().await?;
                Ok(answer)
            }
        }
    }

    async fn look(&self, conn: &mut SqliteConnection) -> Result<Found, Failure> {
        let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut *conn).await?;
        if !tables.iter().any(|table| table == "icp_migration") {
            return Ok(Found { entries: Vec::new(), tables });
        }
        let rows = sqlx::query(ENTRIES).fetch_all(&mut *conn).await?;
        let entry = |row: &sqlx::sqlite::SqliteRow| -> Result<Entry, sqlx::Error> {
            Ok(Entry {
                version: row.try_get(0)?,
                checksum: row.try_get(1)?,
                compatible: row.try_get(2)?,
                finished: row.try_get(3)?,
            })
        };
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Found { entries, tables })
    }

    /// Applies what is pending, all of it or nothing.
    async fn carry_out(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
        let found = self.look(&mut tx).await?;
        for step in pending(self.known, &found, &self.names)? {
            sqlx::query(LEDGER).execute(&mut *tx).await?;
            sqlx::raw_sql(AssertSqlSafe(step.sql)).execute(&mut *tx).await?;
            sqlx::query(NOTE)
                .bind(step.version)
                .bind(step.checksum())
                .bind(step.compatible)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}

#[async_trait]
impl Ledger for File {
    fn known(&self) -> &[Migration] {
        self.known
    }

    fn names(&self) -> &Names {
        &self.names
    }

    async fn find(&self) -> Result<Found, Failure> {
        if let Origin::Path(options) = &self.origin
            && !options.get_filename().exists()
        {
            return Ok(Found::default());
        }
        self.within(Self::look).await
    }

    async fn apply(&self) -> Result<(), Failure> {
        self.within(Self::carry_out).await
    }
}

#[cfg(test)]
mod tests {
    use icp_core::error::{Code, Error};

    use super::*;

    const ONE: Migration =
        Migration { version: 1, sql: "CREATE TABLE icp_a (x)", compatible: false };
    const TWO: Migration =
        Migration { version: 2, sql: "CREATE TABLE icp_b (x)", compatible: false };

    async fn memory() -> Arc<Mutex<SqliteConnection>> {
        Arc::new(Mutex::new(SqliteConnection::connect("sqlite::memory:").await.unwrap()))
    }

    async fn apply(
        conn: &Arc<Mutex<SqliteConnection>>,
        known: &'static [Migration],
    ) -> Result<(), Code> {
        let file = File { known, ..File::new(conn) };
        file.apply().await.map_err(|failure| Error::from(failure).code())
    }

    #[tokio::test]
    async fn newer_changed_and_foreign_are_refused() {
        let conn = memory().await;
        assert_eq!(apply(&conn, &[ONE]).await, Ok(()));
        assert_eq!(apply(&conn, &[ONE, TWO]).await, Ok(()));
        assert_eq!(apply(&conn, &[ONE, TWO]).await, Ok(()));
        assert_eq!(apply(&conn, &[ONE]).await, Err(Code::StoreTooNew));
        const CHANGED: Migration = Migration { sql: "CREATE TABLE icp_c (x)", ..TWO };
        assert_eq!(apply(&conn, &[ONE, CHANGED]).await, Err(Code::StoreCorrupt));
        let conn = memory().await;
        sqlx::query("CREATE TABLE icp_b (mine)").execute(&mut *conn.lock().await).await.unwrap();
        assert_eq!(apply(&conn, &[ONE, TWO]).await, Err(Code::StoreForeign));
        let mut conn = conn.lock().await;
        let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut *conn).await.unwrap();
        assert_eq!(tables, ["icp_b"], "nothing is touched");
    }

    #[tokio::test]
    async fn a_compatible_step_ahead_is_accepted() {
        const AHEAD: Migration = Migration { compatible: true, ..TWO };
        let conn = memory().await;
        assert_eq!(apply(&conn, &[ONE, AHEAD]).await, Ok(()));
        assert_eq!(apply(&conn, &[ONE]).await, Ok(()));
    }
}
