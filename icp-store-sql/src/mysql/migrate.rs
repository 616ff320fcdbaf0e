use icp_core::error::Result;
use sqlx::{AssertSqlSafe, Executor as _, MySqlConnection};

use crate::error;

const INIT: &str = include_str!("../../migrations/mysql/0001_init.sql");

/// Brings the tables up to date.
pub(super) async fn run(conn: &mut MySqlConnection) -> Result<()> {
    for statement in statements(INIT) {
        conn.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map_err(error::classify)?;
    }
    Ok(())
}

/// The server commits after each statement, so each is run by itself.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}
