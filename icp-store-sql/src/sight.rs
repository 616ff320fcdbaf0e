use async_trait::async_trait;
use icp_core::delivery::health::Meter;
use icp_core::delivery::{LaneBacklog, LaneId, LaneStore, LaneTotals};
use icp_core::error::Result;
use icp_core::id::{OrgId, ResourceId};
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::error::Failure;
use crate::link::Conn;
use crate::rescue::WAITING;
use crate::row::{self, LANE};
use crate::scope::Scope;
use crate::statement::{exact, statement, values};
use crate::store::{SqlStore, read};

#[async_trait]
impl<D: Database> LaneStore for SqlStore<D> {
    async fn backlogs(&self, org: &OrgId, lanes: &[LaneId]) -> Result<Vec<LaneBacklog>> {
        read!(self, Scope::Of(org), "list backlogs", |conn| backlogs(conn, org, lanes).await)
    }

    async fn meters(&self, org: &OrgId) -> Result<Vec<(ResourceId, Meter)>> {
        read!(self, Scope::Of(org), "list meters", |conn| meters(conn, org).await)
    }

    async fn lane_totals(&self, now: Timestamp) -> Result<LaneTotals> {
        read!(self, Scope::Node, "sum up lanes", |conn| totals(conn, now).await)
    }
}

pub(crate) const BACKLOGS: (&str, &str) = (
    "WITH v (id) AS (VALUES ",
    ") SELECT l.id, \
     (SELECT count(*) FROM icp_delivery d WHERE d.lane = l.id AND d.state = 0), \
     (SELECT min(d.due_at) FROM icp_delivery d WHERE d.lane = l.id AND d.state = 0) \
     FROM v CROSS JOIN icp_lane l ON l.id = v.id WHERE l.org = ?",
);

async fn backlogs(
    conn: &mut Conn<'_>,
    org: &OrgId,
    lanes: &[LaneId],
) -> Result<Vec<LaneBacklog>, Failure> {
    let mut backlogs = Vec::new();
    for chunk in exact(lanes) {
        let mut query = values(BACKLOGS.0, chunk.len(), 1, BACKLOGS.1);
        for lane in chunk {
            query.bind(lane.to_bytes().to_vec());
        }
        query.bind(org.shared());
        for found in &query.fetch_all(&mut *conn).await? {
            let Some(first_due) = row::maybe_time(found, 2)? else { continue };
            let lane = LaneId::from_bytes(row::bytes(found, 0)?);
            let waiting = found.try_get::<i64>(1)?.cast_unsigned();
            backlogs.push(LaneBacklog { lane, waiting, first_due });
        }
    }
    Ok(backlogs)
}

pub(crate) const METERS: &str = "SELECT integration, used FROM icp_meter WHERE org = ?";

async fn meters(conn: &mut Conn<'_>, org: &OrgId) -> Result<Vec<(ResourceId, Meter)>, Failure> {
    let rows = statement(METERS).bind(org.as_str().to_owned()).fetch_all(conn).await?;
    rows.iter()
        .map(|found| Ok((row::resource_id(found, 0)?, Meter::from_micros(found.try_get(1)?))))
        .collect()
}

/// Lanes that are ill or wait, each through its index.
pub(crate) fn noted_sql() -> String {
    format!(
        "SELECT {LANE} FROM icp_lane l WHERE l.health IS NOT NULL \
         UNION ALL SELECT {LANE} FROM icp_lane l \
         WHERE l.blocked_until IS NOT NULL AND l.health IS NULL"
    )
}

pub(crate) fn first_due_sql() -> String {
    format!(
        "{WAITING} SELECT min((SELECT min(d.due_at) FROM icp_delivery d WHERE d.lane = o.lane \
         AND d.state = 0)) FROM o"
    )
}

async fn totals(conn: &mut Conn<'_>, now: Timestamp) -> Result<LaneTotals, Failure> {
    let mut totals = LaneTotals::default();
    for found in statement(noted_sql()).fetch_all(&mut *conn).await? {
        totals.count(&row::lane(&found)?, now);
    }
    let found = statement(first_due_sql()).fetch_one(conn).await?;
    totals.first_due = row::maybe_time(&found, 0)?;
    Ok(totals)
}
