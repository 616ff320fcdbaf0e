//! Lanes that sleep or rest, and when they are awake again.

use icp_core::delivery::{Claim, Claimed};
use icp_core::error::{Code, Error};
use icp_core::time::Timestamp;

use super::eligible::{is_eligible, waits};
use crate::dialect::Dialect;
use crate::error::Failure;
use crate::link::Conn;
use crate::row;
use crate::statement::{padded, statement, values};

pub(crate) const SLEEPERS: &str = "SELECT EXISTS (SELECT 1 FROM icp_session WHERE id = ?), \
     (SELECT min(next_due) FROM icp_lane WHERE next_due IS NOT NULL), \
     (SELECT min(blocked_until) FROM icp_lane WHERE blocked_until IS NOT NULL)";

/// What to do with lanes one of whose moments has come, and which moment.
type Turn = (&'static str, &'static str);

/// What rested was not a claim to more later: it goes on where the others are by then.
pub(crate) const UNBLOCK: Turn = (
    "UPDATE icp_lane SET blocked_until = NULL, \
     pass = MAX(pass, coalesce((SELECT min(pass) FROM icp_lane WHERE runnable = 1 \
     AND paused = 0 AND blocked_until IS NULL), pass)) WHERE ",
    "blocked_until <= ?",
);
pub(crate) const WAKE: Turn = (
    "UPDATE icp_lane SET runnable = 1, next_due = NULL, \
     pass = MAX(pass, coalesce((SELECT min(pass) FROM icp_lane WHERE runnable = 1 \
     AND paused = 0 AND blocked_until IS NULL), pass)) WHERE ",
    "next_due <= ?",
);
/// How many lanes are turned on at once where others write at the same time, those first whose
/// moment is the earliest.
const TURNS: i64 = 256;

/// Turns on lanes whose moment has come. Those that another node is busy with are left to it,
/// mostly.
async fn turn(conn: &mut Conn<'_>, turn: Turn, now: Timestamp) -> Result<(), Failure> {
    let (change, come) = turn;
    if !conn.dialect().is_shared() {
        statement(format!("{change}{come}")).bind(now.as_millis()).execute(conn).await?;
        return Ok(());
    }
    let skip = if waits(now) { "" } else { " SKIP LOCKED" };
    let moment = come.trim_end_matches(" <= ?");
    let first = format!("SELECT id FROM icp_lane WHERE {come} ORDER BY {moment} LIMIT {TURNS}");
    let free = format!("SELECT l.id FROM icp_lane l WHERE l.id IN (SELECT v.id FROM ({first}) v)");
    let found = statement(format!("{free} AND l.{come} ORDER BY l.id FOR UPDATE{skip}"))
        .bind(now.as_millis())
        .bind(now.as_millis())
        .fetch_all(&mut *conn)
        .await?;
    let ids = found.iter().map(|found| row::bytes(found, 0)).collect::<Result<Vec<_>, _>>()?;
    let head = format!("{change}id IN (VALUES ");
    for chunk in padded(&ids) {
        let mut query = values(&head, chunk.len(), 1, ")");
        for id in chunk {
            query.bind(*id);
        }
        query.changes(&mut *conn).await?;
    }
    Ok(())
}

pub(super) async fn turn_on(conn: &mut Conn<'_>, claim: &Claim) -> Result<(), Failure> {
    let found =
        statement(SLEEPERS).bind(claim.session.to_bytes().to_vec()).fetch_one(&mut *conn).await?;
    if !found.try_get::<bool>(0)? {
        return Err(Error::new(
            Code::LeaseLost,
            "the session is not known any more; open a new one before claiming",
        )
        .into());
    }
    let over = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= claim.now);
    if over(row::maybe_time(&found, 2)?) {
        turn(conn, UNBLOCK, claim.now).await?;
    }
    if over(row::maybe_time(&found, 1)?) {
        turn(conn, WAKE, claim.now).await?;
    }
    Ok(())
}

/// Whether the session is known, whether a lane may give something now, and when the next wakes.
pub(crate) fn look_sql(dialect: Dialect) -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM icp_session WHERE id = ?), {}, {WAKES}",
        some_eligible(dialect)
    )
}

/// Looks for something to claim; answers as a claim that finds nothing does, where there is none.
pub(crate) async fn look(conn: &mut Conn<'_>, claim: &Claim) -> Result<Option<Claimed>, Failure> {
    let look = statement(look_sql(conn.dialect())).bind(claim.session.to_bytes());
    let found = look.fetch_one(conn).await?;
    let (known, eligible): (bool, bool) = (found.try_get(0)?, found.try_get(1)?);
    let next_due = row::maybe_time(&found, 2)?;
    let nothing = known && !eligible && next_due.is_none_or(|due| due > claim.now);
    Ok(nothing.then(|| Claimed { next_due, ..Claimed::default() }))
}

fn some_eligible(dialect: Dialect) -> String {
    let eligible = is_eligible(dialect);
    format!("EXISTS (SELECT 1 FROM icp_lane INDEXED BY icp_lane_eligible WHERE {eligible})")
}

/// Each by its index: in its order up to the first, and of those that are blocked.
const WAKES: &str = "(SELECT min(at) FROM (\
       SELECT (SELECT next_due FROM icp_lane INDEXED BY icp_lane_due \
         WHERE next_due IS NOT NULL AND paused = 0 AND blocked_until IS NULL \
         ORDER BY next_due LIMIT 1) AS at \
       UNION ALL SELECT min(MAX(blocked_until, coalesce(next_due, 0))) FROM icp_lane \
         INDEXED BY icp_lane_blocked WHERE blocked_until IS NOT NULL AND paused = 0 \
         AND (runnable = 1 OR next_due IS NOT NULL)) v)";

/// When the next lane wakes; `None` where one may give something now.
pub(crate) fn next_due_sql(dialect: Dialect) -> String {
    format!("SELECT CASE WHEN {} THEN NULL ELSE {WAKES} END", some_eligible(dialect))
}

pub(super) async fn next_due(conn: &mut Conn<'_>) -> Result<Option<Timestamp>, Failure> {
    let found = statement(next_due_sql(conn.dialect())).fetch_one(conn).await?;
    row::maybe_time(&found, 0)
}
