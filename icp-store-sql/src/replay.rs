use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use icp_core::delivery::Delivery;
use icp_core::error::{Code, Error, Result};
use icp_core::event::Event;
use icp_core::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId, SessionId};
use icp_core::replay::{
    EventRange, ReplayChange, ReplayClaim, ReplayClaimed, ReplayDeliveries, ReplayJob, ReplayQuery,
    ReplayScan, ReplayScanned, ReplayState, ReplayStep, ReplayStore, ScannedEvent, Standing,
};
use icp_core::store::Page;
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::error::Failure;
use crate::link::{Conn, Row};
use crate::row::{self, DELIVERY, EVENT};
use crate::scope::Scope;
use crate::statement::{exact, statement, text, values};
use crate::store::{SqlStore, commit, read};

pub(crate) mod step;

#[async_trait]
impl<D: Database> ReplayStore for SqlStore<D> {
    async fn create_replay(&self, job: ReplayJob) -> Result<ReplayJob> {
        commit!(self, Scope::Of(&job.org), "create a replay", |tx| create(tx, &job).await)
    }

    async fn replay_job(&self, org: &OrgId, id: ReplayId) -> Result<Option<ReplayJob>> {
        read!(self, Scope::Of(org), "read a replay", |conn| one(conn, id)
            .await
            .map(|job| job.filter(|job| job.org == *org)))
    }

    async fn replay_jobs(&self, org: &OrgId, query: &ReplayQuery) -> Result<Page<ReplayJob>> {
        read!(self, Scope::Of(org), "list replays", |conn| list(conn, org, query).await)
    }

    async fn change_replay(
        &self,
        org: &OrgId,
        id: ReplayId,
        change: ReplayChange,
        now: Timestamp,
    ) -> Result<ReplayJob> {
        commit!(self, Scope::Of(org), "change a replay", |tx| alter(tx, org, id, change, now).await)
    }

    async fn claim_replay(&self, claim: ReplayClaim) -> Result<ReplayClaimed> {
        // Most asks find nothing, and need no turn at the writer.
        let due = read!(self, Scope::Node, "look for a replay", |conn| due(conn, &claim).await)?;
        if due.job.is_none() {
            return Ok(due);
        }
        commit!(self, Scope::Node, "claim a replay", |tx| take(tx, &claim).await)
    }

    async fn step_replay(&self, step: &ReplayStep) -> Result<ReplayJob> {
        commit!(self, Scope::Node, "step a replay", |tx| step::step(tx, step).await)
    }

    async fn release_replays(&self, session: SessionId, now: Timestamp) -> Result<()> {
        commit!(self, Scope::Node, "release replays", |tx| release(tx, session, now).await)
    }

    async fn scan_replay(&self, scan: &ReplayScan) -> Result<ReplayScanned> {
        read!(self, Scope::Of(&scan.range.org), "scan events", |conn| look(conn, scan).await)
    }

    async fn count_events(&self, range: &EventRange, most: u64) -> Result<u64> {
        read!(self, Scope::Of(&range.org), "count events", |conn| count(conn, range, most).await)
    }

    async fn replay_deliveries(
        &self,
        org: &OrgId,
        query: &ReplayDeliveries,
    ) -> Result<Page<Delivery>> {
        read!(self, Scope::Of(org), "list replayed deliveries", |conn| made(conn, org, query).await)
    }
}

fn state_code(state: ReplayState) -> i64 {
    ReplayState::ALL.iter().position(|s| *s == state).map_or(-1, |at| at.cast_signed() as i64)
}

fn job(row: &Row) -> Result<ReplayJob, Failure> {
    Ok(serde_json::from_str(row.try_get(0)?)?)
}

pub(crate) const ONE: &str = "SELECT job FROM icp_replay WHERE id = ?";

async fn one(conn: &mut Conn<'_>, id: ReplayId) -> Result<Option<ReplayJob>, Failure> {
    let found = statement(ONE).bind(id.to_bytes().to_vec()).fetch_optional(conn).await?;
    found.as_ref().map(job).transpose()
}

/// A job that this transaction may change.
pub(crate) async fn existing(conn: &mut Conn<'_>, id: ReplayId) -> Result<ReplayJob, Failure> {
    let sql = format!("{ONE}{}", conn.dialect().for_update());
    let found = statement(sql).bind(id.to_bytes()).fetch_optional(conn).await?;
    Ok(found.as_ref().map(job).transpose()?.ok_or_else(|| not_found(id))?)
}

fn not_found(id: ReplayId) -> Error {
    Error::new(Code::ReplayNotFound, format!("there is no replay `{id}`; check the id"))
}

async fn create(conn: &mut Conn<'_>, job: &ReplayJob) -> Result<ReplayJob, Failure> {
    if let Some(made) = one(conn, job.id).await? {
        return Ok(made);
    }
    statement(
        "INSERT INTO icp_replay (id, org, state, next_at, owner, lease_until, ended_at, job) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(job.id.to_bytes().to_vec())
    .bind(text(job.org.as_str()))
    .bind(state_code(job.state))
    .bind(job.next_at.as_millis())
    .bind(job.owner.map(|owner| owner.to_bytes().to_vec()))
    .bind(job.lease_until.map(Timestamp::as_millis))
    .bind(job.ended_at.map(Timestamp::as_millis))
    .bind(serde_json::to_string(job)?)
    .execute(conn)
    .await?;
    Ok(job.clone())
}

pub(crate) const SAVE: &str = "UPDATE icp_replay SET state = ?, next_at = ?, owner = ?, \
     lease_until = ?, ended_at = ?, job = ? WHERE id = ?";

pub(crate) async fn save(conn: &mut Conn<'_>, job: &ReplayJob) -> Result<(), Failure> {
    statement(SAVE)
        .bind(state_code(job.state))
        .bind(job.next_at.as_millis())
        .bind(job.owner.map(|owner| owner.to_bytes().to_vec()))
        .bind(job.lease_until.map(Timestamp::as_millis))
        .bind(job.ended_at.map(Timestamp::as_millis))
        .bind(serde_json::to_string(job)?)
        .bind(job.id.to_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) fn list_sql(query: &ReplayQuery) -> String {
    let mut filter = String::new();
    if query.page.after.is_some() {
        filter.push_str(" AND id < ?2");
    }
    if query.state.is_some() {
        filter.push_str(" AND state = ?3");
    }
    format!(
        "SELECT job FROM icp_replay INDEXED BY icp_replay_org WHERE org = ?1 {filter} \
         ORDER BY id DESC LIMIT +?4"
    )
}

async fn list(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &ReplayQuery,
) -> Result<Page<ReplayJob>, Failure> {
    let rows = statement(list_sql(query))
        .bind(text(org.as_str()))
        .bind(query.page.after.map(|after| after.to_bytes().to_vec()))
        .bind(query.state.map(state_code))
        .bind(row::more_than(query.page.limit))
        .fetch_all(conn)
        .await?;
    let items = rows.iter().map(job).collect::<Result<_, _>>()?;
    Ok(Page::cut(items, query.page.limit))
}

async fn alter(
    conn: &mut Conn<'_>,
    org: &OrgId,
    id: ReplayId,
    change: ReplayChange,
    now: Timestamp,
) -> Result<ReplayJob, Failure> {
    let mut job = existing(conn, id).await?;
    if job.org != *org {
        return Err(not_found(id).into());
    }
    job.change(change, now)?;
    save(conn, &job).await?;
    Ok(job)
}

pub(crate) const DUE: &str = "SELECT job FROM icp_replay INDEXED BY icp_replay_open \
     WHERE state < 2 AND next_at <= ?1 \
     AND (owner = ?2 OR lease_until IS NULL OR lease_until <= ?1) ORDER BY next_at, id LIMIT 1";
pub(crate) const NEXT: &str = "SELECT min(next_at) FROM icp_replay INDEXED BY icp_replay_open \
     WHERE state < 2 AND next_at > ?1";

async fn first_due(
    conn: &mut Conn<'_>,
    claim: &ReplayClaim,
    locked: &str,
) -> Result<Option<Row>, Failure> {
    statement(format!("{DUE}{locked}"))
        .bind(claim.now.as_millis())
        .bind(claim.session.to_bytes())
        .fetch_optional(conn)
        .await
}

/// The job that goes next, not taken yet.
async fn due(conn: &mut Conn<'_>, claim: &ReplayClaim) -> Result<ReplayClaimed, Failure> {
    if let Some(found) = &first_due(conn, claim, "").await? {
        return Ok(ReplayClaimed { job: Some(job(found)?), next_at: None });
    }
    let next = statement(NEXT).bind(claim.now.as_millis()).fetch_one(conn).await?;
    Ok(ReplayClaimed { job: None, next_at: row::maybe_time(&next, 0)? })
}

async fn take(conn: &mut Conn<'_>, claim: &ReplayClaim) -> Result<ReplayClaimed, Failure> {
    let locked = conn.dialect().skip_locked();
    let Some(found) = first_due(conn, claim, locked).await? else {
        // Another node took it meanwhile.
        return Ok(ReplayClaimed { job: None, ..due(conn, claim).await? });
    };
    let mut job = job(&found)?;
    job.claim(claim);
    save(conn, &job).await?;
    Ok(ReplayClaimed { job: Some(job), next_at: None })
}

pub(crate) const OWNED: &str = "SELECT job FROM icp_replay INDEXED BY icp_replay_open \
     WHERE state < 2 AND next_at >= 0 AND owner = ?";

async fn release(conn: &mut Conn<'_>, session: SessionId, now: Timestamp) -> Result<(), Failure> {
    let sql = format!("{OWNED}{}", conn.dialect().for_update());
    let owned = statement(sql).bind(session.to_bytes().to_vec()).fetch_all(&mut *conn).await?;
    for found in &owned {
        let mut job = job(found)?;
        job.release(now);
        save(conn, &job).await?;
    }
    Ok(())
}

const RANGE: &str = "FROM icp_event e WHERE e.org = ? AND e.id > ? AND e.id < ? \
     AND e.received_at >= ? AND e.received_at < ?";

pub(crate) fn scan_sql() -> String {
    format!("SELECT {EVENT}, e.body {RANGE} ORDER BY e.id LIMIT +?")
}

/// How many events are read at once: few, as a scan stops by the size of their bodies.
const PAGE: usize = 16;

async fn page(
    conn: &mut Conn<'_>,
    scan: &ReplayScan,
    after: EventId,
) -> Result<Vec<Arc<Event>>, Failure> {
    let rows = statement(scan_sql())
        .bind(text(scan.range.org.as_str()))
        .bind(after.to_bytes().to_vec())
        .bind(scan.range.ids().1.to_bytes().to_vec())
        .bind(scan.range.since.as_millis())
        .bind(scan.range.until.as_millis())
        .bind(row::more_than(PAGE) - 1)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|found| Ok(Arc::new(row::event(found)?))).collect()
}

async fn look(conn: &mut Conn<'_>, scan: &ReplayScan) -> Result<ReplayScanned, Failure> {
    let first = scan.range.ids().0;
    let after = scan.after.map_or(first, |after| after.max(first));
    let mut scanned = ReplayScanned::default();
    let (mut from, mut bytes) = (after, 0);
    'pages: loop {
        let page = page(conn, scan, from).await?;
        for event in &page {
            let full = bytes >= scan.bytes && !scanned.events.is_empty();
            if full || scanned.events.len() == scan.limit {
                scanned.more = true;
                break 'pages;
            }
            from = event.id;
            bytes += event.body.len();
            scanned.events.push(ScannedEvent { event: Arc::clone(event), deliveries: Vec::new() });
        }
        if page.len() < PAGE {
            break;
        }
    }
    let ids: Vec<EventId> = scanned.events.iter().map(|scanned| scanned.event.id).collect();
    for (event, standing) in standings(conn, &scan.range.org, &ids).await? {
        if let Ok(place) = ids.binary_search(&event) {
            scanned.events[place].deliveries.push(standing);
        }
    }
    Ok(scanned)
}

pub(crate) const STANDINGS: (&str, &str) = (
    "WITH v (id) AS (VALUES ",
    ") SELECT d.event, d.id, d.state, d.integration FROM v CROSS JOIN icp_delivery d \
     INDEXED BY icp_delivery_event ON d.event = v.id WHERE d.org = ?",
);

/// How the deliveries of events stand.
pub(crate) async fn standings(
    conn: &mut Conn<'_>,
    org: &OrgId,
    events: &[EventId],
) -> Result<Vec<(EventId, Standing)>, Failure> {
    let mut all = Vec::new();
    for chunk in exact(events) {
        let mut query = values(STANDINGS.0, chunk.len(), 1, STANDINGS.1);
        for id in chunk {
            query.bind(id.to_bytes().to_vec());
        }
        query.bind(org.shared());
        for found in &query.fetch_all(&mut *conn).await? {
            let standing = Standing {
                delivery: DeliveryId::from_bytes(row::bytes(found, 1)?),
                state: row::state(found.try_get(2)?)?,
                integration: row::resource_id(found, 3)?,
            };
            all.push((EventId::from_bytes(row::bytes(found, 0)?), standing));
        }
    }
    Ok(all)
}

pub(crate) fn count_sql() -> String {
    format!("SELECT count(*) FROM (SELECT 1 {RANGE} LIMIT +?) v")
}

async fn count(conn: &mut Conn<'_>, range: &EventRange, most: u64) -> Result<u64, Failure> {
    let (first, last) = range.ids();
    let found = statement(count_sql())
        .bind(text(range.org.as_str()))
        .bind(first.to_bytes().to_vec())
        .bind(last.to_bytes().to_vec())
        .bind(range.since.as_millis())
        .bind(range.until.as_millis())
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_one(conn)
        .await?;
    Ok(found.try_get::<i64>(0)?.cast_unsigned())
}

pub(crate) fn made_sql(query: &ReplayDeliveries) -> String {
    let after = if query.page.after.is_some() { "AND r.delivery < ?3" } else { "" };
    format!(
        "SELECT {DELIVERY} FROM icp_replay_delivery r CROSS JOIN icp_delivery d \
         ON d.id = r.delivery AND d.org = ?1 WHERE r.job = ?2 {after} \
         ORDER BY r.delivery DESC LIMIT +?4"
    )
}

async fn made(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &ReplayDeliveries,
) -> Result<Page<Delivery>, Failure> {
    let rows = statement(made_sql(query))
        .bind(text(org.as_str()))
        .bind(query.job.to_bytes().to_vec())
        .bind(query.page.after.map(|after| after.to_bytes().to_vec()))
        .bind(row::more_than(query.page.limit))
        .fetch_all(conn)
        .await?;
    let items = rows.iter().map(row::delivery).collect::<Result<_, _>>()?;
    Ok(Page::cut(items, query.page.limit))
}

/// The newest delivery of each event and integration.
pub(crate) fn newest(
    standings: Vec<(EventId, Standing)>,
) -> HashMap<(EventId, ResourceId), DeliveryId> {
    let mut newest = HashMap::new();
    for (event, Standing { delivery, integration, .. }) in standings {
        let found = newest.entry((event, integration)).or_insert(delivery);
        *found = (*found).max(delivery);
    }
    newest
}
