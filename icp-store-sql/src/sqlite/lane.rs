use std::collections::BTreeMap;

use icp_core::delivery::{Lane, LaneId};
use icp_core::id::OrgId;
use icp_core::time::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::error::Failure;
use super::row::{self, LANE};
use super::statement::{padded, values};

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

    pub(crate) fn block(&mut self, until: Timestamp) {
        self.block = self.block.max(Some(until.as_millis()));
    }
}

impl Changes {
    pub(crate) fn of(&mut self, lane: [u8; 16]) -> &mut Change {
        self.0.entry(lane).or_default()
    }

    pub(crate) async fn apply(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        let changes: Vec<_> = self.0.iter().collect();
        for chunk in padded(&changes) {
            let mut query = values(APPLY.0, chunk.len(), 5, APPLY.1);
            for (lane, change) in chunk {
                query = query
                    .bind(lane.to_vec())
                    .bind(change.freed)
                    .bind(change.wake)
                    .bind(change.due)
                    .bind(change.block);
            }
            query.execute(&mut *conn).await?;
        }
        Ok(())
    }
}

pub(crate) const APPLY: (&str, &str) = (
    "UPDATE icp_lane AS l SET
        in_flight = max(0, l.in_flight - v.column2),
        pass = CASE WHEN v.column3 AND NOT l.runnable
            THEN max(l.pass, coalesce((SELECT min(pass) FROM icp_lane WHERE runnable = 1), l.pass))
            ELSE l.pass END,
        runnable = max(l.runnable, v.column3),
        next_due = CASE WHEN l.runnable OR v.column3 THEN NULL
            ELSE min(coalesce(l.next_due, v.column4), coalesce(v.column4, l.next_due)) END,
        blocked_until = max(coalesce(l.blocked_until, v.column5), coalesce(v.column5, l.blocked_until))
     FROM (VALUES ",
    ") AS v WHERE l.id = v.column1",
);

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

/// Looks up lanes with what is needed to charge them.
pub(crate) async fn look_up(
    conn: &mut SqliteConnection,
    lanes: &[(LaneId, OrgId)],
) -> Result<Vec<(LaneId, Seen)>, Failure> {
    let mut seen = Vec::with_capacity(lanes.len());
    for chunk in padded(lanes) {
        let tail = format!(
            ") SELECT v.id, {LANE}, (SELECT min(pass) FROM icp_lane WHERE runnable = 1), \
             (SELECT count(*) FROM icp_lane r WHERE r.org = v.org AND r.runnable = 1) \
             FROM v LEFT JOIN icp_lane l ON l.id = v.id"
        );
        let mut query = values("WITH v (id, org) AS (VALUES ", chunk.len(), 2, &tail);
        for (id, org) in chunk {
            query = query.bind(id.to_bytes().to_vec()).bind(org.as_str().to_owned());
        }
        for found in query.fetch_all(&mut *conn).await? {
            let exists = found.try_get::<Option<&[u8]>, _>(1)?.is_some();
            let lane = exists.then(|| row::lane(&found, 1)).transpose()?;
            let id = LaneId::from_bytes(row::bytes(&found, 0)?);
            let (floor, runnable) = (found.try_get(14)?, found.try_get(15)?);
            seen.push((id, Seen { lane, runnable, floor }));
        }
    }
    Ok(seen)
}

/// Writes lanes as they are, new ones included.
pub(crate) async fn put(conn: &mut SqliteConnection, lanes: &[Lane]) -> Result<(), Failure> {
    for chunk in padded(lanes) {
        let mut query = values(PUT.0, chunk.len(), 13, PUT.1);
        for lane in chunk {
            query = query
                .bind(lane.id.to_bytes().to_vec())
                .bind(lane.org.as_str().to_owned())
                .bind(lane.integration.as_str().to_owned())
                .bind(lane.order_key.as_deref().map(str::to_owned))
                .bind(lane.mode == icp_core::delivery::LaneMode::Fifo)
                .bind(lane.weight)
                .bind(lane.pass)
                .bind(lane.runnable)
                .bind(lane.next_due.map(Timestamp::as_millis))
                .bind(lane.in_flight)
                .bind(lane.max_in_flight)
                .bind(lane.blocked_until.map(Timestamp::as_millis))
                .bind(lane.paused);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

const PUT: (&str, &str) = (
    "INSERT INTO icp_lane (id, org, integration, order_key, fifo, weight, pass, runnable, \
     next_due, in_flight, max_in_flight, blocked_until, paused) VALUES ",
    " ON CONFLICT (id) DO UPDATE SET pass = excluded.pass, runnable = excluded.runnable, \
     next_due = excluded.next_due, in_flight = excluded.in_flight, \
     blocked_until = excluded.blocked_until",
);
