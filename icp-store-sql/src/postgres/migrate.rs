use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _};

use super::error::refused;
use crate::error::Failure;
use crate::migrate::{Entry, Found, Ledger, Migration, pending};
use crate::names::Names;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../migrations/postgres/0001_init.sql"),
    compatible: false,
}];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS icp_migration (
    version BIGINT PRIMARY KEY,
    checksum BYTEA NOT NULL,
    compatible BOOLEAN NOT NULL DEFAULT false,
    started_at BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint,
    applied_at BIGINT)";

const ENTRIES: &str = "SELECT version, checksum, compatible, applied_at IS NOT NULL
    FROM icp_migration ORDER BY version";

const NOTE: &str = "INSERT INTO icp_migration (version, checksum, compatible, applied_at)
    VALUES ($1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// One node at a time for each schema and prefix; the lock ends with the transaction, so that it
/// works through a pooler that hands out connections by transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended(
    'icp_migration ' || coalesce($1, current_schema(), '') || '.' || $2, 0))";

const TABLES: &str = "SELECT c.relname::text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = coalesce($1, current_schema()) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND starts_with(c.relname::text, $2)";

/// Where connections for the migrations come from.
#[derive(Clone)]
pub(super) enum Source {
    Server(Box<PgConnectOptions>, Duration),
    Pool(PgPool),
}

/// The ledger in one schema.
pub(super) struct Schema {
    source: Source,
    names: Names,
    known: &'static [Migration],
}

impl Schema {
    pub(super) fn new(source: Source, names: Names) -> Self {
        Self { source, names, known: MIGRATIONS }
    }

    /// A transaction on a connection of its own or of the pool.
    pub(super) async fn within<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Self, &mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &self.source {
            Source::Server(options, patience) => {
                let connecting = PgConnection::connect_with(options);
                let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                let conn = tokio::time::timeout(*patience, connecting).await;
                let mut conn = conn.map_err(late).flatten().map_err(refused)?;
                let answer = work(self, &mut conn).await?;
                conn.close().await?;
                Ok(answer)
            }
            Source::Pool(pool) => {
                let mut conn = pool.acquire().await?;
                work(self, &mut conn).await
            }
        }
    }

    /// Waits for its turn among all that change the tables, whose rows it sees where there are
    /// policies.
    pub(super) async fn lock(&self, tx: &mut PgConnection) -> Result<(), Failure> {
        tx.execute("SET LOCAL statement_timeout = 0; SET LOCAL icp.org = '*'").await?;
        let (schema, prefix) = (self.names.schema(), self.names.prefix());
        sqlx::query(LOCK).bind(schema).bind(prefix).execute(tx).await?;
        Ok(())
    }

    async fn look(&self, conn: &mut PgConnection) -> Result<Found, Failure> {
        let tables: Vec<String> = sqlx::query_scalar(TABLES)
            .bind(self.names.schema())
            .bind(self.names.prefix())
            .fetch_all(&mut *conn)
            .await?;
        let ledger = self.names.bare().put("icp_migration".to_owned());
        if !tables.contains(&ledger) {
            return Ok(Found { entries: Vec::new(), tables });
        }
        let entries = AssertSqlSafe(self.names.put(ENTRIES.to_owned()));
        let rows = sqlx::query(entries).fetch_all(&mut *conn).await?;
        let entry = |row: &sqlx::postgres::PgRow| -> Result<Entry, sqlx::Error> {
            Ok(Entry {
                version: u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX),
                checksum: row.try_get(1)?,
                compatible: row.try_get(2)?,
                finished: row.try_get(3)?,
            })
        };
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Found { entries, tables })
    }

    /// Applies the first pending step, all of it or nothing; answers whether there was one.
    async fn step(&self, conn: &mut PgConnection) -> Result<bool, Failure> {
        let mut tx = conn.begin().await?;
        self.lock(&mut tx).await?;
        let found = self.look(&mut tx).await?;
        let Some(step) = pending(self.known, &found, &self.names)?.first().copied() else {
            tx.rollback().await?;
            return Ok(false);
        };
        if let Some(schema) = self.names.schema() {
            enter(&mut tx, schema).await?;
        }
        let names = self.names.bare();
        for sql in [LEDGER, step.sql] {
            tx.execute(sqlx::raw_sql(AssertSqlSafe(names.put(sql.to_owned())))).await?;
        }
        sqlx::query(AssertSqlSafe(names.put(NOTE.to_owned())))
            .bind(i64::from(step.version))
            .bind(step.checksum())
            .bind(step.compatible)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Makes `schema` where it is missing; until the transaction ends, names without one are in it.
async fn enter(conn: &mut PgConnection, schema: &str) -> Result<(), Failure> {
    let present: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)",
    )
    .bind(schema)
    .fetch_one(&mut *conn)
    .await?;
    if !present {
        conn.execute(AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).await?;
    }
    conn.execute(AssertSqlSafe(format!("SET LOCAL search_path TO \"{schema}\""))).await?;
    Ok(())
}

#[async_trait]
impl Ledger for Schema {
    fn known(&self) -> &[Migration] {
        self.known
    }

    fn names(&self) -> &Names {
        &self.names
    }

    async fn find(&self) -> Result<Found, Failure> {
        self.within(Self::look).await
    }

    async fn apply(&self) -> Result<(), Failure> {
        self.within(async |schema: &Self, conn: &mut PgConnection| {
            while schema.step(conn).await? {}
            Ok(())
        })
        .await
    }
}
