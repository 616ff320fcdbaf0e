use icp_core::error::Result;
use sqlx::{Executor as _, MySqlPool};

use crate::error;

const INIT: &str = include_str!("../../migrations/mysql/0001_init.sql");

/// Brings the tables up to date.
pub(super) async fn run(pool: &MySqlPool) -> Result<()> {
    pool.execute(sqlx::raw_sql(INIT)).await.map_err(error::classify)?;
    Ok(())
}
