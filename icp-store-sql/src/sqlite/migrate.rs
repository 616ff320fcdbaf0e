use icp_core::error::{Code, Error, Result};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use crate::error::Failure;

/// In order; a migration that was released never changes.
const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../../migrations/sqlite/0001_init.sql"))];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS icp_migration (
    version INTEGER PRIMARY KEY, checksum BLOB NOT NULL) STRICT";

/// Brings the tables up to date; safe for several processes that start at once, because the
/// ledger is read under the write lock.
pub(super) async fn run(writer: &mut SqliteConnection) -> Result<()> {
    apply(writer, MIGRATIONS).await.map_err(Error::from)
}

async fn apply(writer: &mut SqliteConnection, known: &[(i64, &str)]) -> Result<(), Failure> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(LEDGER).execute(&mut *tx).await?;
    let rows = sqlx::query("SELECT version, checksum FROM icp_migration ORDER BY version")
        .fetch_all(&mut *tx)
        .await?;
    for row in &rows {
        check(row.try_get(0)?, row.try_get(1)?, known)?;
    }
    for (version, sql) in known.iter().skip(rows.len()) {
        sqlx::raw_sql(AssertSqlSafe(*sql)).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO icp_migration (version, checksum) VALUES (?, ?)")
            .bind(version)
            .bind(checksum(sql))
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx.commit().await?)
}

fn check(version: i64, stored: &[u8], known: &[(i64, &str)]) -> Result<()> {
    let Some((_, sql)) = known.iter().find(|(known, _)| *known == version) else {
        return Err(Error::new(
            Code::StoreTooNew,
            format!("the database has schema {version}; use a version of icp that knows it"),
        ));
    };
    if stored == checksum(sql) {
        return Ok(());
    }
    Err(Error::new(
        Code::StoreCorrupt,
        format!(
            "migration {version} was applied with other content than this build has; use the \
             build that made the database, or restore a backup"
        ),
    ))
}

fn checksum(sql: &str) -> Vec<u8> {
    Sha256::digest(sql).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn newer_and_changed_migrations_are_refused() {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let (one, two) = ((1, "CREATE TABLE a (x)"), (2, "CREATE TABLE b (x)"));
        apply(&mut conn, &[one]).await.unwrap();
        apply(&mut conn, &[one, two]).await.unwrap();
        apply(&mut conn, &[one, two]).await.unwrap();
        let code = |failure: Failure| Error::from(failure).code();
        let newer = apply(&mut conn, &[one]).await.unwrap_err();
        assert_eq!(code(newer), Code::StoreTooNew);
        let changed = apply(&mut conn, &[one, (2, "CREATE TABLE c (x)")]).await.unwrap_err();
        assert_eq!(code(changed), Code::StoreCorrupt);
    }
}
