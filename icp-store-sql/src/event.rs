use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::event::{Event, EventQuery, EventStore, EventSummary, Ingest, Ingested, OutboxEntry};
use icp_core::id::{EventId, OrgId};
use icp_core::store::Page;
use sqlx::Database;

use crate::error::Failure;
use crate::link::{Conn, Row};
use crate::row::{self, EVENT};
use crate::scope::Scope;
use crate::statement::{Statement, padded, statement, values};
use crate::store::{SqlStore, attempt, commit, read};
use crate::{ingest, outbox};

#[async_trait]
impl<D: Database> EventStore for SqlStore<D> {
    async fn ingest(&self, batch: Ingest) -> Result<Vec<Ingested>> {
        match attempt!(self, Scope::Batch(&batch), "ingest", |tx| ingest::fresh(tx, &batch).await)?
        {
            Some(answers) => Ok(answers),
            None => {
                commit!(self, Scope::Batch(&batch), "ingest", |tx| ingest::any(tx, &batch).await)
            }
        }
    }

    async fn event(&self, org: &OrgId, id: EventId) -> Result<Option<Event>> {
        read!(self, Scope::Of(org), "read an event", |conn| one(conn, org, id).await)
    }

    async fn events(&self, org: &OrgId, query: &EventQuery) -> Result<Page<EventSummary>> {
        read!(self, Scope::Of(org), "list events", |conn| list(conn, org, query).await)
    }

    async fn outbox(&self, without: &[OrgId], limit: usize) -> Result<Vec<OutboxEntry>> {
        read!(self, Scope::Node, "read the outbox", |conn| outbox::list(conn, without, limit).await)
    }
}

pub(crate) fn one_sql() -> String {
    format!("SELECT {EVENT}, e.body FROM icp_event e WHERE e.id = ? AND e.org = ?")
}

async fn one(conn: &mut Conn<'_>, org: &OrgId, id: EventId) -> Result<Option<Event>, Failure> {
    let found = statement(one_sql())
        .bind(id.to_bytes().to_vec())
        .bind(org.as_str().to_owned())
        .fetch_optional(conn)
        .await?;
    found.as_ref().map(row::event).transpose()
}

pub(crate) const HOLD: &str = "SELECT id FROM icp_event WHERE org = ? AND id IN (VALUES ";

/// Keeps events from being pruned until this transaction ends, so that deliveries can be added.
pub(crate) async fn hold(
    conn: &mut Conn<'_>,
    org: &OrgId,
    events: &[EventId],
) -> Result<(), Failure> {
    if !conn.dialect().is_shared() {
        return Ok(());
    }
    let tail = format!(") ORDER BY id{}", conn.dialect().for_share());
    for chunk in padded(events) {
        let mut query = values(HOLD, chunk.len(), 1, &tail);
        query.bind(org.shared());
        for id in chunk {
            query.bind(id.to_bytes());
        }
        query.fetch_all(&mut *conn).await?;
    }
    Ok(())
}

pub(crate) fn list_sql(org: &OrgId, query: &EventQuery) -> Statement {
    let mut sql = statement(
        "SELECT id, event_type, unit, content_type, length(body), received_at, fan_out \
         FROM icp_event WHERE org = ",
    );
    sql.push_bind(org.as_str().to_owned());
    if let Some(after) = query.page.after {
        sql.push(" AND id < ").push_bind(after.to_bytes().to_vec());
    }
    if let Some(event_type) = &query.event_type {
        sql.push(" AND event_type = ").push_bind(event_type.as_str().to_owned());
    }
    if let Some(key) = &query.idempotency_key {
        sql.push(" AND idempotency_key = ").push_bind(key.clone());
    }
    if let Some(since) = query.since {
        sql.push(" AND received_at >= ").push_bind(since.as_millis());
    }
    if let Some(until) = query.until {
        sql.push(" AND received_at < ").push_bind(until.as_millis());
    }
    sql.push(" ORDER BY id DESC LIMIT +").push_bind(row::more_than(query.page.limit));
    sql
}

async fn list(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &EventQuery,
) -> Result<Page<EventSummary>, Failure> {
    let sql = list_sql(org, query);
    let rows = sql.fetch_all(conn).await?;
    let items = rows.iter().map(summary).collect::<Result<_, _>>()?;
    Ok(Page::cut(items, query.page.limit))
}

fn summary(found: &Row) -> Result<EventSummary, Failure> {
    let unit = match found.try_get::<Option<&str>>(2)? {
        Some(_) => Some(row::resource_id(found, 2)?),
        None => None,
    };
    Ok(EventSummary::restore(
        EventId::from_bytes(row::bytes(found, 0)?),
        row::parse(found.try_get(1)?)?,
        unit,
        found.try_get::<&str>(3)?.into(),
        found.try_get::<i64>(4)?.cast_unsigned(),
        row::time(found, 5)?,
        found.try_get(6)?,
    ))
}
