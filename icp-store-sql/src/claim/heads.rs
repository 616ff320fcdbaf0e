//! What waits at the front of lanes.

use std::collections::HashMap;

use icp_core::delivery::{Delivery, Lane, LaneMode};

use super::most;
use crate::dialect::Dialect;
use crate::error::Failure;
use crate::link::Conn;
use crate::row::{self, DELIVERY, DeliveryRow};
use crate::statement::{padded, statement, values};

/// Which of a lane's ready deliveries go, and in which order.
pub(crate) const PARALLEL: (&str, &str) = ("", "q.due_at, q.id");
pub(crate) const FIFO: (&str, &str) = ("AND q.fifo = 1", "q.id");

pub(crate) const HEADS: &str = "WITH v (id) AS (VALUES ";

pub(crate) fn heads_sql(dialect: Dialect, (only, order): (&str, &str)) -> String {
    let queue = format!(
        "FROM icp_delivery q WHERE q.lane = v.id AND q.state = 0 {only} ORDER BY {order} LIMIT ?"
    );
    let join = match dialect {
        Dialect::Sqlite => format!("icp_delivery d ON d.id IN (SELECT q.id {queue})"),
        _ => format!("LATERAL (SELECT * {queue}) d ON true"),
    };
    format!(
        ") SELECT json_group_array({DELIVERY}) FROM (SELECT DISTINCT id FROM v) AS v \
         CROSS JOIN {join}"
    )
}

/// The first `depth` ready deliveries of each lane, in the order in which they go.
pub(super) async fn heads(
    conn: &mut Conn<'_>,
    lanes: &[(Lane, u32)],
    depth: usize,
) -> Result<HashMap<[u8; 16], Vec<Delivery>>, Failure> {
    let mut heads: HashMap<_, Vec<Delivery>> = HashMap::new();
    for (mode, order) in [(LaneMode::Parallel, PARALLEL), (LaneMode::Fifo, FIFO)] {
        let lanes: Vec<&Lane> = lanes.iter().map(|(l, _)| l).filter(|l| l.mode == mode).collect();
        for delivery in waiting(conn, &lanes, order, most(depth)).await? {
            heads.entry(delivery.lane.to_bytes()).or_default().push(delivery);
        }
        for lane in lanes {
            let Some(queue) = heads.get_mut(&lane.id.to_bytes()) else { continue };
            match mode {
                LaneMode::Parallel => queue.sort_unstable_by_key(|d| (d.due_at, d.id)),
                LaneMode::Fifo => queue.sort_unstable_by_key(|d| d.id),
            }
        }
    }
    Ok(heads)
}

/// The first `depth` ready deliveries of each lane.
async fn waiting(
    conn: &mut Conn<'_>,
    lanes: &[&Lane],
    order: (&str, &str),
    depth: i64,
) -> Result<Vec<Delivery>, Failure> {
    if conn.dialect() == Dialect::MySql {
        return queues(conn, lanes, order, depth).await;
    }
    let mut waiting = Vec::new();
    let tail = heads_sql(conn.dialect(), order);
    for chunk in padded(lanes) {
        let mut query = values(HEADS, chunk.len(), 1, &tail);
        for lane in chunk {
            query.bind(lane.id.to_bytes().to_vec());
        }
        query.bind(depth);
        let found = query.fetch_one(&mut *conn).await?;
        for delivery in row::array::<DeliveryRow<'_>>(&found, 0)? {
            waiting.push(delivery.read()?);
        }
    }
    Ok(waiting)
}

/// As [`waiting`], where no table can be joined with the first rows of another.
async fn queues(
    conn: &mut Conn<'_>,
    lanes: &[&Lane],
    (only, order): (&str, &str),
    depth: i64,
) -> Result<Vec<Delivery>, Failure> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let queue = format!(
        "SELECT {DELIVERY} FROM (SELECT * FROM icp_delivery q WHERE q.lane = ? AND q.state = 0 \
         {only} ORDER BY {order} LIMIT ?) d"
    );
    let mut query = statement(vec![queue; lanes.len()].join(" UNION ALL "));
    for lane in lanes {
        query = query.bind(lane.id.to_bytes()).bind(depth);
    }
    query.fetch_all(conn).await?.iter().map(row::delivery).collect()
}
