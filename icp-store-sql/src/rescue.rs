use icp_core::delivery::{DeliveryState, Rescue, RescueOf, Rescued, Sweep, Swept};
use icp_core::id::{DeliveryId, OrgId};
use icp_core::time::Timestamp;

use crate::claim::unreadable;
use crate::error::Failure;
use crate::lane::{self, Changes};
use crate::link::{Conn, Row};
use crate::row;
use crate::statement::{Script, exact, statement};

pub(crate) const FORGET: &str = "DELETE FROM icp_session WHERE id = ?";
pub(crate) const OWNED: &str =
    "SELECT id, lane, rescues, org, epoch FROM icp_delivery WHERE state = 1 AND owner = ? LIMIT +?";
/// Goes from owner to owner through the index of leases, so live sessions' leases cost nothing.
pub(crate) const ORPHANS: &str = "WITH RECURSIVE o (owner) AS (\
        SELECT (SELECT owner FROM icp_delivery WHERE state = 1 AND owner > x'' ORDER BY owner LIMIT 1) \
        UNION ALL SELECT (SELECT owner FROM icp_delivery WHERE state = 1 AND owner > o.owner \
            ORDER BY owner LIMIT 1) \
        FROM o WHERE o.owner IS NOT NULL) \
     SELECT d.id, d.lane, d.rescues, d.org, d.epoch FROM o CROSS JOIN icp_delivery d \
     ON d.state = 1 AND d.owner = o.owner WHERE d.lease_until < ? \
     AND NOT EXISTS (SELECT 1 FROM icp_session s WHERE s.id = o.owner) LIMIT +?";

fn limit(rescue: &Rescue) -> i64 {
    i64::try_from(rescue.limit).unwrap_or(i64::MAX)
}

/// Leases of sessions that are not known, which were to end before a moment.
pub(crate) async fn orphans(
    conn: &mut Conn<'_>,
    rescue: &Rescue,
    before: Timestamp,
) -> Result<Vec<Row>, Failure> {
    statement(ORPHANS).bind(before.as_millis()).bind(limit(rescue)).fetch_all(conn).await
}

pub(crate) async fn rescue(conn: &mut Conn<'_>, rescue: &Rescue) -> Result<Vec<Rescued>, Failure> {
    let leased = match rescue.of {
        RescueOf::Session(session) => {
            let id = session.to_bytes().to_vec();
            let forget = statement(FORGET).bind(id.clone());
            forget.execute(&mut *conn).await?;
            statement(OWNED).bind(id).bind(limit(rescue)).fetch_all(&mut *conn).await?
        }
        RescueOf::Orphans { before } => orphans(&mut *conn, rescue, before).await?,
    };
    let mut changes = Changes::default();
    let (mut rescued, mut unreadable) = (Vec::new(), Vec::new());
    lane::lock(conn, leased.iter().filter_map(|found| row::bytes(found, 1).ok())).await?;
    for found in &leased {
        let lease = match Leased::read(found) {
            Err(failure) if failure.is_corrupt() => {
                unreadable.push(row::delivery_name(found, 0)?);
                let id: &[u8] = found.try_get(0)?;
                unreadable::end_leased(conn, id, rescue.now).await?;
                if let Ok(lane) = row::bytes(found, 1) {
                    let change = changes.of(lane);
                    change.freed += 1;
                    change.wake = true;
                }
                continue;
            }
            read => read?,
        };
        let poison = lease.rescues.saturating_add(1) >= rescue.max_rescues;
        let state = if poison { DeliveryState::Dead } else { DeliveryState::Ready };
        release(conn, (lease.delivery, lease.epoch), state, rescue).await?;
        let change = changes.of(lease.lane);
        change.freed += 1;
        change.wake |= !poison;
        let delivery = DeliveryId::from_bytes(lease.delivery);
        rescued.push(Rescued { delivery, org: lease.org, state });
    }
    changes.apply(conn).await?;
    unreadable::tell(&unreadable);
    Ok(rescued)
}

/// A row of [`OWNED`] or [`ORPHANS`].
struct Leased {
    delivery: [u8; 16],
    lane: [u8; 16],
    rescues: u32,
    org: OrgId,
    epoch: u32,
}

impl Leased {
    fn read(found: &Row) -> Result<Self, Failure> {
        Ok(Self {
            delivery: row::bytes(found, 0)?,
            lane: row::bytes(found, 1)?,
            rescues: found.try_get(2)?,
            org: row::org(found, 3)?,
            epoch: found.try_get(4)?,
        })
    }
}

pub(crate) const RELEASE: &str = "UPDATE icp_delivery SET state = ?, rescues = rescues + 1, \
     owner = NULL, lease_until = NULL, due_at = CASE WHEN ? = 1 THEN due_at ELSE ? END, \
     reason_code = coalesce(?, reason_code), reason_message = coalesce(?, reason_message), \
     updated_at = ? WHERE id = ? AND epoch = ? AND state = 1";

async fn release(
    conn: &mut Conn<'_>,
    (delivery, epoch): ([u8; 16], u32),
    state: DeliveryState,
    rescue: &Rescue,
) -> Result<(), Failure> {
    let dead = state == DeliveryState::Dead;
    let released = statement(RELEASE)
        .bind(row::state_code(state))
        .bind(dead)
        .bind(rescue.now.as_millis())
        .bind(dead.then_some("poison"))
        .bind(dead.then_some("its leases ended without an outcome too often"))
        .bind(rescue.now.as_millis())
        .bind(delivery)
        .bind(epoch)
        .execute(conn)
        .await?;
    if released == 1 { Ok(()) } else { Err(Failure::Raced) }
}

/// A lane that would look neither now nor in time, with `?` for the moment.
pub(crate) const ASLEEP: &str = "l.runnable = 0 AND CASE WHEN l.fifo = 1 \
     THEN (SELECT d.due_at FROM icp_delivery d WHERE d.lane = l.id AND d.state = 0 \
        AND d.fifo = 1 AND l.in_flight = 0 ORDER BY d.id LIMIT 1) \
     ELSE (SELECT min(d.due_at) FROM icp_delivery d WHERE d.lane = l.id AND d.state = 0) END \
     <= MIN(?, coalesce(l.next_due, 9223372036854775807) - 1)";

pub(crate) const OVER: &str = "SELECT id, lane, fifo FROM icp_delivery \
     WHERE state = 0 AND expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT +?";
pub(crate) const EXPIRE: (&str, &str) =
    ("UPDATE icp_delivery SET state = 6, updated_at = ? WHERE state = 0 AND id IN (VALUES ", ")");

/// Lanes with ready deliveries, from one to the next through their index.
pub(crate) const WAITING: &str = "WITH RECURSIVE o (lane) AS (\
        SELECT (SELECT lane FROM icp_delivery WHERE state = 0 AND lane > x'' ORDER BY lane LIMIT 1) \
        UNION ALL SELECT (SELECT lane FROM icp_delivery WHERE state = 0 AND lane > o.lane \
            ORDER BY lane LIMIT 1) \
        FROM o WHERE o.lane IS NOT NULL)";

pub(crate) fn asleep_sql() -> String {
    format!(
        "{WAITING} \
         SELECT l.id FROM o CROSS JOIN icp_lane l ON l.id = o.lane WHERE {ASLEEP} LIMIT +?"
    )
}

pub(crate) async fn sweep(conn: &mut Conn<'_>, sweep: &Sweep) -> Result<Swept, Failure> {
    let limit = i64::try_from(sweep.limit).unwrap_or(i64::MAX);
    let now = sweep.now.as_millis();
    let expired = statement(OVER).bind(now).bind(limit).fetch_all(&mut *conn).await?;
    let mut changes = Changes::default();
    let (mut lanes, mut ids) = (Vec::new(), Vec::new());
    for found in &expired {
        ids.push(row::bytes(found, 0)?);
        lanes.push(row::bytes(found, 1)?);
        // Those behind the head of a fifo lane had no moment of their own to wake it.
        if found.try_get(2)? {
            changes.of(row::bytes(found, 1)?).wake = true;
        }
    }
    lane::lock(conn, lanes).await?;
    expire(conn, &ids, now).await?;
    changes.apply(conn).await?;
    let asleep = statement(asleep_sql()).bind(now).bind(limit).fetch_all(&mut *conn).await?;
    let mut changes = Changes::default();
    for found in &asleep {
        changes.of(row::bytes(found, 0)?).wake = true;
    }
    changes.apply(conn).await?;
    Ok(Swept { expired: expired.len() as u64, woken: asleep.len() as u64 })
}

/// Ends deliveries that were ready before their lanes were locked.
async fn expire(conn: &mut Conn<'_>, ids: &[[u8; 16]], now: i64) -> Result<(), Failure> {
    let mut script = Script::default();
    for chunk in exact(ids) {
        script.rows(EXPIRE.0, chunk.len(), 1, EXPIRE.1);
        script.bind(now);
        for id in chunk {
            script.bind(*id);
        }
    }
    script.expect(ids.len());
    if script.execute(conn).await? { Ok(()) } else { Err(Failure::Raced) }
}
