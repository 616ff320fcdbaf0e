use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use icp_core::delivery::{Lane, LaneId, LaneMode};
use icp_core::error::Result;
use icp_core::event::{
    Direct, Event, EventQuery, EventStore, EventSummary, Ingest, IngestItem, Ingested, LaneSeed,
    NewDelivery, OutboxEntry,
};
use icp_core::id::{DeliveryId, EventId, OrgId, SessionId};
use icp_core::store::Page;
use icp_core::time::Timestamp;
use sqlx::{AssertSqlSafe, QueryBuilder, Row, SqliteConnection};

use super::error::Failure;
use super::lane::{self, Seen};
use super::row::{self, EVENT, EVENT_COLUMNS};
use super::statement::{exact, padded, values};
use super::{SqliteStore, commit, outbox, read};

#[async_trait]
impl EventStore for SqliteStore {
    async fn ingest(&self, batch: Ingest) -> Result<Vec<Ingested>> {
        commit!(self, "ingest", |tx| ingest(tx, &batch).await)
    }

    async fn event(&self, org: &OrgId, id: EventId) -> Result<Option<Event>> {
        read!(self, "read an event", |conn| one(conn, org, id).await)
    }

    async fn events(&self, org: &OrgId, query: &EventQuery) -> Result<Page<EventSummary>> {
        read!(self, "list events", |conn| list(conn, org, query).await)
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>> {
        read!(self, "read the outbox", |conn| outbox::list(conn, limit).await)
    }
}

async fn ingest(conn: &mut SqliteConnection, batch: &Ingest) -> Result<Vec<Ingested>, Failure> {
    let mut known = Known::read(conn, batch).await?;
    let mut answers: Vec<Ingested> =
        batch.items.iter().map(|item| known.judge(item, batch.now)).collect();
    let accepted: Vec<&IngestItem> = batch
        .items
        .iter()
        .zip(&answers)
        .filter_map(|(item, answer)| matches!(answer, Ingested::Accepted { .. }).then_some(item))
        .collect();
    let done: Vec<EventId> = batch
        .items
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| !matches!(answer, Ingested::Conflict { .. } | Ingested::Gone))
        .filter_map(|(item, _)| item.outbox)
        .collect();
    write_events(conn, &accepted).await?;
    write_keys(conn, &accepted, batch.now).await?;
    let leased = write_deliveries(conn, &accepted, batch).await?;
    forget_outbox(conn, &done).await?;
    for (item, answer) in batch.items.iter().zip(&mut answers) {
        if let Ingested::Accepted { leased: own } = answer {
            own.extend(item.deliveries.iter().map(|d| d.id).filter(|id| leased.contains(id)));
        }
    }
    Ok(answers)
}

/// What is in the store of the events of a batch, kept up to date while it is judged.
struct Known {
    events: HashSet<EventId>,
    outbox: HashSet<EventId>,
    keys: HashMap<(String, String), (EventId, Vec<u8>)>,
}

impl Known {
    async fn read(conn: &mut SqliteConnection, batch: &Ingest) -> Result<Self, Failure> {
        let ids: Vec<EventId> = batch.items.iter().map(|item| item.event.id).collect();
        let rows: Vec<EventId> = batch.items.iter().filter_map(|item| item.outbox).collect();
        let events = present(conn, "SELECT id FROM icp_event WHERE id IN (VALUES ", &ids).await?;
        let outbox = present(conn, "SELECT id FROM icp_outbox WHERE id IN (VALUES ", &rows).await?;
        let mut keys = HashMap::new();
        let named: Vec<(&OrgId, &str)> = batch
            .items
            .iter()
            .filter_map(|item| Some((&item.event.org, item.event.idempotency_key.as_deref()?)))
            .collect();
        for chunk in padded(&named) {
            let mut query = values(
                "WITH v (org, key) AS (VALUES ",
                chunk.len(),
                2,
                ") SELECT i.org, i.key, i.event, i.body_hash, i.expires_at FROM v CROSS JOIN \
                 icp_idempotency i ON i.org = v.org AND i.key = v.key",
            );
            for (org, key) in chunk {
                query = query.bind(org.as_str().to_owned()).bind((*key).to_owned());
            }
            for found in query.fetch_all(&mut *conn).await? {
                if row::time(&found, 4)? > batch.now {
                    let event = EventId::from_bytes(row::bytes(&found, 2)?);
                    let key = (found.try_get(0)?, found.try_get(1)?);
                    keys.insert(key, (event, found.try_get(3)?));
                }
            }
        }
        Ok(Self { events, outbox, keys })
    }

    fn judge(&mut self, item: &IngestItem, now: Timestamp) -> Ingested {
        let event = &item.event;
        if item.outbox.is_some_and(|id| !self.outbox.contains(&id)) {
            return Ingested::Gone;
        }
        let key = event.idempotency_key.as_deref();
        let key = key.map(|key| (event.org.as_str().to_owned(), key.to_owned()));
        let holder = key.as_ref().and_then(|key| self.keys.get(key));
        let answer = match holder {
            Some((with, hash)) if *hash != item.body_hash => {
                return Ingested::Conflict { with: *with };
            }
            Some((of, _)) => Ingested::Duplicate { of: *of },
            None if self.events.contains(&event.id) => Ingested::Duplicate { of: event.id },
            None => {
                self.events.insert(event.id);
                let lives = now + item.idempotency_window > now;
                if let Some(key) = key.filter(|_| lives) {
                    self.keys.insert(key, (event.id, item.body_hash.to_vec()));
                }
                Ingested::Accepted { leased: Vec::new() }
            }
        };
        if let Some(id) = item.outbox {
            self.outbox.remove(&id);
        }
        answer
    }
}

async fn present(
    conn: &mut SqliteConnection,
    head: &str,
    ids: &[EventId],
) -> Result<HashSet<EventId>, Failure> {
    let mut found = HashSet::new();
    for chunk in padded(ids) {
        let mut query = values(head, chunk.len(), 1, ")");
        for id in chunk {
            query = query.bind(id.to_bytes().to_vec());
        }
        for row in query.fetch_all(&mut *conn).await? {
            found.insert(EventId::from_bytes(row::bytes(&row, 0)?));
        }
    }
    Ok(found)
}

async fn write_events(conn: &mut SqliteConnection, items: &[&IngestItem]) -> Result<(), Failure> {
    let head = "INSERT INTO icp_event (id, org, unit, event_type, content_type, \
         idempotency_key, ordering_key, received_at, due_at, expires_at, traceparent, tracestate, \
         config_revision, fan_out, body) VALUES ";
    for chunk in exact(items) {
        let mut query = values(head, chunk.len(), EVENT_COLUMNS, "");
        for item in chunk {
            query = row::bind_event(query, &item.event, item.deliveries.len());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn write_keys(
    conn: &mut SqliteConnection,
    items: &[&IngestItem],
    now: Timestamp,
) -> Result<(), Failure> {
    let keyed: Vec<(&IngestItem, &str)> = items
        .iter()
        .filter_map(|item| Some((*item, item.event.idempotency_key.as_deref()?)))
        .collect();
    for chunk in exact(&keyed) {
        let mut query = values(
            "INSERT INTO icp_idempotency (org, key, event, body_hash, expires_at) VALUES ",
            chunk.len(),
            5,
            " ON CONFLICT (org, key) DO UPDATE SET event = excluded.event, \
             body_hash = excluded.body_hash, expires_at = excluded.expires_at",
        );
        for (item, key) in chunk {
            query = query
                .bind(item.event.org.as_str().to_owned())
                .bind((*key).to_owned())
                .bind(item.event.id.to_bytes().to_vec())
                .bind(item.body_hash.to_vec())
                .bind((now + item.idempotency_window).as_millis());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn forget_outbox(conn: &mut SqliteConnection, ids: &[EventId]) -> Result<(), Failure> {
    for chunk in padded(ids) {
        let mut query = values("DELETE FROM icp_outbox WHERE id IN (VALUES ", chunk.len(), 1, ")");
        for id in chunk {
            query = query.bind(id.to_bytes().to_vec());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Writes the deliveries and their lanes; answers which were leased at once.
async fn write_deliveries(
    conn: &mut SqliteConnection,
    items: &[&IngestItem],
    batch: &Ingest,
) -> Result<HashSet<DeliveryId>, Failure> {
    let all: Vec<(&Event, &NewDelivery)> = items
        .iter()
        .flat_map(|item| item.deliveries.iter().map(|delivery| (&*item.event, delivery)))
        .collect();
    if all.is_empty() {
        return Ok(HashSet::new());
    }
    let wanted: BTreeMap<[u8; 16], (LaneId, OrgId)> = all
        .iter()
        .map(|(event, d)| (d.lane.id.to_bytes(), (d.lane.id, event.org.clone())))
        .collect();
    let wanted: Vec<_> = wanted.into_values().collect();
    let mut seen: HashMap<LaneId, Seen> = lane::look_up(conn, &wanted).await?.into_iter().collect();
    let direct = match batch.direct {
        Some(direct) if known_session(conn, direct.session).await? => Some(direct),
        _ => None,
    };
    let mut left = direct.map_or(0, |direct| direct.budget);
    let mut leased = HashSet::new();
    for (event, new) in &all {
        let Some(seen) = seen.get_mut(&new.lane.id) else { continue };
        let (floor, busy) = (seen.floor, seen.runnable);
        let lane = seen.lane.get_or_insert_with(|| sprout(&event.org, new));
        if left > 0 && fits(lane, new, batch.now) {
            left -= 1;
            leased.insert(new.id);
            lane.in_flight += 1;
            lane.pass = lane.pass.max(floor.unwrap_or(lane.pass));
            lane.pass += Lane::stride(lane.weight, busy + 1);
        } else {
            enqueue(lane, new.due_at, floor, batch.now);
        }
    }
    insert(conn, &all, &leased, direct, batch.now).await?;
    let lanes: Vec<Lane> = seen.into_values().filter_map(|seen| seen.lane).collect();
    lane::put(conn, &lanes).await?;
    Ok(leased)
}

async fn known_session(conn: &mut SqliteConnection, id: SessionId) -> Result<bool, Failure> {
    let found = sqlx::query("SELECT 1 FROM icp_session WHERE id = ?")
        .bind(id.to_bytes().to_vec())
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

fn sprout(org: &OrgId, new: &NewDelivery) -> Lane {
    let LaneSeed { id, order_key, mode, max_in_flight, weight } = new.lane.clone();
    Lane {
        id,
        org: org.clone(),
        integration: new.integration.clone(),
        order_key,
        mode,
        weight,
        pass: 0,
        runnable: false,
        next_due: None,
        in_flight: 0,
        max_in_flight,
        blocked_until: None,
        paused: false,
    }
}

/// Whether a new delivery can be handed over at once: nothing waits that it would overtake.
fn fits(lane: &Lane, new: &NewDelivery, now: Timestamp) -> bool {
    new.due_at <= now
        && lane.mode == LaneMode::Parallel
        && lane.in_flight < lane.max_in_flight
        && !lane.paused
        && !lane.runnable
        && lane.blocked_until.is_none_or(|until| until <= now)
        && lane.next_due.is_none_or(|due| due > now)
}

/// Lets `lane` tell of a delivery that is ready from `due` on.
pub(super) fn enqueue(lane: &mut Lane, due: Timestamp, floor: Option<i64>, now: Timestamp) {
    if lane.runnable {
        return;
    }
    if due <= now {
        lane.runnable = true;
        lane.next_due = None;
        lane.pass = lane.pass.max(floor.unwrap_or(lane.pass));
    } else {
        lane.next_due = Some(lane.next_due.map_or(due, |earlier| earlier.min(due)));
    }
}

async fn insert(
    conn: &mut SqliteConnection,
    all: &[(&Event, &NewDelivery)],
    leased: &HashSet<DeliveryId>,
    direct: Option<Direct>,
    now: Timestamp,
) -> Result<(), Failure> {
    for chunk in exact(all) {
        let mut query = values(
            "INSERT INTO icp_delivery (id, org, event, integration, lane, fifo, state, due_at, \
             epoch, tries, throttles, rescues, owner, lease_until, expires_at, created_at, \
             updated_at) VALUES ",
            chunk.len(),
            17,
            "",
        );
        for (event, new) in chunk {
            let lease = direct.filter(|_| leased.contains(&new.id));
            let first = i64::from(lease.is_some());
            query = query
                .bind(new.id.to_bytes().to_vec())
                .bind(event.org.as_str().to_owned())
                .bind(event.id.to_bytes().to_vec())
                .bind(new.integration.as_str().to_owned())
                .bind(new.lane.id.to_bytes().to_vec())
                .bind(new.lane.mode == LaneMode::Fifo)
                .bind(first)
                .bind(new.due_at.as_millis())
                .bind(first)
                .bind(first)
                .bind(0_i64)
                .bind(0_i64)
                .bind(lease.map(|lease| lease.session.to_bytes().to_vec()))
                .bind(lease.map(|lease| lease.lease_until.as_millis()))
                .bind(event.expires_at.map(Timestamp::as_millis))
                .bind(now.as_millis())
                .bind(now.as_millis());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn one(
    conn: &mut SqliteConnection,
    org: &OrgId,
    id: EventId,
) -> Result<Option<Event>, Failure> {
    let sql = format!("SELECT {EVENT} FROM icp_event e WHERE e.id = ? AND e.org = ?");
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(id.to_bytes().to_vec())
        .bind(org.as_str().to_owned())
        .fetch_optional(conn)
        .await?;
    found.as_ref().map(row::event).transpose()
}

async fn list(
    conn: &mut SqliteConnection,
    org: &OrgId,
    query: &EventQuery,
) -> Result<Page<EventSummary>, Failure> {
    let mut sql = QueryBuilder::new(
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
    if let Some(since) = query.since {
        sql.push(" AND received_at >= ").push_bind(since.as_millis());
    }
    if let Some(until) = query.until {
        sql.push(" AND received_at < ").push_bind(until.as_millis());
    }
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(row::more_than(query.page.limit));
    let rows = sql.build().fetch_all(conn).await?;
    let items = rows.iter().map(summary).collect::<Result<_, _>>()?;
    Ok(Page::cut(items, query.page.limit))
}

fn summary(found: &sqlx::sqlite::SqliteRow) -> Result<EventSummary, Failure> {
    let unit = match found.try_get::<Option<&str>, _>(2)? {
        Some(_) => Some(row::resource_id(found, 2)?),
        None => None,
    };
    Ok(EventSummary::restore(
        EventId::from_bytes(row::bytes(found, 0)?),
        row::parse(found.try_get(1)?)?,
        unit,
        found.try_get::<&str, _>(3)?.into(),
        found.try_get::<i64, _>(4)?.cast_unsigned(),
        row::time(found, 5)?,
        found.try_get(6)?,
    ))
}
