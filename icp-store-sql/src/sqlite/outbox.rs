use icp_core::error::Result;
use icp_core::event::{Event, OutboxEntry};
use icp_core::id::EventId;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::error::Failure;
use super::row::{self, EVENT, EVENT_COLUMNS};
use super::statement::values;
use super::{SqliteStore, error};

/// Puts `event` into the outbox within the host's own transaction on the same database file.
///
/// Nothing happens to it before that transaction commits, and nothing ever if it rolls back.
/// Call [`SqliteStore::hint`] after the commit to have it picked up at once. The same event put
/// in twice counts once.
///
/// # Errors
///
/// As for the host's own statements, as in [`StoreLocked`](icp_core::Code::StoreLocked).
pub async fn publish_in(tx: &mut SqliteConnection, event: &Event) -> Result<EventId> {
    let columns = "id, org, unit, event_type, content_type, idempotency_key, ordering_key, \
         received_at, due_at, expires_at, traceparent, tracestate, config_revision, fan_out, body";
    let head = format!("INSERT INTO icp_outbox ({columns}) VALUES ");
    let query = values(&head, 1, EVENT_COLUMNS, " ON CONFLICT (id) DO NOTHING");
    let written = row::bind_event(query, event, 0).execute(tx).await;
    written.map_err(|fault| error::classify(fault).during("publish"))?;
    Ok(event.id)
}

impl SqliteStore {
    /// As [`publish_in`].
    ///
    /// # Errors
    ///
    /// As [`publish_in`].
    pub async fn publish_in(&self, tx: &mut SqliteConnection, event: &Event) -> Result<EventId> {
        publish_in(tx, event).await
    }
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    limit: usize,
) -> Result<Vec<OutboxEntry>, Failure> {
    let sql = format!("SELECT {EVENT} FROM icp_outbox e ORDER BY e.seq LIMIT ?");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|found| Ok(OutboxEntry { event: row::event(found)? })).collect()
}
