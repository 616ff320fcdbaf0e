use async_trait::async_trait;
use icp_core::delivery::DeliveryState;
use icp_core::erasure::{Erase, Erased, ErasureStore, Target};
use icp_core::error::Result;
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::dialect::Dialect;
use crate::error::Failure;
use crate::lane::{self, Changes};
use crate::letter::NEVER;
use crate::link::{Conn, Row};
use crate::row;
use crate::scope::Scope;
use crate::statement::{statement, text};
use crate::store::{SqlStore, commit, read};
use crate::value::Bind;

#[async_trait]
impl<D: Database> ErasureStore for SqlStore<D> {
    async fn erase(&self, erase: &Erase) -> Result<Erased> {
        commit!(self, Scope::Of(&erase.org), "erase", |tx| overwriting(tx, Work::Erase(erase))
            .await)
    }

    async fn finish_erasures(&self, limit: usize, now: Timestamp) -> Result<u64> {
        if read!(self, Scope::Node, "finish erasures", |conn| ended(conn, limit).await)?.is_empty()
        {
            return Ok(0);
        }
        let work = Work::Finish { limit, now };
        Ok(commit!(self, Scope::Node, "finish erasures", |tx| overwriting(tx, work).await)?.events)
    }
}

#[derive(Clone, Copy)]
enum Work<'a> {
    Erase(&'a Erase),
    Finish { limit: usize, now: Timestamp },
}

/// Has SQLite overwrite with zeros what it frees, for these writes only: for all of them it would
/// cost the hot path dearly.
async fn overwriting(conn: &mut Conn<'_>, work: Work<'_>) -> Result<Erased, Failure> {
    if let Work::Finish { limit, .. } = work
        && ended(conn, limit).await?.is_empty()
    {
        return Ok(Erased::default());
    }
    let freed = conn.dialect() == Dialect::Sqlite;
    if freed {
        statement("PRAGMA secure_delete = ON").execute(&mut *conn).await?;
    }
    let done = match work {
        Work::Erase(erase) => all(conn, erase).await,
        Work::Finish { limit, now } => finish(conn, limit, now).await,
    };
    if freed {
        statement("PRAGMA secure_delete = OFF").execute(conn).await?;
    }
    done
}

pub(crate) const TAKE_OUT: &str = "INSERT INTO icp_event (id, org, unit, event_type, content_type, \
     idempotency_key, ordering_key, received_at, due_at, expires_at, traceparent, tracestate, \
     config_revision, fan_out, subject, body) \
     SELECT id, org, unit, event_type, content_type, idempotency_key, ordering_key, received_at, \
     due_at, expires_at, traceparent, tracestate, config_revision, 0, subject, body \
     FROM icp_outbox v WHERE v.org = ?1";
pub(crate) const OF_SUBJECT: &str =
    "SELECT id FROM icp_event WHERE org = ? AND subject = ? ORDER BY id LIMIT +?";
pub(crate) const EVENT: &str = "UPDATE icp_event SET body = x'', subject = NULL, erased_at = ? \
     WHERE org = ? AND id = ? AND erased_at IS NULL";

async fn all(conn: &mut Conn<'_>, erase: &Erase) -> Result<Erased, Failure> {
    let org = text(erase.org.as_str());
    let ids = match &erase.target {
        Target::Events(ids) => {
            let ids: Vec<_> = ids.iter().map(|id| id.to_bytes()).take(erase.limit).collect();
            for id in &ids {
                take_out(conn, &org, "id", id.to_vec()).await?;
            }
            ids
        }
        Target::Subject(subject) => {
            take_out(conn, &org, "subject", subject.clone()).await?;
            let found = statement(OF_SUBJECT)
                .bind(org.clone())
                .bind(subject.clone())
                .bind(i64::try_from(erase.limit).unwrap_or(i64::MAX))
                .fetch_all(&mut *conn)
                .await?;
            found.iter().map(|found| row::bytes(found, 0)).collect::<Result<_, _>>()?
        }
    };
    let mut erased = Erased { more: ids.len() >= erase.limit, ..Erased::default() };
    let mut changes = Changes::default();
    for id in ids {
        let done = statement(EVENT)
            .bind(erase.now.as_millis())
            .bind(org.clone())
            .bind(id.to_vec())
            .execute(&mut *conn)
            .await?;
        if done > 0 {
            erased.events += 1;
            deliveries(conn, id, erase.now, &mut changes, &mut erased).await?;
        }
    }
    changes.apply(conn).await?;
    Ok(erased)
}

/// Moves events out of the outbox, so that no relay that read them before writes them any more.
async fn take_out(
    conn: &mut Conn<'_>,
    org: &std::sync::Arc<str>,
    by: &str,
    value: impl Bind + Clone,
) -> Result<(), Failure> {
    for sql in [
        format!("{TAKE_OUT} AND v.{by} = ?2 ON CONFLICT (org, id) DO NOTHING"),
        format!("DELETE FROM icp_outbox WHERE org = ?1 AND {by} = ?2"),
    ] {
        statement(sql).bind(org.clone()).bind(value.clone()).execute(&mut *conn).await?;
    }
    Ok(())
}

pub(crate) const DELIVERIES: &str =
    "SELECT id, state, lane FROM icp_delivery INDEXED BY icp_delivery_event WHERE event = ?";
pub(crate) const REMEMBER: &str =
    "INSERT INTO icp_erasing (delivery) VALUES (?) ON CONFLICT DO NOTHING";

async fn deliveries(
    conn: &mut Conn<'_>,
    event: [u8; 16],
    now: Timestamp,
    changes: &mut Changes,
    erased: &mut Erased,
) -> Result<(), Failure> {
    let found = statement(DELIVERIES).bind(event).fetch_all(&mut *conn).await?;
    let lanes = found.iter().map(|found| row::bytes(found, 2)).collect::<Result<Vec<_>, _>>()?;
    lane::lock(conn, lanes).await?;
    for found in &statement(DELIVERIES).bind(event).fetch_all(&mut *conn).await? {
        let id = row::bytes(found, 0)?;
        match row::state(found.try_get(1)?)? {
            DeliveryState::Leased => {
                erased.under_way += 1;
                statement(REMEMBER).bind(id.to_vec()).execute(&mut *conn).await?;
            }
            state => {
                if state == DeliveryState::Ready {
                    erased.cancelled += 1;
                    call_off(conn, id, now).await?;
                    changes.of(row::bytes(found, 2)?).wake = true;
                }
                erased.attempts += scrub(conn, id).await?;
            }
        }
    }
    Ok(())
}

pub(crate) const CALL_OFF: &str = "UPDATE icp_delivery SET state = 4, reason_code = 'erased', \
     reason_message = '', updated_at = ? WHERE id = ? AND state = 0";

async fn call_off(conn: &mut Conn<'_>, id: [u8; 16], now: Timestamp) -> Result<(), Failure> {
    statement(CALL_OFF).bind(now.as_millis()).bind(id.to_vec()).execute(conn).await?;
    Ok(())
}

pub(crate) const ATTEMPTS: &str = "UPDATE icp_attempt SET exchange = NULL, message = NULL, \
     transcript = NULL WHERE delivery = ? AND (exchange IS NOT NULL OR message IS NOT NULL \
     OR transcript IS NOT NULL)";
pub(crate) const REASON: &str = "UPDATE icp_delivery SET reason_message = '' \
     WHERE id = ? AND reason_message IS NOT NULL";
pub(crate) const NOTES: &str = "DELETE FROM icp_letter_note WHERE delivery = ?";
pub(crate) const ABANDONMENT: &str = "UPDATE icp_letter SET message = '' WHERE delivery = ?";
pub(crate) const ROUND: &str =
    "UPDATE icp_delivery SET letter_due = ? WHERE id = ? AND state = 3 AND letter = 0";

/// Erases what an ended delivery tells; answers how many attempts had captured something.
async fn scrub(conn: &mut Conn<'_>, id: [u8; 16]) -> Result<u64, Failure> {
    let id = id.to_vec();
    let done = statement(ATTEMPTS).bind(id.clone()).execute(&mut *conn).await?;
    for sql in [REASON, NOTES, ABANDONMENT] {
        statement(sql).bind(id.clone()).execute(&mut *conn).await?;
    }
    statement(ROUND).bind(NEVER).bind(id).execute(conn).await?;
    Ok(done)
}

pub(crate) const ENDED: &str = "SELECT v.delivery, d.state, d.lane FROM icp_erasing v \
     LEFT JOIN icp_delivery d ON d.id = v.delivery WHERE d.state IS DISTINCT FROM 1 LIMIT +?";
pub(crate) const DONE: &str = "DELETE FROM icp_erasing WHERE delivery = ?";

async fn ended(conn: &mut Conn<'_>, limit: usize) -> Result<Vec<Row>, Failure> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    statement(ENDED).bind(limit).fetch_all(conn).await
}

async fn finish(conn: &mut Conn<'_>, limit: usize, now: Timestamp) -> Result<Erased, Failure> {
    let mut erased = Erased::default();
    let mut changes = Changes::default();
    let found = ended(conn, limit).await?;
    let lanes = found.iter().filter_map(|found| row::bytes(found, 2).ok());
    lane::lock(conn, lanes.collect::<Vec<_>>()).await?;
    for found in ended(conn, limit).await? {
        let id = row::bytes(&found, 0)?;
        if found.try_get::<Option<i64>>(1)? == Some(row::state_code(DeliveryState::Ready)) {
            call_off(conn, id, now).await?;
            changes.of(row::bytes(&found, 2)?).wake = true;
        }
        erased.attempts += scrub(conn, id).await?;
        erased.events += 1;
        statement(DONE).bind(id.to_vec()).execute(&mut *conn).await?;
    }
    changes.apply(conn).await?;
    Ok(erased)
}
