use std::collections::HashSet;

use icp_core::delivery::{
    Attempt, DeliveryState, LaneId, Lease, Next, Renew, Settle, Settled, Settlement,
};
use icp_core::time::Timestamp;

use crate::aside;
use crate::dialect::Dialect;
use crate::error::{Failure, corrupt};
use crate::health::Health;
use crate::lane::{self, Changes};
use crate::link::Conn;
use crate::outbox;
use crate::row::{self, Hex};
use crate::statement::{Script, fitted, padded, text, values};

// A sum is compared where ids are at hand, to keep databases off the index of all leases, which has
// many dead entries.

/// What nearly all leases come to, at a third of the placeholders.
pub(crate) const DELIVERED: (&str, &str) = (
    "UPDATE OR FAIL icp_delivery SET state = ?, updated_at = ?, owner = NULL, lease_until = NULL, \
     reason_code = NULL, reason_message = NULL WHERE state + 0 = 1 AND (id, epoch, lane) IN (VALUES ",
    ")",
);

/// As [`DELIVERED`], for MySQL, whose planner weighs each row of such a list against each other.
pub(crate) const DELIVERED_JOINED: (&str, &str) = (
    "WITH v (id, epoch, lane) AS (VALUES ",
    ") UPDATE OR FAIL icp_delivery AS d SET state = ?, updated_at = ?, owner = NULL, \
     lease_until = NULL, reason_code = NULL, reason_message = NULL \
     FROM v WHERE d.id = v.id AND d.epoch = v.epoch AND d.state + 0 = 1 AND d.lane = v.lane",
);

pub(crate) const SETTLE: (&str, &str) = (
    "WITH v (id, epoch, lane, state, due_at, refund, throttle, code, message) AS (VALUES ",
    ") UPDATE OR FAIL icp_delivery AS d SET state = v.state, due_at = coalesce(v.due_at, d.due_at),
        tries = MAX(0, d.tries - v.refund), throttles = d.throttles + v.throttle,
        reason_code = v.code, reason_message = v.message,
        owner = NULL, lease_until = NULL, updated_at = ?
     FROM v WHERE d.id = v.id AND d.epoch = v.epoch AND d.state + 0 = 1 AND d.lane = v.lane",
);

/// Ends all the leases, or none and answers nothing: the count tells that each was held, which
/// spares looking before.
pub(crate) async fn all(
    conn: &mut Conn<'_>,
    settle: &Settle,
    health: &Health<'_>,
) -> Result<Option<Vec<Settled>>, Failure> {
    let settlements = settle.latest();
    let count = settle.settlements.len();
    if settlements.len() < count {
        return Ok(None);
    }
    lock(conn, &settlements).await?;
    let script = end(conn, &settlements, settle.now, health).await?;
    if !script.execute(conn).await? {
        return Ok(None);
    }
    Ok(Some(vec![Settled::Recorded; count]))
}

/// Ends the leases that still hold.
pub(crate) async fn each(
    conn: &mut Conn<'_>,
    settle: &Settle,
    health: &Health<'_>,
) -> Result<Vec<Settled>, Failure> {
    let mut settlements = settle.latest();
    lock(conn, &settlements).await?;
    let mut held = held(conn, &settlements).await?;
    settlements.retain(|settlement| held.contains(&settlement.lease.delivery.to_bytes()));
    if !end(conn, &settlements, settle.now, health).await?.execute(conn).await? {
        return Err(corrupt("a lane is missing, or an attempt was recorded before").into());
    }
    let latest: HashSet<Lease> = settlements.iter().map(|settlement| settlement.lease).collect();
    let answers = settle.settlements.iter().map(|settlement| {
        let id = settlement.lease.delivery.to_bytes();
        let won = latest.contains(&settlement.lease) && held.remove(&id);
        if won { Settled::Recorded } else { Settled::Stale }
    });
    Ok(answers.collect())
}

/// Locks the lanes that the settlements change.
async fn lock(conn: &mut Conn<'_>, settlements: &[&Settlement]) -> Result<(), Failure> {
    let lanes = settlements.iter().flat_map(|settlement| {
        let beside = match &settlement.next {
            Next::StepAside { lane, .. } => Some(lane.id),
            _ => None,
        };
        [Some(settlement.lane), beside].into_iter().flatten()
    });
    lane::lock(conn, lanes.map(LaneId::to_bytes)).await.map(drop)
}

pub(crate) const HELD: (&str, &str) = (
    "WITH v (id, epoch, lane) AS (VALUES ",
    ") SELECT json_group_array(hex(d.id)) FROM v CROSS JOIN icp_delivery d ON d.id = v.id \
     AND d.epoch = v.epoch AND d.lane = v.lane AND d.state + 0 = 1",
);

/// The deliveries whose leases still hold.
async fn held(
    conn: &mut Conn<'_>,
    settlements: &[&Settlement],
) -> Result<HashSet<[u8; 16]>, Failure> {
    let mut held = HashSet::with_capacity(settlements.len());
    for chunk in padded(settlements) {
        let mut query = values(HELD.0, chunk.len(), 3, HELD.1);
        for settlement in &chunk {
            bind_lease(&mut query, settlement);
        }
        let found = query.fetch_one(&mut *conn).await?;
        for id in row::array::<Hex>(&found, 0)? {
            held.insert(id.some()?);
        }
    }
    Ok(held)
}

/// Ends the leases that hold, with all that follows from it.
async fn end(
    conn: &mut Conn<'_>,
    settlements: &[&Settlement],
    now: Timestamp,
    health: &Health<'_>,
) -> Result<Script, Failure> {
    let mut script = Script::default();
    let (aside, settled): (Vec<&Settlement>, Vec<&Settlement>) = settlements
        .iter()
        .partition(|settlement| matches!(settlement.next, Next::StepAside { .. }));
    aside::write(&mut script, &aside, now);
    let (delivered, others): (Vec<&Settlement>, Vec<&Settlement>) =
        settled.into_iter().partition(|settlement| matches!(settlement.next, Next::Delivered));
    deliver(&mut script, conn.dialect(), &delivered, now);
    for chunk in padded(&others) {
        script.rows(SETTLE.0, chunk.len(), 9, SETTLE.1);
        for settlement in chunk {
            let (due, refund, throttle) = match &settlement.next {
                Next::Retry { due_at, .. } => (Some(*due_at), false, false),
                Next::Refund { due_at, throttled } => (Some(*due_at), true, *throttled),
                _ => (None, false, false),
            };
            let reason = settlement.next.reason();
            bind_lease(&mut script, settlement);
            script
                .bind(row::state_code(settlement.next.state()))
                .bind(due.map(Timestamp::as_millis))
                .bind(refund)
                .bind(throttle)
                .bind(reason.map(|reason| text(&reason.code)))
                .bind(reason.map(|reason| text(&reason.message)));
        }
        script.bind(now.as_millis());
    }
    script.expect(settlements.len());
    follow(&mut script, settlements, now, health)?;
    health.write(conn, &mut script, settlements, now).await?;
    Ok(script)
}

fn deliver(script: &mut Script, dialect: Dialect, delivered: &[&Settlement], now: Timestamp) {
    let state = row::state_code(DeliveryState::Delivered);
    let joined = dialect == Dialect::MySql;
    let (head, tail) = if joined { DELIVERED_JOINED } else { DELIVERED };
    for chunk in padded(delivered) {
        script.rows(head, chunk.len(), 3, tail);
        if !joined {
            script.bind(state).bind(now.as_millis());
        }
        for settlement in chunk {
            bind_lease(script, settlement);
        }
        if joined {
            script.bind(state).bind(now.as_millis());
        }
    }
}

/// Adds to `script` what follows from leases that end: their attempts, and what it means to their
/// lanes.
fn follow(
    script: &mut Script,
    settlements: &[&Settlement],
    now: Timestamp,
    health: &Health<'_>,
) -> Result<(), Failure> {
    let mut changes = Changes::default();
    let mut attempts = Vec::with_capacity(settlements.len());
    for settlement in settlements {
        let change = changes.of(settlement.lane.to_bytes());
        change.freed += 1;
        change.if_well |= health.is_assumed() && settlement.attempt.is_some();
        if settlement.next.state().is_final() {
            change.end(now);
        }
        if let Next::Retry { due_at, .. } | Next::Refund { due_at, .. } = settlement.next {
            change.ready(due_at, now);
        }
        if let Some(until) = settlement.block_lane_until {
            change.block(until);
        }
        if let Next::StepAside { due_at, lane, .. } = &settlement.next {
            changes.of(lane.id.to_bytes()).ready(*due_at, now);
        }
        attempts.extend(settlement.attempt.as_ref().map(|attempt| (*settlement, attempt)));
        if let Some(notice) = &settlement.notice {
            outbox::put(script, notice);
        }
    }
    record(script, &attempts)?;
    changes.write(script);
    Ok(())
}

fn bind_lease(script: &mut Script, settlement: &Settlement) {
    script
        .bind(settlement.lease.delivery.to_bytes().to_vec())
        .bind(settlement.lease.epoch)
        .bind(settlement.lane.to_bytes().to_vec());
}

pub(crate) const RECORD: (&str, &str) = (
    "INSERT OR FAIL INTO icp_attempt (delivery, epoch, number, started_at, outcome, status, dns, \
     connect, first_byte, total, exchange, message, transcript) VALUES ",
    " ON CONFLICT (delivery, epoch) DO NOTHING",
);

fn record(script: &mut Script, attempts: &[(&Settlement, &Attempt)]) -> Result<(), Failure> {
    let micros = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    for chunk in fitted(attempts) {
        script.rows(RECORD.0, chunk.len(), 13, RECORD.1);
        for (settlement, attempt) in chunk {
            let timings = &attempt.timings;
            let exchange = attempt.exchange.as_deref().map(serde_json::to_string).transpose()?;
            let told = attempt.transcript.as_deref().map(serde_json::to_string).transpose()?;
            script
                .bind(settlement.lease.delivery.to_bytes().to_vec())
                .bind(settlement.lease.epoch)
                .bind(attempt.number)
                .bind(attempt.started_at.as_millis())
                .bind(serde_json::to_string(&attempt.outcome)?)
                .bind(attempt.status)
                .bind(timings.dns.map(micros))
                .bind(timings.connect.map(micros))
                .bind(timings.first_byte.map(micros))
                .bind(micros(timings.total))
                .bind(exchange)
                .bind(attempt.message.clone())
                .bind(told);
        }
    }
    script.expect(attempts.len());
    Ok(())
}

pub(crate) const RENEW: (&str, &str) = (
    "WITH v (id, epoch, until) AS (VALUES ",
    ") UPDATE icp_delivery AS d SET lease_until = v.until FROM v \
     WHERE d.id = v.id AND d.epoch = v.epoch AND d.state + 0 = 1",
);

pub(crate) const KEPT: (&str, &str) = (
    "WITH v (id, epoch) AS (VALUES ",
    ") SELECT d.id, d.epoch FROM v CROSS JOIN icp_delivery d ON d.id = v.id \
     AND d.epoch = v.epoch AND d.state + 0 = 1",
);

/// Extends the leases that still hold; answers the others.
pub(crate) async fn renew(conn: &mut Conn<'_>, renew: &Renew) -> Result<Vec<Lease>, Failure> {
    let mut script = Script::default();
    for chunk in padded(&renew.leases) {
        script.rows(RENEW.0, chunk.len(), 3, RENEW.1);
        for lease in chunk {
            script.bind(lease.delivery.to_bytes()).bind(lease.epoch).bind(renew.until.as_millis());
        }
    }
    script.execute(conn).await?;
    let mut kept = HashSet::new();
    for chunk in padded(&renew.leases) {
        let mut query = values(KEPT.0, chunk.len(), 2, KEPT.1);
        for lease in chunk {
            query.bind(lease.delivery.to_bytes()).bind(lease.epoch);
        }
        for row in query.fetch_all(&mut *conn).await? {
            kept.insert((row::bytes(&row, 0)?, row.try_get::<u32>(1)?));
        }
    }
    let lost = |lease: &&Lease| !kept.contains(&(lease.delivery.to_bytes(), lease.epoch));
    Ok(renew.leases.iter().filter(lost).copied().collect())
}
