pub(crate) mod prune;

use std::collections::{BTreeMap, BTreeSet};

use icp_core::delivery::health::Pace;
use icp_core::delivery::{Lane, LaneId};
use icp_core::id::{OrgId, ResourceId, SessionId};
use icp_core::time::Timestamp;
use serde_json::value::RawValue;

use crate::error::Failure;
use crate::link::Conn;
use crate::row::{self, Hex, LANE, LaneRow, rules_text};
use crate::statement::{Script, exact, padded, statement, values};

/// What settled or rescued leases do to their lanes.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<[u8; 16], Change>);

#[derive(Debug, Default)]
pub(crate) struct Change {
    /// How many leases ended.
    pub(crate) freed: i64,
    /// Whether a delivery is due now.
    pub(crate) wake: bool,
    /// When the earliest of the others gets due.
    pub(crate) due: Option<i64>,
    /// Until when the receiver asked to wait.
    pub(crate) block: Option<i64>,
    /// How many deliveries ended, and in which minute.
    ended: i64,
    minute: i64,
    /// Whether the change holds for a lane in good health only.
    pub(crate) if_well: bool,
}

impl Change {
    /// Notes a delivery that is ready from `due` on.
    pub(crate) fn ready(&mut self, due: Timestamp, now: Timestamp) {
        if due <= now {
            self.wake = true;
        } else {
            let due = due.as_millis();
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    pub(crate) fn end(&mut self, now: Timestamp) {
        self.ended += 1;
        self.minute = Pace::minute_of(now);
    }

    pub(crate) fn block(&mut self, until: Timestamp) {
        self.block = self.block.max(Some(until.as_millis()));
    }
}

impl Changes {
    pub(crate) fn of(&mut self, lane: [u8; 16]) -> &mut Change {
        self.0.entry(lane).or_default()
    }

    pub(crate) async fn apply(&self, conn: &mut Conn<'_>) -> Result<(), Failure> {
        let mut script = Script::default();
        self.write(&mut script);
        script.execute(conn).await?;
        Ok(())
    }

    /// Adds to `script` what [`apply`](Self::apply) does.
    pub(crate) fn write(&self, script: &mut Script) {
        let changes: Vec<_> = self.0.iter().collect();
        for chunk in padded(&changes) {
            script.rows(APPLY.0, chunk.len(), 8, APPLY.1);
            for (lane, change) in chunk {
                script
                    .bind(lane.to_vec())
                    .bind(change.freed)
                    .bind(change.wake)
                    .bind(change.due)
                    .bind(change.block)
                    .bind(change.ended)
                    .bind(change.minute)
                    .bind(change.if_well);
            }
        }
        script.expect(changes.len());
    }
}

/// The lowest pass of all lanes that can be claimed from, as the statements that need it say it.
pub(crate) const FLOOR: &str = "(SELECT min(pass) FROM icp_lane \
    WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL)";

pub(crate) const APPLY: (&str, &str) = (
    "UPDATE icp_lane AS l SET
        in_flight = MAX(0, l.in_flight - v.column2),
        pass = CASE WHEN v.column3 = 1 AND l.runnable = 0
            THEN MAX(l.pass, coalesce((SELECT min(pass) FROM icp_lane \
                WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL), l.pass))
            ELSE l.pass END,
        next_due = CASE WHEN l.runnable = 1 OR v.column3 = 1 THEN NULL
            ELSE MIN(coalesce(l.next_due, v.column4), coalesce(v.column4, l.next_due)) END,
        runnable = MAX(l.runnable, v.column3),
        blocked_until = MAX(coalesce(l.blocked_until, v.column5), coalesce(v.column5, l.blocked_until)),
        pace_before = CASE WHEN v.column7 <= l.pace_minute THEN l.pace_before
            WHEN v.column7 = l.pace_minute + 1 THEN l.pace_ended ELSE 0 END,
        pace_ended = CASE WHEN v.column7 <= l.pace_minute THEN l.pace_ended ELSE 0 END + v.column6,
        pace_minute = MAX(l.pace_minute, v.column7)
     FROM (VALUES ",
    ") AS v WHERE l.id = v.column1 AND (l.health IS NULL OR v.column8 = 0)",
);

pub(crate) const LOCK: &str = "SELECT id FROM icp_lane WHERE id IN (VALUES ";

/// Locks lanes, in the order of their ids, before anything of them or of their deliveries is
/// read to be changed. Whoever changes deliveries holds the lock of their lane, so nothing read
/// under it changes before the transaction ends.
pub(crate) async fn lock(
    conn: &mut Conn<'_>,
    lanes: impl IntoIterator<Item = [u8; 16]>,
) -> Result<Locked, Failure> {
    if !conn.dialect().is_shared() {
        return Ok(Locked(None));
    }
    let lanes: BTreeSet<[u8; 16]> = lanes.into_iter().collect();
    let lanes: Vec<_> = lanes.into_iter().collect();
    let mut locked = BTreeSet::new();
    let tail = format!(") ORDER BY id{}", conn.dialect().for_update());
    for chunk in padded(&lanes) {
        let mut query = values(LOCK, chunk.len(), 1, &tail);
        for id in chunk {
            query.bind(*id);
        }
        for found in query.fetch_all(&mut *conn).await? {
            locked.insert(row::bytes(&found, 0)?);
        }
    }
    Ok(Locked(Some(locked)))
}

/// Lanes whose lock is held until the transaction ends; all where nobody else writes.
#[derive(Debug)]
pub(crate) struct Locked(Option<BTreeSet<[u8; 16]>>);

impl Locked {
    fn holds(&self, lane: &[u8; 16]) -> bool {
        self.0.as_ref().is_none_or(|locked| locked.contains(lane))
    }
}

/// As [`lock`], for the lanes of an integration or of a whole organization.
pub(crate) async fn lock_of(
    conn: &mut Conn<'_>,
    org: &OrgId,
    integration: Option<&ResourceId>,
) -> Result<(), Failure> {
    if !conn.dialect().is_shared() {
        return Ok(());
    }
    let mut locked = statement("SELECT id FROM icp_lane WHERE org = ");
    locked.push_bind(org.shared());
    if let Some(integration) = integration {
        locked.push(" AND integration = ").push_bind(integration.shared());
    }
    locked.push(" ORDER BY id FOR UPDATE");
    locked.fetch_all(conn).await?;
    Ok(())
}

pub(crate) fn parallel_sql() -> String {
    format!("SELECT {LANE} FROM icp_lane l WHERE l.org = ? AND l.integration = ? AND l.fifo = 0")
}

pub(crate) const WIDEN: &str = "UPDATE icp_lane SET max_in_flight = ?, allowed = ? WHERE id = ?";

/// Lets the parallel lanes of an integration lease up to `max_in_flight`.
pub(crate) async fn widen(
    conn: &mut Conn<'_>,
    org: &OrgId,
    integration: &ResourceId,
    max_in_flight: u32,
) -> Result<(), Failure> {
    lock_of(conn, org, Some(integration)).await?;
    let found = statement(parallel_sql()).bind(org.shared()).bind(integration.shared());
    for found in found.fetch_all(&mut *conn).await? {
        let mut lane = row::lane(&found)?;
        lane.max_in_flight = max_in_flight;
        let widen = statement(WIDEN).bind(max_in_flight).bind(lane.allowed());
        widen.bind(lane.id.to_bytes()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// A lane as a write sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The lane, where it exists.
    pub(crate) lane: Option<Lane>,
    /// How many runnable lanes the organization has.
    pub(crate) runnable: u32,
    /// The lowest pass of all runnable lanes.
    pub(crate) floor: Option<i64>,
}

pub(crate) const LOOK_UP: &str = "WITH v (id, org) AS (VALUES ";

pub(crate) fn look_up_sql() -> String {
    format!(
        "), o (org, busy) AS MATERIALIZED (SELECT org, (SELECT count(*) FROM icp_lane r \
            WHERE r.org = v.org AND r.runnable = 1 AND r.paused = 0 \
            AND r.blocked_until IS NULL) FROM v GROUP BY org) \
         SELECT (SELECT min(pass) FROM icp_lane \
            WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL), \
         EXISTS (SELECT 1 FROM icp_session WHERE id = ?), \
         json_group_array(json_array(hex(v.id), (SELECT busy FROM o WHERE o.org = v.org), \
            CASE WHEN l.id IS NULL THEN 0 ELSE 1 END, {LANE})) \
         FROM v LEFT JOIN icp_lane l ON l.id = v.id"
    )
}

/// Looks up lanes with what is needed to charge them, and whether `session` is known.
///
/// A lane that was made since `locked` were is not among them, and may change until it is charged:
/// then the transaction has raced, and finds it the next time.
pub(crate) async fn look_up(
    conn: &mut Conn<'_>,
    lanes: &[(LaneId, OrgId)],
    locked: &Locked,
    session: Option<SessionId>,
) -> Result<(Vec<(LaneId, Seen)>, bool), Failure> {
    let mut seen = Vec::with_capacity(lanes.len());
    let mut known = false;
    for chunk in padded(lanes) {
        let mut query = values(LOOK_UP, chunk.len(), 2, &look_up_sql());
        for (id, org) in chunk {
            query.bind(id.to_bytes().to_vec()).bind(org.shared());
        }
        query.bind(session.map(|session| session.to_bytes().to_vec()));
        let found = query.fetch_one(&mut *conn).await?;
        let floor = found.try_get(0)?;
        known = found.try_get(1)?;
        let rows: Vec<(Hex, u32, u8, &RawValue)> = row::array(&found, 2)?;
        for (id, runnable, exists, lane) in rows {
            let lane = (exists == 1).then(|| serde_json::from_str::<LaneRow<'_>>(lane.get()));
            let lane = lane.transpose()?.map(LaneRow::read).transpose()?;
            let id = id.some()?;
            if lane.is_some() && !locked.holds(&id) {
                return Err(Failure::Raced);
            }
            seen.push((LaneId::from_bytes(id), Seen { lane, runnable, floor }));
        }
    }
    Ok((seen, known))
}

/// Writes what changes of lanes that exist.
pub(crate) fn charge(script: &mut Script, lanes: &[Lane]) {
    for chunk in padded(lanes) {
        script.rows(CHARGE.0, chunk.len(), 6, CHARGE.1);
        for lane in chunk {
            script
                .bind(lane.id.to_bytes().to_vec())
                .bind(lane.pass)
                .bind(lane.runnable)
                .bind(lane.next_due.map(Timestamp::as_millis))
                .bind(lane.in_flight)
                .bind(lane.blocked_until.map(Timestamp::as_millis));
        }
    }
    script.expect(lanes.len());
}

pub(crate) const CHARGE: (&str, &str) = (
    "WITH v (id, pass, runnable, next_due, in_flight, blocked) AS (VALUES ",
    ") UPDATE icp_lane AS l SET pass = v.pass, runnable = v.runnable, next_due = v.next_due, \
     in_flight = v.in_flight, blocked_until = v.blocked FROM v WHERE l.id = v.id",
);

/// Writes new lanes, at rest where there is a reason.
pub(crate) fn put(script: &mut Script, lanes: &[Lane]) -> Result<(), Failure> {
    for chunk in exact(lanes) {
        script.rows(PUT.0, chunk.len(), 14, PUT.1);
        for lane in chunk {
            script
                .bind(lane.id.to_bytes().to_vec())
                .bind(lane.org.shared())
                .bind(lane.integration.shared())
                .bind(lane.order_key.clone())
                .bind(lane.mode == icp_core::delivery::LaneMode::Fifo)
                .bind(lane.weight)
                .bind(lane.pass)
                .bind(lane.runnable)
                .bind(lane.next_due.map(Timestamp::as_millis))
                .bind(lane.in_flight)
                .bind(lane.max_in_flight)
                .bind(lane.blocked_until.map(Timestamp::as_millis))
                .bind(lane.allowed())
                .bind(rules_text(&lane.rules)?);
        }
    }
    script.expect(lanes.len());
    Ok(())
}

pub(crate) const PUT: (&str, &str) = (
    "WITH v (id, org, integration, order_key, fifo, weight, pass, runnable, next_due, in_flight, \
     max_in_flight, blocked_until, allowed, rules) AS (VALUES ",
    ") INSERT INTO icp_lane (id, org, integration, order_key, fifo, weight, pass, runnable, \
     next_due, in_flight, max_in_flight, blocked_until, allowed, rules, paused) SELECT v.*, \
     (SELECT coalesce(sum(r.why), 0) FROM icp_rest r WHERE r.org = v.org \
        AND r.integration IN (v.integration, '')) FROM v WHERE true ON CONFLICT (id) DO NOTHING",
);
