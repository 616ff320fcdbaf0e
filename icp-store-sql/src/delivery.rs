use std::collections::HashMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use icp_core::delivery::{
    Attempt, Audit, Cancel, Claim, Claimed, Delivery, DeliveryQuery, DeliveryState, DeliveryStore,
    Lane, LaneId, Lease, Renew, Replay, Rescue, RescueOf, Rescued, SessionBeat, Settle, Settled,
    Sweep, Swept,
};
use icp_core::error::{Code, Error, Result};
use icp_core::id::{DeliveryId, OrgId, SessionId};
use icp_core::store::{Page, PageQuery};
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::dialect::Dialect;
use crate::error::Failure;
use crate::health::Health;
use crate::lane::{self, Changes};
use crate::link::{Conn, Row};
use crate::row::{self, DELIVERY, LANE};
use crate::scope::Scope;
use crate::statement::{statement, text};
use crate::store::{SqlStore, attempt, commit, read};
use crate::{audit, claim, event, note, rescue, resource, session, settle};

#[async_trait]
impl<D: Database> DeliveryStore for SqlStore<D> {
    async fn open_session(&self, session: SessionId, now: Timestamp) -> Result<()> {
        commit!(self, Scope::Node, "open a session", |tx| session::open(tx, session, now).await)
    }

    async fn beat(&self, session: SessionId, now: Timestamp) -> Result<()> {
        commit!(self, Scope::Node, "beat", |tx| session::beat(tx, session, now).await)
    }

    async fn sessions(&self) -> Result<Vec<SessionBeat>> {
        read!(self, Scope::Node, "list sessions", |conn| session::list(conn).await)
    }

    async fn close_session(&self, session: SessionId) -> Result<()> {
        commit!(self, Scope::Node, "close a session", |tx| session::close(tx, session).await)
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed> {
        // While nothing happens, claims find nothing, and need no turn at the writer for it.
        if self.calm().load(Ordering::Relaxed)
            && let Some(nothing) =
                read!(self, Scope::Node, "claim", |conn| claim::wake::look(conn, &claim).await)?
        {
            return Ok(nothing);
        }
        let leased = commit!(self, Scope::Node, "claim", |tx| {
            claim::lease(tx, &claim, self.width()).await
        })?;
        claim::unreadable::tell(leased.unreadable());
        self.calm().store(leased.is_empty(), Ordering::Relaxed);
        if leased.is_empty() {
            return Ok(leased.with(&HashMap::new()).0);
        }
        let read =
            read!(self, Scope::Node, "claim", |conn| claim::events::complete(conn, leased).await);
        let (claimed, lost) = read.map_err(|error| {
            let message = "the leases are taken, but their events cannot be read";
            Error::new(Code::StoreUnavailable, message).caused_by(error)
        })?;
        if !lost.is_empty() {
            tracing::error!(icp.deliveries = lost.len(), "deliveries have lost their events");
            self.settle(Settle::event_lost(&lost, claim.now)).await?;
        }
        Ok(claimed)
    }

    async fn renew(&self, renew: Renew) -> Result<Vec<Lease>> {
        commit!(self, Scope::Node, "renew leases", |tx| settle::renew(tx, &renew).await)
    }

    async fn settle(&self, settle: Settle) -> Result<Vec<Settled>> {
        let assumed = Health::assume(&settle, self.ill());
        if let Some(assumed) = assumed
            && let Some(settled) =
                attempt!(self, Scope::Node, "settle", |tx| settle::all(tx, &settle, &assumed)
                    .await)?
        {
            return Ok(settled);
        }
        let health = Health::looked_at(self.ill());
        match attempt!(self, Scope::Node, "settle", |tx| settle::all(tx, &settle, &health).await)? {
            Some(settled) => Ok(settled),
            None => {
                commit!(self, Scope::Node, "settle", |tx| settle::each(tx, &settle, &health).await)
            }
        }
    }

    async fn rescue(&self, rescue: Rescue) -> Result<Vec<Rescued>> {
        if let RescueOf::Orphans { before } = rescue.of
            && read!(self, Scope::Node, "rescue", |conn| {
                rescue::orphans(conn, &rescue, before).await
            })?
            .is_empty()
        {
            return Ok(Vec::new());
        }
        commit!(self, Scope::Node, "rescue", |tx| rescue::rescue(tx, &rescue).await)
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Swept> {
        commit!(self, Scope::Node, "sweep", |tx| rescue::sweep(tx, &sweep).await)
    }

    async fn replay(&self, replay: Replay) -> Result<Delivery> {
        commit!(self, Scope::Of(&replay.org), "replay", |tx| repeat(tx, &replay).await)
    }

    async fn cancel(&self, cancel: Cancel) -> Result<Delivery> {
        commit!(self, Scope::Of(&cancel.org), "cancel", |tx| call_off(tx, &cancel).await)
    }

    async fn delivery(&self, org: &OrgId, id: DeliveryId) -> Result<Option<Delivery>> {
        read!(self, Scope::Of(org), "read a delivery", |conn| one(conn, org, id).await)
    }

    async fn deliveries(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Delivery>> {
        read!(self, Scope::Of(org), "list deliveries", |conn| list(conn, org, query).await)
    }

    async fn attempts(&self, org: &OrgId, delivery: DeliveryId) -> Result<Vec<Attempt>> {
        read!(self, Scope::Of(org), "list attempts", |conn| attempts(conn, org, delivery).await)
    }

    async fn lanes(&self, org: &OrgId, page: PageQuery<LaneId>) -> Result<Page<Lane>> {
        read!(self, Scope::Of(org), "list lanes", |conn| lanes(conn, org, page).await)
    }

    async fn counts(&self) -> Result<Vec<(DeliveryState, u64)>> {
        read!(self, Scope::Node, "count deliveries", |conn| audit::counts(conn).await)
    }

    async fn audit(&self) -> Result<Audit> {
        read!(self, Scope::Node, "audit", |conn| audit::audit(conn).await)
    }
}

pub(crate) fn one_sql() -> String {
    format!("SELECT {DELIVERY} FROM icp_delivery d WHERE d.id = ? AND d.org = ?")
}

async fn one(
    conn: &mut Conn<'_>,
    org: &OrgId,
    id: DeliveryId,
) -> Result<Option<Delivery>, Failure> {
    let found = statement(one_sql())
        .bind(id.to_bytes().to_vec())
        .bind(org.as_str().to_owned())
        .fetch_optional(conn)
        .await?;
    found.as_ref().map(row::delivery).transpose()
}

pub(crate) async fn existing(
    conn: &mut Conn<'_>,
    org: &OrgId,
    id: DeliveryId,
) -> Result<Delivery, Failure> {
    let found = one(conn, org, id).await?;
    Ok(found.ok_or_else(|| {
        Error::new(Code::DeliveryNotFound, format!("there is no delivery `{id}`; check the id"))
    })?)
}

fn conflict(delivery: &Delivery, wanted: &str) -> Failure {
    let (id, state) = (delivery.id, delivery.state);
    Error::new(
        Code::DeliveryStateConflict,
        format!("delivery `{id}` is {state}; only {wanted} can be taken"),
    )
    .into()
}

async fn repeat(conn: &mut Conn<'_>, replay: &Replay) -> Result<Delivery, Failure> {
    if replay.actor.is_some() {
        resource::lock(conn).await?;
    }
    let old = existing(conn, &replay.org, replay.delivery).await?;
    lane::lock(conn, [old.lane.to_bytes()]).await?;
    event::hold(conn, &replay.org, &[old.event]).await?;
    let old = existing(conn, &replay.org, replay.delivery).await?;
    if let Some(made) = one(conn, &replay.org, replay.id).await? {
        return Ok(made);
    }
    if !old.state.is_final() {
        return Err(conflict(&old, "one that has ended"));
    }
    statement(
        "INSERT INTO icp_delivery (id, org, event, integration, lane, fifo, state, due_at, epoch, \
         tries, throttles, rescues, expires_at, replay_of, created_at, updated_at) \
         SELECT ?1, org, event, integration, lane, fifo, 0, ?2, 0, 0, 0, 0, ?3, id, ?2, ?2 \
         FROM icp_delivery AS old WHERE id = ?4 ON CONFLICT (id) DO NOTHING",
    )
    .bind(replay.id.to_bytes().to_vec())
    .bind(replay.now.as_millis())
    .bind(replay.expires_at.map(Timestamp::as_millis))
    .bind(old.id.to_bytes().to_vec())
    .execute(&mut *conn)
    .await?;
    let mut changes = Changes::default();
    changes.of(old.lane.to_bytes()).wake = true;
    changes.apply(&mut *conn).await?;
    if let Some(note) = replay.note() {
        note::write(&mut *conn, &note?).await?;
    }
    existing(conn, &replay.org, replay.id).await
}

async fn call_off(conn: &mut Conn<'_>, cancel: &Cancel) -> Result<Delivery, Failure> {
    let Cancel { org, delivery: id, reason, now, .. } = cancel;
    let (id, now) = (*id, *now);
    resource::lock(conn).await?;
    let delivery = existing(conn, org, id).await?;
    lane::lock(conn, [delivery.lane.to_bytes()]).await?;
    let mut delivery = existing(conn, org, id).await?;
    if delivery.state != DeliveryState::Ready {
        return Err(conflict(&delivery, "a ready one"));
    }
    let fifo = statement("SELECT fifo FROM icp_delivery WHERE id = ?");
    let fifo: bool = fifo.bind(id.to_bytes()).fetch_one(&mut *conn).await?.try_get(0)?;
    statement(
        "UPDATE icp_delivery SET state = 4, reason_code = ?, reason_message = ?, updated_at = ? \
         WHERE id = ? AND state = 0",
    )
    .bind(reason.code.clone())
    .bind(reason.message.clone())
    .bind(now.as_millis())
    .bind(id.to_bytes())
    .execute(&mut *conn)
    .await?;
    if fifo {
        let mut changes = Changes::default();
        changes.of(delivery.lane.to_bytes()).wake = true;
        changes.apply(&mut *conn).await?;
    }
    note::write(conn, &cancel.note()?).await?;
    delivery.state = DeliveryState::Cancelled;
    delivery.reason = Some(reason.clone());
    delivery.updated_at = now;
    Ok(delivery)
}

/// The statement of a list; its parameters are the organization, the key after which the page
/// starts, the state, the event, the integration and the limit.
pub(crate) fn list_sql(dialect: Dialect, query: &DeliveryQuery) -> String {
    let mut filter = String::new();
    if query.page.after.is_some() {
        filter.push_str(" AND d.id < ?2");
    }
    match query.state {
        // As a literal, so that the index of dead letters is seen to fit.
        Some(DeliveryState::Dead) => filter.push_str(" AND d.state = 3"),
        Some(_) => filter.push_str(" AND d.state = ?3"),
        None => {}
    }
    let tail = "ORDER BY d.id DESC LIMIT +?6";
    let from = if query.event.is_some() {
        filter.push_str(" AND d.event = ?4");
        if query.integration.is_some() {
            filter.push_str(" AND d.integration = ?5");
        }
        "icp_delivery d INDEXED BY icp_delivery_event WHERE d.org = ?1"
    } else if query.integration.is_some() {
        filter.push_str(" AND d.integration = ?5");
        "icp_delivery d INDEXED BY icp_delivery_integration WHERE d.org = ?1"
    } else if query.state == Some(DeliveryState::Dead) {
        "icp_delivery d INDEXED BY icp_delivery_dead WHERE d.org = ?1"
    } else if dialect == Dialect::MySql {
        return format!("SELECT {DELIVERY} FROM ({}) d {tail}", by_state(query, &filter, tail));
    } else if dialect == Dialect::Postgres {
        return format!(
            "SELECT {DELIVERY} FROM (SELECT DISTINCT integration FROM icp_lane WHERE org = ?1) v \
             CROSS JOIN LATERAL (SELECT * FROM icp_delivery d WHERE d.org = ?1 \
             AND d.integration = v.integration {filter} {tail}) d ON true {tail}"
        );
    } else {
        // The newest of each integration, then the newest of those: an index less to write.
        return format!(
            "SELECT {DELIVERY} FROM (SELECT DISTINCT integration FROM icp_lane WHERE org = ?1) v \
             CROSS JOIN icp_delivery d ON d.id IN (SELECT d.id FROM icp_delivery d \
             INDEXED BY icp_delivery_integration WHERE d.org = ?1 \
             AND d.integration = v.integration {filter} {tail}) {tail}"
        );
    };
    format!("SELECT {DELIVERY} FROM {from} {filter} {tail}")
}

/// The newest of each state, as the index of an organization's deliveries begins with these.
fn by_state(query: &DeliveryQuery, filter: &str, tail: &str) -> String {
    let states = DeliveryState::ALL.iter().filter(|state| query.state.is_none_or(|s| s == **state));
    let newest = states.map(|state| {
        let state = row::state_code(*state);
        format!(
            "(SELECT d.* FROM icp_delivery d INDEXED BY icp_delivery_dead WHERE d.org = ?1 \
             AND d.state = {state} {filter} {tail})"
        )
    });
    newest.collect::<Vec<_>>().join(" UNION ALL ")
}

async fn list(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &DeliveryQuery,
) -> Result<Page<Delivery>, Failure> {
    let rows = statement(list_sql(conn.dialect(), query))
        .bind(text(org.as_str()))
        .bind(query.page.after.map(|after| after.to_bytes().to_vec()))
        .bind(query.state.map(row::state_code))
        .bind(query.event.map(|event| event.to_bytes().to_vec()))
        .bind(query.integration.as_ref().map(|integration| text(integration.as_str())))
        .bind(row::more_than(query.page.limit))
        .fetch_all(conn)
        .await?;
    readable(&rows, query.page.limit)
}

/// The page of what can be read. Where nothing can, there would be no place to go on from.
pub(crate) fn readable(rows: &[Row], limit: usize) -> Result<Page<Delivery>, Failure> {
    let mut items = Vec::with_capacity(rows.len());
    let mut fault = None;
    for found in rows.iter().take(limit) {
        match row::delivery(found) {
            Err(failure) if failure.is_corrupt() => fault = Some(failure),
            read => items.push(read?),
        }
    }
    match fault {
        Some(failure) if items.is_empty() => return Err(failure),
        Some(_) => tracing::warn!("deliveries that cannot be read are left out of a list"),
        None => {}
    }
    Ok(Page { items, more: rows.len() > limit })
}

pub(crate) const ATTEMPTS: &str = "SELECT a.delivery, a.epoch, a.number, a.started_at, \
     a.outcome, a.status, a.dns, a.connect, a.first_byte, a.total, a.exchange, a.message, \
     a.transcript \
     FROM icp_delivery d JOIN icp_attempt a ON a.delivery = d.id \
     WHERE d.id = ? AND d.org = ? ORDER BY a.epoch";

async fn attempts(
    conn: &mut Conn<'_>,
    org: &OrgId,
    delivery: DeliveryId,
) -> Result<Vec<Attempt>, Failure> {
    let rows = statement(ATTEMPTS)
        .bind(delivery.to_bytes().to_vec())
        .bind(org.as_str().to_owned())
        .fetch_all(conn)
        .await?;
    rows.iter().map(row::attempt).collect()
}

pub(crate) fn lanes_sql() -> String {
    format!(
        "SELECT {LANE} FROM icp_lane l INDEXED BY icp_lane_list \
         WHERE l.org = ? AND l.id > ? ORDER BY l.id LIMIT +?"
    )
}

async fn lanes(
    conn: &mut Conn<'_>,
    org: &OrgId,
    page: PageQuery<LaneId>,
) -> Result<Page<Lane>, Failure> {
    // No id is empty, so each is greater.
    let after = page.after.map_or(Vec::new(), |after| after.to_bytes().to_vec());
    let rows = statement(lanes_sql())
        .bind(text(org.as_str()))
        .bind(after)
        .bind(row::more_than(page.limit))
        .fetch_all(conn)
        .await?;
    let items = rows.iter().map(row::lane).collect::<Result<_, _>>()?;
    Ok(Page::cut(items, page.limit))
}
