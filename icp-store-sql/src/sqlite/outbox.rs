use icp_core::error::Result;
use icp_core::event::{Event, OutboxEntry};
use icp_core::id::EventId;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::error::Failure;
use super::row::{self, EVENT, WHOLE_EVENT};
use super::statement::Script;
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
    let mut script = Script::default();
    put(&mut script, event);
    script.execute(tx).await.map_err(|fault| error::classify(fault).during("publish"))?;
    Ok(event.id)
}

/// Adds to `script` what puts an event into the outbox.
pub(super) fn put(script: &mut Script, event: &Event) {
    let (columns, width) = WHOLE_EVENT;
    let head = format!("INSERT INTO icp_outbox ({columns}) VALUES ");
    script.rows(&head, 1, width, " ON CONFLICT (id) DO NOTHING");
    row::bind_event(script, event, 0);
    script.expect(1);
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

pub(crate) fn list_sql() -> String {
    // What is erased leaves the outbox.
    let event = EVENT.replace("e.erased_at", "NULL");
    format!("SELECT {event}, e.body FROM icp_outbox e ORDER BY e.seq LIMIT ?")
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    limit: usize,
) -> Result<Vec<OutboxEntry>, Failure> {
    let rows = sqlx::query(AssertSqlSafe(list_sql()))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|found| Ok(OutboxEntry { event: row::event(found)? })).collect()
}
