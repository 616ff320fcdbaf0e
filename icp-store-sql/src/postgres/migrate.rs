use icp_core::error::Result;
use sqlx::{Executor as _, PgPool};

use crate::error;

const INIT: &str = include_str!("../../migrations/postgres/0001_init.sql");

/// Brings the tables up to date.
pub(super) async fn run(pool: &PgPool) -> Result<()> {
    pool.execute(sqlx::raw_sql(INIT)).await.map_err(error::classify)?;
    Ok(())
}
