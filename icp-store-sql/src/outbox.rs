use icp_core::error::Result;
use icp_core::event::{Event, OutboxEntry};
use icp_core::id::{EventId, OrgId};

use crate::error::Failure;
use crate::family::Family;
use crate::link::Conn;
use crate::names::Names;
use crate::row::{self, EVENT, WHOLE_EVENT};
use crate::statement::{Script, statement};
use crate::value::Value;
use crate::{Dialect, SqlStore};

/// The statement that puts an event into the outbox, for hosts whose connections are not sqlx's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutboxInsert {
    /// Its text, with the placeholders of the dialect.
    pub sql: String,
    /// What is bound to the placeholders, in their order.
    pub values: Vec<Value>,
}

/// The statement that puts `event` into the outbox of a database that speaks `dialect`.
///
/// Run within the host's own transaction it does what [`SqlStore::publish_in`] does. For tables
/// of the default names; [`outbox_insert_into`] is for others.
pub fn outbox_insert(dialect: Dialect, event: &Event) -> OutboxInsert {
    outbox_insert_into(dialect, &Names::default(), event)
}

/// As [`outbox_insert`], for tables that are called `names`.
pub fn outbox_insert_into(dialect: Dialect, names: &Names, event: &Event) -> OutboxInsert {
    let mut script = Script::default();
    put(&mut script, event);
    let sql = names.put(dialect.say(script.sql()));
    OutboxInsert { sql, values: script.into_values() }
}

impl<D: Family> SqlStore<D> {
    /// Puts `event` into the outbox within the host's own transaction on the same database.
    ///
    /// Nothing happens to it before that transaction commits, and nothing ever if it rolls back.
    /// Call [`hint`](Self::hint) after the commit to have it picked up at once. The same event
    /// put in twice counts once.
    ///
    /// # Errors
    ///
    /// As for the host's own statements, as in [`StoreLocked`](icp_core::Code::StoreLocked).
    pub async fn publish_in(&self, tx: &mut D::Connection, event: &Event) -> Result<EventId> {
        put_in::<D>(tx, &self.backend().names(), event).await
    }
}

/// As [`SqlStore::publish_in`] for tables of the default names, where no store is at hand.
pub(crate) async fn publish_in<D: Family>(
    tx: &mut D::Connection,
    event: &Event,
) -> Result<EventId> {
    put_in::<D>(tx, &Names::default(), event).await
}

async fn put_in<D: Family>(
    tx: &mut D::Connection,
    names: &Names,
    event: &Event,
) -> Result<EventId> {
    let done = D::put(tx, outbox_insert_into(D::DIALECT, names, event)).await;
    done.map_err(|error| error.during("publish"))?;
    Ok(event.id)
}

/// Adds to `script` what puts an event into the outbox.
pub(crate) fn put(script: &mut Script, event: &Event) {
    let (columns, width) = WHOLE_EVENT;
    let head = format!("INSERT INTO icp_outbox ({columns}) VALUES ");
    script.rows(&head, 1, width, " ON CONFLICT DO NOTHING");
    row::bind_event(script, event, 0);
    script.expect(1);
}

pub(crate) fn list_sql(without: usize) -> String {
    // What is erased leaves the outbox.
    let event = EVENT.replace("e.erased_at", "NULL");
    let passed = match without {
        0 => String::new(),
        count => format!(" WHERE e.org NOT IN (?{})", ", ?".repeat(count - 1)),
    };
    format!("SELECT {event}, e.body FROM icp_outbox e{passed} ORDER BY e.seq LIMIT +?")
}

pub(crate) async fn list(
    conn: &mut Conn<'_>,
    without: &[OrgId],
    limit: usize,
) -> Result<Vec<OutboxEntry>, Failure> {
    let sql = statement(list_sql(without.len()));
    let rows = without
        .iter()
        .fold(sql, |sql, org| sql.bind(org.as_str().to_owned()))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|found| Ok(OutboxEntry { event: row::event(found)? })).collect()
}
