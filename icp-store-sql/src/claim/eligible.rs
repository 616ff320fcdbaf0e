//! Lanes that may give something.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use icp_core::delivery::{Claim, Lane};
use icp_core::id::OrgId;
use icp_core::time::Timestamp;

use super::most;
use crate::dialect::Dialect;
use crate::error::Failure;
use crate::lane;
use crate::link::Conn;
use crate::row::{self, LANE, LaneRow};
use crate::statement::{Statement, padded, statement, values};

/// How many lanes claims look at, learned from the last one. A lane that is looked at is locked
/// where others write at the same time, and costs whether anything is taken from it or not.
#[derive(Debug)]
pub(crate) struct Width(AtomicUsize);

impl Width {
    const LEAST: usize = 4;
    const MOST: usize = 256;
    /// The most where others write at the same time, so that other nodes find some too.
    const MOST_LOCKED: usize = 64;

    /// For a claim of `limit` deliveries.
    pub(super) fn lanes(&self, dialect: Dialect, limit: usize) -> usize {
        let most = if dialect.is_shared() { Self::MOST_LOCKED } else { Self::MOST };
        self.0.load(Ordering::Relaxed).min(most).min(limit)
    }

    /// Notes from how many lanes a claim took, and whether it got all that it asked for.
    pub(super) fn learn(&self, used: usize, is_full: bool) {
        let now = self.0.load(Ordering::Relaxed);
        let next = if is_full { used * 2 } else { now * 2 };
        self.0.store(next.clamp(Self::LEAST, Self::MOST), Ordering::Relaxed);
    }
}

impl Default for Width {
    fn default() -> Self {
        Self(AtomicUsize::new(Self::MOST))
    }
}

pub(crate) const ELIGIBLE: &str =
    "runnable = 1 AND paused = 0 AND blocked_until IS NULL AND in_flight < allowed";

/// [`ELIGIBLE`], as the index of such lanes is found by; MySQL keeps it as a column.
pub(super) fn is_eligible(dialect: Dialect) -> &'static str {
    if dialect == Dialect::MySql { "eligible = 1" } else { ELIGIBLE }
}

/// Leaves the organizations out that a claim wants nothing of.
fn but_sql(claim: &Claim) -> String {
    if claim.without.is_empty() {
        return String::new();
    }
    let count = claim.without.len().next_power_of_two();
    format!(" AND org NOT IN (?{})", ", ?".repeat(count - 1))
}

/// `sql`, its first placeholders being those of [`but_sql`].
fn but(sql: &str, claim: &Claim) -> Statement {
    let mut statement = statement(sql.to_owned());
    if let Some(last) = claim.without.last() {
        let count = claim.without.len().next_power_of_two();
        let filled = claim.without.iter().chain(std::iter::repeat(last)).take(count);
        for org in filled {
            statement = statement.bind(org.shared());
        }
    }
    statement
}

/// Lanes that may give something, lowest pass first, with their organization's runnable lanes.
pub(crate) fn eligible_sql(but: &str) -> String {
    format!(
        "WITH p AS MATERIALIZED (SELECT id, org, pass FROM icp_lane \
            INDEXED BY icp_lane_eligible WHERE {ELIGIBLE}{but} \
            ORDER BY pass, id LIMIT +?), \
         o (org, busy) AS MATERIALIZED (SELECT org, (SELECT count(*) FROM icp_lane r \
            WHERE r.org = p.org AND r.runnable = 1 AND r.paused = 0 \
            AND r.blocked_until IS NULL) FROM p GROUP BY org) \
         SELECT json_group_array(json_array({LANE}, (SELECT busy FROM o WHERE o.org = p.org))) \
         FROM p CROSS JOIN icp_lane l ON l.id = p.id"
    )
}

pub(super) async fn eligible(
    conn: &mut Conn<'_>,
    claim: &Claim,
    limit: usize,
) -> Result<Vec<(Lane, u32)>, Failure> {
    if conn.dialect().is_shared() {
        return free(conn, claim, limit).await;
    }
    let found =
        but(&eligible_sql(&but_sql(claim)), claim).bind(most(limit)).fetch_one(&mut *conn).await?;
    let lanes: Vec<(LaneRow<'_>, u32)> = row::array(&found, 0)?;
    let lanes = lanes.into_iter().map(|(lane, busy)| Ok((lane.read()?, busy)));
    let mut lanes = lanes.collect::<Result<Vec<_>, Failure>>()?;
    lanes.sort_by_key(|(lane, _)| (lane.pass, lane.id.to_bytes()));
    Ok(lanes)
}

/// Of so many claims, one waits for lanes that others are busy with.
const WAITS: i64 = 8;

/// Whether a claim waits for lanes that others are busy with. Publishers that keep a lane busy wait
/// for their turn, so claims that never did would not get one.
pub(super) fn waits(now: Timestamp) -> bool {
    now.as_millis() % WAITS == 0
}

/// Eligible lanes that nobody holds; they are locked.
pub(crate) fn free_sql(dialect: Dialect, but: &str) -> String {
    let eligible = is_eligible(dialect);
    format!(
        "SELECT {LANE} FROM icp_lane l INDEXED BY icp_lane_eligible WHERE {eligible}{but} \
         ORDER BY pass, id LIMIT ? FOR UPDATE SKIP LOCKED"
    )
}

pub(crate) fn first_sql(dialect: Dialect, but: &str) -> String {
    let eligible = is_eligible(dialect);
    format!(
        "SELECT id FROM icp_lane INDEXED BY icp_lane_eligible WHERE {eligible}{but} \
         ORDER BY pass, id LIMIT 1"
    )
}

/// Waits for the eligible lane that goes first.
async fn wait_for_first(conn: &mut Conn<'_>, claim: &Claim) -> Result<bool, Failure> {
    let found =
        but(&first_sql(conn.dialect(), &but_sql(claim)), claim).fetch_optional(&mut *conn).await?;
    let Some(found) = found else { return Ok(false) };
    lane::lock(conn, [row::bytes(&found, 0)?]).await?;
    Ok(true)
}

async fn unlocked(conn: &mut Conn<'_>, claim: &Claim, limit: usize) -> Result<Vec<Lane>, Failure> {
    let free = but(&free_sql(conn.dialect(), &but_sql(claim)), claim).bind(most(limit));
    free.fetch_all(conn).await?.iter().map(row::lane).collect()
}

pub(crate) const BUSY: (&str, &str) = (
    "SELECT org, count(*) FROM icp_lane \
     WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL AND org IN (VALUES ",
    ") GROUP BY org",
);

/// As [`eligible`], but only lanes that no other node is busy with; they are locked.
async fn free(
    conn: &mut Conn<'_>,
    claim: &Claim,
    limit: usize,
) -> Result<Vec<(Lane, u32)>, Failure> {
    let waited = waits(claim.now) && wait_for_first(conn, claim).await?;
    let mut lanes = unlocked(conn, claim, limit).await?;
    if lanes.is_empty() && !waited && wait_for_first(conn, claim).await? {
        lanes = unlocked(conn, claim, limit).await?;
    }
    let orgs: BTreeSet<OrgId> = lanes.iter().map(|lane| lane.org.clone()).collect();
    let orgs: Vec<OrgId> = orgs.into_iter().collect();
    let mut busy: HashMap<OrgId, u32> = HashMap::new();
    for chunk in padded(&orgs) {
        let mut query = values(BUSY.0, chunk.len(), 1, BUSY.1);
        for org in chunk {
            query.bind(org.shared());
        }
        for found in query.fetch_all(&mut *conn).await? {
            busy.insert(row::org(&found, 0)?, found.try_get(1)?);
        }
    }
    let busy = |lane: &Lane| busy.get(&lane.org).copied().unwrap_or(1);
    Ok(lanes.into_iter().map(|lane| (busy(&lane), lane)).map(|(busy, lane)| (lane, busy)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_looks_at_what_the_last_one_needed() {
        let width = Width::default();
        let lanes =
            |limit| (width.lanes(Dialect::Sqlite, limit), width.lanes(Dialect::Postgres, limit));
        assert_eq!(lanes(1_000), (Width::MOST, Width::MOST_LOCKED));
        assert_eq!(lanes(10), (10, 10), "no more lanes than deliveries");
        width.learn(3, true);
        assert_eq!(lanes(1_000), (6, 6));
        width.learn(1, true);
        assert_eq!(lanes(1_000), (Width::LEAST, Width::LEAST));
        for expected in [8, 16, 32, 64, 128, 256, 256] {
            width.learn(2, false);
            assert_eq!(lanes(1_000), (expected, expected.min(Width::MOST_LOCKED)));
        }
    }
}
