use async_trait::async_trait;
use icp_core::delivery::{
    CancelBatch, CancelPlace, CancelStore, CancelledSome, DeliveryFilter, EndReason, LaneId,
};
use icp_core::error::Result;
use icp_core::id::{DeliveryId, OrgId, ResourceId};
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::error::Failure;
use crate::lane::{self, Changes};
use crate::link::Conn;
use crate::row;
use crate::scope::Scope;
use crate::statement::{Script, Statement, exact, statement, text};
use crate::store::{SqlStore, commit, read};

/// How many lanes a batch looks at, most of which may be empty.
const LANES: i64 = 500;

#[async_trait]
impl<D: Database> CancelStore for SqlStore<D> {
    async fn cancel_some(&self, batch: CancelBatch) -> Result<CancelledSome> {
        match &batch.reason {
            Some(reason) => {
                commit!(self, Scope::Of(&batch.org), "cancel deliveries", |tx| cancel(
                    tx, &batch, reason
                )
                .await)
            }
            None => {
                read!(self, Scope::Of(&batch.org), "count deliveries", |conn| count(conn, &batch)
                    .await)
            }
        }
    }

    async fn leased(&self, org: &OrgId, filter: &DeliveryFilter) -> Result<u64> {
        read!(self, Scope::Of(org), "count leases", |conn| leased(conn, org, filter).await)
    }
}

async fn count(conn: &mut Conn<'_>, batch: &CancelBatch) -> Result<CancelledSome, Failure> {
    let (hits, next) = look(conn, batch).await?;
    Ok(CancelledSome { matched: hits.len() as u64, next })
}

async fn cancel(
    conn: &mut Conn<'_>,
    batch: &CancelBatch,
    reason: &EndReason,
) -> Result<CancelledSome, Failure> {
    let (hits, next) = look(&mut *conn, batch).await?;
    let mut script = Script::default();
    let mut changes = Changes::default();
    lane::lock(conn, hits.iter().map(|hit| hit.lane)).await?;
    for chunk in exact(&hits) {
        script.rows(CANCEL.0, chunk.len(), 1, CANCEL.1);
        script.bind(text(&reason.code)).bind(text(&reason.message)).bind(batch.now.as_millis());
        for hit in chunk {
            script.bind(hit.delivery.to_vec());
        }
    }
    script.expect(hits.len());
    for hit in hits.iter().filter(|hit| hit.ordered) {
        changes.of(hit.lane).wake = true;
    }
    changes.write(&mut script);
    if !script.execute(conn).await? {
        return Err(Failure::Raced);
    }
    Ok(CancelledSome { matched: hits.len() as u64, next })
}

pub(crate) const CANCEL: (&str, &str) = (
    "UPDATE icp_delivery SET state = 4, reason_code = ?, reason_message = ?, updated_at = ? \
     WHERE state = 0 AND id IN (VALUES ",
    ")",
);

/// A delivery that the filter takes.
struct Hit {
    delivery: [u8; 16],
    lane: [u8; 16],
    ordered: bool,
}

/// Looks at the next ready deliveries: those that the filter takes, and where to go on.
async fn look(
    conn: &mut Conn<'_>,
    batch: &CancelBatch,
) -> Result<(Vec<Hit>, Option<CancelPlace>), Failure> {
    let mut hits = Vec::new();
    let mut left = batch.limit;
    let (lanes, all) = lanes(&mut *conn, batch).await?;
    let mut place = None;
    for lane in lanes {
        let end = CancelPlace::end_of(lane.integration.clone(), lane.id);
        if lane.waiting {
            let rows = ready(&mut *conn, batch, &lane, left).await?;
            for (delivery, due_at, hit) in &rows {
                let delivery = DeliveryId::from_bytes(*delivery);
                place = Some(CancelPlace { due_at: *due_at, delivery, ..end.clone() });
                hits.extend(hit.then(|| Hit {
                    delivery: delivery.to_bytes(),
                    lane: lane.id.to_bytes(),
                    ordered: lane.ordered,
                }));
            }
            left -= rows.len();
            if left == 0 {
                return Ok((hits, place));
            }
        }
        place = Some(end);
    }
    Ok((hits, place.filter(|_| !all)))
}

struct Lane {
    id: LaneId,
    integration: ResourceId,
    ordered: bool,
    waiting: bool,
}

/// The statement for lanes; its parameters are the organization, the integration and lane to
/// begin with, and the integration or the lane that is the only one.
pub(crate) fn lanes_sql(filter: &DeliveryFilter, org: &OrgId) -> String {
    let only = if filter.only_lane(org).is_some() {
        "AND l.id = ?5"
    } else if filter.integration.is_some() {
        "AND l.integration = ?4"
    } else {
        ""
    };
    // A lane is found by its own id, many by the index of their organization.
    let index = if filter.only_lane(org).is_some() { "" } else { "INDEXED BY icp_lane_org" };
    format!(
        "SELECT l.id, l.integration, l.fifo, EXISTS (SELECT 1 FROM icp_delivery d \
         WHERE d.lane = l.id AND d.state = 0) FROM icp_lane l {index} WHERE l.org = ?1 \
         AND (l.integration, l.id) >= (?2, ?3) {only} ORDER BY l.integration, l.id LIMIT {LANES}"
    )
}

/// The next lanes, and whether no more follow.
async fn lanes(conn: &mut Conn<'_>, batch: &CancelBatch) -> Result<(Vec<Lane>, bool), Failure> {
    let only = batch.filter.only_lane(&batch.org);
    let (integration, lane) = match &batch.after {
        Some(after) => (after.integration.as_str(), after.lane.to_bytes()),
        None => ("", [0; 16]),
    };
    let sql = lanes_sql(&batch.filter, &batch.org);
    let rows = statement(sql)
        .bind(text(batch.org.as_str()))
        .bind(text(integration))
        .bind(lane.to_vec())
        .bind(batch.filter.integration.as_ref().map(|integration| text(integration.as_str())))
        .bind(only.map(|lane| lane.to_bytes().to_vec()))
        .fetch_all(conn)
        .await?;
    let all = i64::try_from(rows.len()).is_ok_and(|count| count < LANES);
    let lanes = rows.iter().map(|found| {
        Ok(Lane {
            id: LaneId::from_bytes(row::bytes(found, 0)?),
            integration: row::resource_id(found, 1)?,
            ordered: found.try_get(2)?,
            waiting: found.try_get(3)?,
        })
    });
    Ok((lanes.collect::<Result<_, Failure>>()?, all))
}

/// Whether the filter takes a delivery `d`; its parameters are the integration, the bounds of
/// time, and the type.
const TAKES: &str = "(?1 IS NULL OR d.integration = ?1) AND (?2 IS NULL OR d.created_at >= ?2) \
     AND (?3 IS NULL OR d.created_at < ?3) AND (?4 IS NULL OR EXISTS (SELECT 1 FROM icp_event e \
     WHERE e.org = d.org AND e.id = d.event AND e.event_type = ?4))";

pub(crate) fn ready_sql() -> String {
    format!(
        "SELECT d.id, d.due_at, {TAKES} FROM icp_delivery d INDEXED BY icp_delivery_ready \
         WHERE d.state = 0 AND d.lane = ?5 AND (d.due_at, d.id) > (?6, ?7) \
         ORDER BY d.due_at, d.id LIMIT +?8"
    )
}

type Looked = ([u8; 16], Timestamp, bool);

/// The next ready deliveries of a lane, each with whether the filter takes it.
async fn ready(
    conn: &mut Conn<'_>,
    batch: &CancelBatch,
    lane: &Lane,
    limit: usize,
) -> Result<Vec<Looked>, Failure> {
    let after = batch.after.as_ref().filter(|after| after.lane == lane.id);
    let (due_at, delivery) = match after {
        Some(after) => (after.due_at.as_millis(), after.delivery.to_bytes().to_vec()),
        None => (i64::MIN, Vec::new()),
    };
    let rows = taking(statement(ready_sql()), &batch.filter)
        .bind(lane.id.to_bytes().to_vec())
        .bind(due_at)
        .bind(delivery)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|found| Ok((row::bytes(found, 0)?, row::time(found, 1)?, found.try_get(2)?)))
        .collect()
}

/// From the index of leases, as a cluster holds few at a time.
pub(crate) fn leased_sql() -> String {
    format!(
        "SELECT count(*) FROM icp_delivery d INDEXED BY icp_delivery_leased \
         WHERE d.state = 1 AND d.owner > x'' AND d.org = ?5 AND (?6 IS NULL OR d.lane = ?6) \
         AND {TAKES}"
    )
}

async fn leased(conn: &mut Conn<'_>, org: &OrgId, filter: &DeliveryFilter) -> Result<u64, Failure> {
    let found = taking(statement(leased_sql()), filter)
        .bind(text(org.as_str()))
        .bind(filter.only_lane(org).map(|lane| lane.to_bytes().to_vec()))
        .fetch_one(conn)
        .await?;
    Ok(found.try_get::<i64>(0)?.cast_unsigned())
}

/// Binds the parameters of [`TAKES`].
fn taking(query: Statement, filter: &DeliveryFilter) -> Statement {
    query
        .bind(filter.integration.as_ref().map(|integration| text(integration.as_str())))
        .bind(filter.since.map(Timestamp::as_millis))
        .bind(filter.until.map(Timestamp::as_millis))
        .bind(filter.event_type.as_ref().map(|kind| text(kind.as_str())))
}
